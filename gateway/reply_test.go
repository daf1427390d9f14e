package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/gateway"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

func TestWorkbookDownload(t *testing.T) {
	const (
		workbook = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
		period   = "?periodStart=2020-01-01T00:00:00Z&periodEnd=2030-01-01T00:00:00Z&reportingAssetToken.code=XLM&reportingAssetToken.ledger=LEDGER_STELLAR"
		path     = "/v1/reporting/account_reports/1000001:excel"
	)
	s := newStreaming(t)
	base := s.base()
	for _, test := range []struct {
		name, path, accept string
		status             int
		media              string
	}{
		{"by Accept", path + period, workbook, 200, workbook},
		{"by a link", path + period + "&alt=media", "*/*", 200, workbook},
		{"JSON to others", path + period, "*/*", 200, "application/json"},
		{"JSON where both will do", path + period, "application/json, " + workbook, 200, "application/json"},
		{"a refusal is JSON", strings.Replace(path, "1000001", "1999999", 1) + period, workbook, 404, "application/json"},
		{"no fields of a workbook", path + period + "&alt=media&fields=excelBase64", workbook, 400, "application/json"},
		{"a fault in the query is named", path + period + "&alt=media&nonsense=1", workbook, 400, "application/json"},
		{"no file where there is none", strings.TrimSuffix(path, ":excel") + period, workbook, 406, "application/json"},
	} {
		t.Run(test.name, func(t *testing.T) {
			response, reader := s.open(t, base+test.path, test.accept)
			body, err := io.ReadAll(reader)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || response.Header.Get("Content-Type") != test.media {
				t.Fatalf("%s, %s: %.200s", response.Status, response.Header.Get("Content-Type"), body)
			}
			if test.media != workbook {
				return
			}
			if got := response.Header.Get("Content-Disposition"); got != `attachment; filename="account-report-1000001.xlsx"` {
				t.Errorf("Content-Disposition is %s", got)
			}
			if got := response.Header.Get("Content-Length"); got != strconv.Itoa(len(body)) {
				t.Errorf("Content-Length is %s, and %d bytes came", got, len(body))
			}
			book, err := excelize.OpenReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if err := book.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// listOf is an upstream that answers with n accounts, and then with what is given in
// wire form.
func listOf(t *testing.T, n int, rest []byte) *meshtest.Upstream {
	t.Helper()
	upstream := meshtest.NewUpstream(t)
	upstream.Answer(func(method protoreflect.MethodDescriptor) ([]proto.Message, error) {
		if method.Output().Name() != "ListAccountsResponse" {
			return []proto.Message{unusable(method.Output(), rest)}, nil
		}
		list := new(accountv1.ListAccountsResponse)
		for i := range n {
			list.Accounts = append(list.Accounts, &accountv1.Account{Number: strconv.Itoa(1_000_000 + i), DisplayName: strings.Repeat("x", 100)})
		}
		list.ProtoReflect().SetUnknown(rest)
		return []proto.Message{list}, nil
	})
	return upstream
}

func unusable(descriptor protoreflect.MessageDescriptor, rest []byte) proto.Message {
	message := dynamicpb.NewMessage(descriptor)
	message.SetUnknown(rest)
	return message
}

// malformed is a first field whose bytes are cut off, within a message of its own.
var malformed = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte{0xff})

func TestReplies(t *testing.T) {
	for _, test := range []struct {
		name, verb, path string
		accounts         int
		length           bool // Content-Length is known
	}{
		{"a small one has its length", "GET", "/v1/accounts", 3, true},
		{"a large one comes in pieces", "GET", "/v1/accounts", 2000, false},
		{"part of a large one, which is small, has its length", "GET", "/v1/accounts?fields=accounts.state", 2000, true},
		{"HEAD tells the length of a large one", "HEAD", "/v1/accounts", 2000, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			upstream := listOf(t, test.accounts, nil)
			response := get(t, test.verb, serveUpstream(t, upstream.Dial(t))+test.path, nil)
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != http.StatusOK || (response.ContentLength >= 0) != test.length {
				t.Errorf("%s, Content-Length %d; want it: %t", response.Status, response.ContentLength, test.length)
			}
			if test.verb == "HEAD" {
				return
			}
			var list struct{ Accounts []map[string]any }
			if err := json.Unmarshal(body, &list); err != nil || len(list.Accounts) != test.accounts {
				t.Errorf("%d accounts, %v", len(list.Accounts), err)
			}
		})
	}
}

// TestUnusableReplies has replies that cannot be read to their end.
func TestUnusableReplies(t *testing.T) {
	t.Run("one that is small is an error", func(t *testing.T) {
		upstream := listOf(t, 3, malformed)
		response := get(t, "GET", serveUpstream(t, upstream.Dial(t))+"/v1/accounts", nil)
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != http.StatusBadGateway || !strings.Contains(string(body), "UPSTREAM_REPLY") {
			t.Errorf("%s %s", response.Status, body)
		}
	})
	t.Run("one whose first pieces are sent is cut off", func(t *testing.T) {
		upstream := listOf(t, 2000, malformed)
		response := get(t, "GET", serveUpstream(t, upstream.Dial(t))+"/v1/accounts", nil)
		if body, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes were read to a regular end: %v", len(body), err)
		}
	})
	t.Run("of a write it says that the outcome is unknown", func(t *testing.T) {
		upstream := listOf(t, 0, []byte{0xff})
		got := callUpstream(t, upstream, "POST", "/v1/limit_orders/01ARZ3NDEKTSV4RRFFQ69G5FAV:cancel", "")
		if got.status != http.StatusBadGateway || !strings.Contains(got.message, "may or may not have been carried out") {
			t.Errorf("%d %s", got.status, got.message)
		}
	})
	t.Run("of a stream it ends the stream", func(t *testing.T) {
		upstream := listOf(t, 0, []byte{0xff})
		response := get(t, "GET", serveUpstream(t, upstream.Dial(t))+monitor, nil)
		body, _ := io.ReadAll(response.Body)
		if !strings.HasPrefix(string(body), `{"error":{"code":13,`) {
			t.Errorf("%s %s", response.Status, body)
		}
	})
}

// TestNoReplyInTime has a connection that does not say what a deadline means, as grpc-go's does not.
func TestNoReplyInTime(t *testing.T) {
	upstream := meshtest.NewUpstream(t)
	upstream.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) { return nil, meshtest.ErrStayOpen })
	handler, err := gateway.New(upstream.Dial(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(ctx, "POST", "/v1/limit_orders/01ARZ3NDEKTSV4RRFFQ69G5FAV:cancel", nil))
	if recorder.Code != http.StatusGatewayTimeout || !strings.Contains(recorder.Body.String(), "OUTCOME_UNKNOWN") {
		t.Errorf("%d %s, want 504 OUTCOME_UNKNOWN", recorder.Code, recorder.Body)
	}
}
