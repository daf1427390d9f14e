package wirejson_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wirejson"
	accountreportv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/reporting/account_report/v1"
	instrumentv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/studio/instrument/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

// replies are the messages that the contract answers with, each once.
func replies() []protoreflect.MessageDescriptor {
	var all []protoreflect.MessageDescriptor
	for _, method := range contract.Methods() {
		if !slices.Contains(all, method.Descriptor.Output()) {
			all = append(all, method.Descriptor.Output())
		}
	}
	return all
}

// reference is what proto.Unmarshal and protojson make of wire bytes.
func reference(t fataler, message protoreflect.MessageDescriptor, wire []byte, mask map[protoreflect.FieldNumber]any) ([]byte, error) {
	var m proto.Message = dynamicpb.NewMessage(message)
	if linked, err := protoregistry.GlobalTypes.FindMessageByName(message.FullName()); err == nil {
		m = linked.New().Interface()
	}
	if err := proto.Unmarshal(wire, m); err != nil {
		return nil, err
	}
	if _, err := protojson.Marshal(m); err != nil {
		return nil, err // what the mask leaves out is checked too
	}
	prune(m.ProtoReflect(), mask)
	body, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, body); err != nil {
		t.Fatal(err)
	}
	return compact.Bytes(), nil
}

type fataler interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

// prune clears what a mask leaves out. A nil mask is all of the message.
func prune(message protoreflect.Message, mask map[protoreflect.FieldNumber]any) {
	if mask == nil {
		return
	}
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		within, kept := mask[field.Number()]
		inner, _ := within.(map[protoreflect.FieldNumber]any)
		switch {
		case !kept:
			message.Clear(field)
		case inner == nil:
		case field.IsList():
			for i := range value.List().Len() {
				prune(value.List().Get(i).Message(), inner)
			}
		default:
			prune(value.Message(), inner)
		}
		return true
	})
}

// compare wants the same verdict and the same JSON.
func compare(t fataler, types *wirejson.Types, message protoreflect.MessageDescriptor, wire []byte, mask map[protoreflect.FieldNumber]any) {
	compiled := types.Of(message)
	if !compiled.Supported() {
		t.Fatalf("%s is not supported", message.FullName())
	}
	want, wantErr := reference(t, message, wire, mask)
	got, err := compiled.Append(nil, wire, compile(t, compiled, message, mask))
	switch {
	case (err == nil) != (wantErr == nil):
		t.Fatalf("%s of %x: error %v, want %v", message.FullName(), wire, err, wantErr)
	case err == nil && !bytes.Equal(got, want):
		t.Fatalf("%s of %x:\n got %s\nwant %s", message.FullName(), wire, got, want)
	}
}

func compile(t fataler, compiled *wirejson.Type, message protoreflect.MessageDescriptor, mask map[protoreflect.FieldNumber]any) *wirejson.Mask {
	if mask == nil {
		return nil
	}
	out := compiled.Mask()
	for number, within := range mask {
		var inner *wirejson.Mask
		if fields, ok := within.(map[protoreflect.FieldNumber]any); ok && fields != nil {
			inner = compile(t, compiled.Message(number), message.Fields().ByNumber(number).Message(), fields)
		}
		if err := compiled.Keep(out, number, inner); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// drawMask draws a mask, nil now and then.
func drawMask(t *rapid.T, message protoreflect.MessageDescriptor, depth int) map[protoreflect.FieldNumber]any {
	if rapid.IntRange(0, 3).Draw(t, "whole") == 0 || depth > 3 {
		return nil
	}
	mask := make(map[protoreflect.FieldNumber]any)
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		if rapid.Bool().Draw(t, "keep") {
			continue
		}
		mask[field.Number()] = nil
		if inner := field.Message(); inner != nil && inner.FullName() != "google.protobuf.Timestamp" {
			if within := drawMask(t, inner, depth+1); within != nil {
				mask[field.Number()] = within
			}
		}
	}
	return mask
}

// draw draws a message with values that the rules of the contract would not admit.
func draw(t *rapid.T, descriptor protoreflect.MessageDescriptor, depth int) *dynamicpb.Message {
	message := dynamicpb.NewMessage(descriptor)
	if descriptor.FullName() == "google.protobuf.Timestamp" {
		message.Set(descriptor.Fields().ByName("seconds"), protoreflect.ValueOfInt64(
			rapid.OneOf(rapid.Int64Range(-62135596801, 253402300800), rapid.SampledFrom([]int64{0, -62135596800, 253402300799})).Draw(t, "seconds")))
		message.Set(descriptor.Fields().ByName("nanos"), protoreflect.ValueOfInt32(
			rapid.OneOf(rapid.Int32Range(0, 999_999_999), rapid.SampledFrom([]int32{0, 1, 1000, 1_000_000, 500_000_000, -1, 1_000_000_000})).Draw(t, "nanos")))
		return message
	}
	for i := range descriptor.Fields().Len() {
		field := descriptor.Fields().Get(i)
		if depth > 4 || !rapid.Bool().Draw(t, "set") {
			continue
		}
		if !field.IsList() {
			message.Set(field, value(t, field, depth))
			continue
		}
		list := message.NewField(field).List()
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			list.Append(value(t, field, depth))
		}
		message.Set(field, protoreflect.ValueOfList(list))
	}
	return message
}

