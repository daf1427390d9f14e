package idempotency_test

import (
	"encoding/hex"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

func fingerprint(m proto.Message) string {
	return hex.EncodeToString(idempotency.FingerprintOf(apiKey, m))
}

// TestFingerprintIsStable compares with a value of version 1. Replicas of other builds have records
// with such values, so a change of the value needs another version.
func TestFingerprintIsStable(t *testing.T) {
	for _, test := range []struct {
		name    string
		message proto.Message
		want    string
	}{
		{"an empty request", &transferv1.CreateTransferRequest{}, "0151022af58428971ad857b561490241574de55e65b3c8a28884eaab2964cc8b00"},
		{"a transfer", transferOf("1"), "015d6c92f47a7d9486da28f362f982ffa4d75d82d61dd14aa164f423913a7dafb8"},
	} {
		if got := fingerprint(test.message); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestFingerprintIsThatOfTheContent: two requests have the same fingerprint if and only if they are
// equal, for requests of all methods of the contract.
func TestFingerprintIsThatOfTheContent(t *testing.T) {
	methods := contract.Methods()
	equal, other := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		method := rapid.SampledFrom(methods).Draw(t, "method")
		request := meshtest.Valid(t, method.Descriptor.Input())
		wire, err := proto.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		again := request.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(wire, again); err != nil {
			t.Fatal(err)
		}
		if fingerprint(request) != fingerprint(again) {
			t.Error("equal requests have different fingerprints")
		}
		another := meshtest.Valid(t, method.Descriptor.Input())
		same := proto.Equal(request, another)
		if (fingerprint(request) == fingerprint(another)) != same {
			t.Errorf("equal %t, same fingerprint %t\n%v\n%v", same, !same, request, another)
		}
		if same {
			equal++
		} else {
			other++
		}
	})
	if equal == 0 || other == 0 {
		t.Errorf("%d pairs were equal, %d were not", equal, other)
	}
}

func TestFingerprintTellsApart(t *testing.T) {
	unknown := transferOf("1")
	unknown.ProtoReflect().SetUnknown([]byte{0xf8, 0x07, 0x01})
	for _, test := range []struct {
		name string
		a, b proto.Message
		same bool
	}{
		{"another value", transferOf("1"), transferOf("2"), false},
		{"a value in another field", &transferv1.Transfer{From: "x"}, &transferv1.Transfer{To: "x"}, false},
		{"a boundary between fields", &transferv1.Transfer{From: "ab", To: "c"}, &transferv1.Transfer{From: "a", To: "bc"}, false},
		{"an empty message that is set", &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{}}, &transferv1.CreateTransferRequest{}, false},
		{"an unknown field", transferOf("1"), unknown, false},
		{"the order of a list", &transferv1.Transfer{Owners: []string{"a", "b"}}, &transferv1.Transfer{Owners: []string{"b", "a"}}, false},
		{"a boundary in a list", &transferv1.Transfer{Owners: []string{"ab", "c"}}, &transferv1.Transfer{Owners: []string{"a", "bc"}}, false},
		{"equal maps", mapOf(t, "a", "b", "c", "d"), mapOf(t, "d", "c", "b", "a"), true},
		{"another map", mapOf(t, "a", "b"), mapOf(t, "a", "c"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if same := fingerprint(test.a) == fingerprint(test.b); same != test.same {
				t.Errorf("same fingerprint: %t", same)
			}
		})
	}
	if string(idempotency.FingerprintOf("another key", transferOf("1"))) == string(idempotency.FingerprintOf(apiKey, transferOf("1"))) {
		t.Error("the fingerprint does not depend on the API key, so a reader of the store can guess requests")
	}
}

// mapOf returns a message with a map, which the contract does not have.
func mapOf(t *testing.T, keys ...string) proto.Message {
	t.Helper()
	values := make(map[string]any)
	for _, key := range keys {
		values[key] = 1.5
	}
	m, err := structpb.NewStruct(values)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
