package idempotency_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/idempotency"
)

const (
	createTransfer = "/meshtrade.wallet.transfer.v1.TransferService/CreateTransfer"
	getTransfer    = "/meshtrade.wallet.transfer.v1.TransferService/GetTransfer"
	monitor        = "/meshtrade.wallet.transfer.v1.TransferService/MonitorTransfer"
	mintToken      = "/meshtrade.testing.ledger.token_tap.v1.TokenTapService/MintToken" // public
)

func TestKey(t *testing.T) {
	long := strings.Repeat("k", 255)
	for _, test := range []struct{ name, value, want, wantErr string }{
		{"bare", "8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324", ""},
		{"quoted", `"8e03978e"`, "8e03978e", ""},
		{"space around it", " \t8e03978e ", "8e03978e", ""},
		{"the first and the last visible character", `"!~"`, "!~", ""},
		{"escapes", `"a\"b\\c"`, `a"b\c`, ""},
		{"255 characters", long, long, ""},
		{"255 characters in quotes", `"` + long + `"`, long, ""},
		{"256 characters", long + "k", "", "the maximum is 255"},
		{"empty", "", "", "is empty"},
		{"empty quotes", `""`, "", "is empty"},
		{"no end", `"abc`, "", "one string in quotes"},
		{"an end that is escaped", `"abc\"`, "", "one string in quotes"},
		{"another escape", `"a\bc"`, "", "one string in quotes"},
		{"a parameter", `"abc";v=1`, "", "one string in quotes"},
		{"two keys", `"abc", "def"`, "", "one string in quotes"},
		{"a quote in a bare key", `ab"c`, "", "must be in quotes"},
		{"a backslash in a bare key", `ab\c`, "", "must be in quotes"},
		{"a space", "ab c", "", "visible ASCII"},
		{"a space in quotes", `"ab c"`, "", "visible ASCII"},
		{"a control character", "ab\x7f", "", "visible ASCII"},
		{"not ASCII", "schlüssel", "", "visible ASCII"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := idempotency.KeyOf(contract.ByName(createTransfer), []string{test.value}, true, false)
			checkKey(t, got, err, test.want, test.wantErr)
		})
	}
}

func TestKeyOfAMethod(t *testing.T) {
	for _, test := range []struct {
		name, method            string
		values                  []string
		authenticated, required bool
		want, wantErr           string
	}{
		{"a write", createTransfer, []string{"a"}, true, false, "a", ""},
		{"a write without a key", createTransfer, nil, true, false, "", ""},
		{"a write that needs a key", createTransfer, nil, true, true, "", "is required"},
		{"a write with two", createTransfer, []string{"a", "a"}, true, false, "", "only once"},
		{"a read", getTransfer, []string{"a", `"`}, true, true, "", ""},
		{"a stream", monitor, []string{"a"}, true, true, "", ""},
		{"a public write with an API key", mintToken, []string{"a"}, true, true, "a", ""},
		{"a public write with an API key that needs a key", mintToken, nil, true, true, "", "is required"},
		{"a public write without an API key", mintToken, []string{"a"}, false, true, "", "without an API key"},
		{"a public write without either", mintToken, nil, false, true, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := idempotency.KeyOf(contract.ByName(test.method), test.values, test.authenticated, test.required)
			checkKey(t, got, err, test.want, test.wantErr)
		})
	}
}

func checkKey(t *testing.T, got string, err error, want, wantErr string) {
	t.Helper()
	if wantErr == "" {
		if err != nil || got != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), wantErr) {
		t.Fatalf("%q, %v, want %s", got, err, wantErr)
	}
	if apierror.HTTPStatusOf(err) != http.StatusBadRequest || !strings.Contains(err.Error(), "Nothing was sent") {
		t.Errorf("%d: %v", apierror.HTTPStatusOf(err), err)
	}
}