func value(t *rapid.T, field protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return protoreflect.ValueOfMessage(draw(t, field.Message(), depth+1))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(rapid.OneOf(rapid.Int32Range(-1, 30), rapid.Int32()).Draw(t, "enum")))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(rapid.OneOf(rapid.Int32(), rapid.SampledFrom([]int32{0, math.MinInt32, math.MaxInt32})).Draw(t, "int32"))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(rapid.OneOf(rapid.Uint32(), rapid.SampledFrom([]uint32{0, math.MaxUint32})).Draw(t, "uint32"))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, math.MaxUint64})).Draw(t, "uint64"))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes"))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, math.MinInt64, math.MaxInt64})).Draw(t, "int64"))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("a\"\\/\x00\x1f\x7f\b\f\n\r\t<>&é\u2028\uFFFD🙂")))).Draw(t, "string"))
	}
	panic("no generator for " + field.Kind().String())
}

// TestAppendIsProtojson compares random messages of each reply type.
func TestAppendIsProtojson(t *testing.T) {
	var types wirejson.Types
	for _, message := range replies() {
		t.Run(string(message.Name()), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(draw(t, message, 0))
				if err != nil {
					t.Fatal(err)
				}
				compare(t, &types, message, wire, drawMask(t, message, 0))
			})
		})
	}
}

// everyKind is a message with fields of every kind that this package writes: implicit, optional, in a
// oneof, and lists, packed and not.
func everyKind(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	message := &descriptorpb.DescriptorProto{Name: new("EveryKind"), OneofDecl: []*descriptorpb.OneofDescriptorProto{{Name: new("one")}}}
	add := func(kind protoreflect.Kind, change func(*descriptorpb.FieldDescriptorProto)) {
		number := int32(len(message.GetField()) + 1)
		field := &descriptorpb.FieldDescriptorProto{
			Name: new(fmt.Sprintf("field_%d", number)), Number: &number,
			Type: descriptorpb.FieldDescriptorProto_Type(kind).Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		switch kind {
		case protoreflect.EnumKind:
			field.TypeName = new(".test.Enum")
		case protoreflect.MessageKind:
			field.TypeName = new(".test.EveryKind")
		}
		change(field)
		message.Field = append(message.Field, field)
	}
	repeated := func(packed bool) func(*descriptorpb.FieldDescriptorProto) {
		return func(field *descriptorpb.FieldDescriptorProto) {
			field.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
			field.Options = &descriptorpb.FieldOptions{Packed: &packed}
		}
	}
	kinds := []protoreflect.Kind{
		protoreflect.BoolKind, protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Uint32Kind, protoreflect.Int64Kind,
		protoreflect.Sint64Kind, protoreflect.Uint64Kind, protoreflect.Sfixed32Kind, protoreflect.Fixed32Kind, protoreflect.Sfixed64Kind,
		protoreflect.Fixed64Kind, protoreflect.EnumKind, protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind,
	}
	for _, kind := range kinds {
		add(kind, func(field *descriptorpb.FieldDescriptorProto) { field.OneofIndex = new(int32(0)) })
	}
	for _, kind := range kinds {
		add(kind, func(*descriptorpb.FieldDescriptorProto) {})
		if kind != protoreflect.StringKind && kind != protoreflect.BytesKind && kind != protoreflect.MessageKind {
			add(kind, repeated(true))
		}
		add(kind, repeated(false))
	}
	for _, kind := range []protoreflect.Kind{protoreflect.Int32Kind, protoreflect.StringKind} {
		add(kind, func(field *descriptorpb.FieldDescriptorProto) {
			message.OneofDecl = append(message.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: new("_" + field.GetName())})
			field.OneofIndex, field.Proto3Optional = new(int32(len(message.GetOneofDecl())-1)), new(true)
		})
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("test/every_kind.proto"), Package: new("test"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{message},
		EnumType: []*descriptorpb.EnumDescriptorProto{{Name: new("Enum"), Value: []*descriptorpb.EnumValueDescriptorProto{
			{Name: new("ZERO"), Number: new(int32(0))}, {Name: new("NEGATIVE"), Number: new(int32(-1))}, {Name: new("LARGE"), Number: new(int32(1000))},
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().Get(0)
}

// TestAppendOfEveryKind compares random messages with fields that the contract has no reply with.
func TestAppendOfEveryKind(t *testing.T) {
	var types wirejson.Types
	message := everyKind(t)
	rapid.Check(t, func(t *rapid.T) {
		wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(draw(t, message, 3))
		if err != nil {
			t.Fatal(err)
		}
		compare(t, &types, message, wire, nil)
	})
}

// TestAppendOfMutatedWire compares what is made of wire bytes that were changed: one
// message after another, which merges them, parts left out or doubled, and bytes
// replaced.
func TestAppendOfMutatedWire(t *testing.T) {
	var types wirejson.Types
	messages := append(replies(), everyKind(t))
	rapid.Check(t, func(t *rapid.T) {
		message := rapid.SampledFrom(messages).Draw(t, "message")
		wire, err := proto.Marshal(draw(t, message, 2))
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 3).Draw(t, "mutations") {
			at := rapid.IntRange(0, len(wire)).Draw(t, "at")
			to := rapid.IntRange(at, len(wire)).Draw(t, "to")
			switch rapid.IntRange(0, 4).Draw(t, "mutation") {
			case 0:
				other, err := proto.Marshal(draw(t, message, 2))
				if err != nil {
					t.Fatal(err)
				}
				wire = append(wire, other...)
			case 1:
				wire = slices.Delete(slices.Clone(wire), at, to)
			case 2:
				wire = slices.Insert(slices.Clone(wire), at, wire[at:to]...)
			case 3:
				wire = slices.Insert(slices.Clone(wire), at, rapid.SliceOfN(rapid.Byte(), 1, 4).Draw(t, "bytes")...)
			case 4:
				if at < len(wire) {
					wire[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
				}
			}
		}
		compare(t, &types, message, wire, drawMask(t, message, 0))
	})
}

// TestAppendOfMessagesInParts has wire forms that protobuf allows and serializers do not
// write.
func TestAppendOfMessagesInParts(t *testing.T) {
	message := (&accountreportv1.AccountReport{}).ProtoReflect().Descriptor()
	field := func(number protowire.Number, value ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), value)
	}
	var types wirejson.Types
	for i := range message.Fields().Len() {
		described := message.Fields().Get(i)
		if described.Message() == nil || described.IsList() {
			continue
		}
		for name, parts := range map[string][][]byte{
			"two parts":                       {field(described.Number(), 0x0a, 0x01, 'a'), field(described.Number(), 0x12, 0x01, 'b')},
			"three parts":                     {field(described.Number(), 0x08, 0x01), field(described.Number()), field(described.Number(), 0x08, 0x02)},
			"a part that is cut off":          {field(described.Number(), 0x0a), field(described.Number(), 0x01, 'a')},
			"a part with nanoseconds below 0": {field(described.Number(), append([]byte{0x10}, protowire.AppendVarint(nil, math.MaxUint64)...)...), field(described.Number(), 0x10, 0x00)},
		} {
			t.Run(string(described.Name())+", "+name, func(t *testing.T) {
				compare(t, &types, message, slices.Concat(parts...), nil)
			})
		}
	}
}

// FuzzAppend compares arbitrary wire bytes of the reply types.
func FuzzAppend(f *testing.F) {
	messages := replies()
	var types wirejson.Types
	for i, message := range messages {
		example := rapid.Custom(func(t *rapid.T) []byte {
			rapid.Bool().Draw(t, "a draw, since some messages have no field")
			wire, err := proto.Marshal(draw(t, message, 1))
			if err != nil {
				t.Fatal(err)
			}
			return wire
		})
		for seed := range 3 {
			f.Add(uint8(i), example.Example(seed))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, wire []byte) {
		compare(t, &types, messages[int(which)%len(messages)], wire, nil)
	})
}

// accounts is a list of n accounts in wire form.
func accounts(t testing.TB, n int) (protoreflect.MessageDescriptor, []byte) {
	t.Helper()
	for _, message := range replies() {
		if message.Name() != "ListAccountsResponse" {
			continue
		}
		field := message.Fields().ByName("accounts")
		account := rapid.Custom(func(t *rapid.T) []byte {
			m := draw(t, field.Message(), 3)
			m.Clear(field.Message().Fields().ByName("live_data_retrieved_at")) // may be out of range
			wire, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			return wire
		})
		var wire []byte
		for i := range n {
			wire = protowire.AppendBytes(protowire.AppendTag(wire, field.Number(), protowire.BytesType), account.Example(i%8))
		}
		return message, wire
	}
	t.Fatal("the contract has no list of accounts")
	return nil, nil
}

type pieces struct {
	bytes.Buffer
	largest, count int
}

func (p *pieces) Write(data []byte) (int, error) {
	p.largest, p.count = max(p.largest, len(data)), p.count+1
	return p.Buffer.Write(data)
}

func TestWriteSendsPieces(t *testing.T) {
	var types wirejson.Types
	message, wire := accounts(t, 2000)
	compiled := types.Of(message)
	want, err := compiled.Append(nil, wire, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got pieces
	if err := compiled.Write(&got, wire, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("the pieces are not the whole")
	}
	if got.count < 4 || got.largest > wirejson.PieceSize*3/2 {
		t.Errorf("%d bytes came in %d pieces of at most %d", len(want), got.count, got.largest)
	}
}

func TestNothingIsAllocatedForAnElement(t *testing.T) {
	var types wirejson.Types
	message, wire := accounts(t, 1000)
	compiled := types.Of(message)
	out, err := compiled.Append(nil, wire, nil)
	if err != nil {
		t.Fatal(err)
	}
	limit := 1.0
	if raceDetector {
		limit = 10 // its pools drop what they hold at random, so that a writer is made anew
	}
	if n := testing.AllocsPerRun(20, func() { _, _ = compiled.Append(out[:0], wire, nil) }); n > limit {
		t.Errorf("%v allocations for 1,000 accounts", n)
	}
}

// typicalAccounts returns the reply with a number of accounts as clients have them.
func typicalAccounts(b *testing.B, n int) []byte {
	b.Helper()
	amount := func(code, issuer, value string) *typev1.Amount {
		return &typev1.Amount{
			Token: &typev1.Token{Code: code, Issuer: issuer, Ledger: typev1.Ledger_LEDGER_STELLAR}, Value: &typev1.Decimal{Value: value},
		}
	}
	balance := func(code, issuer, value string) *accountv1.Balance {
		return &accountv1.Balance{
			Amount: amount(code, issuer, value), AvailableAmount: amount(code, issuer, value),
			InstrumentMetadata: &accountv1.InstrumentMetaData{
				Name: code, Type: instrumentv1.InstrumentType_INSTRUMENT_TYPE_CRYPTO_CURRENCY, Unit: instrumentv1.Unit_UNIT_TOKEN,
			},
		}
	}
	const ledgerID = "GDMYO7WONU3IVLA2N5AZ5RRHY5VRX6Y7UN6EDII6URVN22SI3CKHJRBS"
	reply := new(accountv1.ListAccountsResponse)
	for i := range n {
		reply.Accounts = append(reply.Accounts, &accountv1.Account{
			Name: fmt.Sprintf("accounts/%026d", i), Owner: "groups/00000000000000000000000001",
			Owners: []string{"groups/00000000000000000000000000", "groups/00000000000000000000000001"},
			Number: fmt.Sprintf("1%06d", i), LedgerId: ledgerID, Ledger: typev1.Ledger_LEDGER_STELLAR, DisplayName: fmt.Sprintf("Client account %d", i),
			LiveDataRetrievedAt: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), State: accountv1.AccountState_ACCOUNT_STATE_OPEN,
			Balances:          []*accountv1.Balance{balance("XLM", "__LEDGER__", fmt.Sprintf("%d.1234567", i)), balance("USDC", ledgerID, "250.00")},
			Signatories:       []*accountv1.Signatory{{DisplayName: "Broker Admin", ResourceName: "iam/api_users/00000000000000000000000001", LedgerId: ledgerID}},
			InternallyCreated: true,
		})
	}
	wire, err := proto.Marshal(reply)
	if err != nil {
		b.Fatal(err)
	}
	return wire
}

func BenchmarkAppend(b *testing.B) {
	var types wirejson.Types
	message := new(accountv1.ListAccountsResponse).ProtoReflect().Descriptor()
	wire := typicalAccounts(b, 100)
	compiled := types.Of(message)
	b.Run("wirejson", func(b *testing.B) {
		b.ReportAllocs()
		var out []byte
		for b.Loop() {
			out, _ = compiled.Append(out[:0], wire, nil)
		}
		b.SetBytes(int64(len(out)))
	})
	b.Run("protojson", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m := new(accountv1.ListAccountsResponse)
			if err := proto.Unmarshal(wire, m); err != nil {
				b.Fatal(err)
			}
			if _, err := protojson.Marshal(m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
