package sandbox_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

func TestTapsAreInitialisedFirst(t *testing.T) {
	m := newStanding(t)
	service := tokentapv1.NewTokenTapServiceClient(m)
	list := func() int {
		taps, err := service.ListTokenTaps(t.Context(), &tokentapv1.ListTokenTapsRequest{})
		wantCode(t, err, codes.OK)
		return len(taps.GetTokens())
	}
	mint := &tokentapv1.MintTokenRequest{Amount: amountOf(xlm(), "1"), Address: m.address(t, tradingAccount)}
	if got := list(); got != 0 {
		t.Errorf("%d taps before", got)
	}
	_, err := service.MintToken(t.Context(), mint)
	wantCode(t, err, codes.FailedPrecondition)
	for range 2 { // again is harmless
		_, err = service.InitialiseTokenTaps(t.Context(), &tokentapv1.InitialiseTokenTapsRequest{})
		wantCode(t, err, codes.OK)
	}
	if got := list(); got != 8 {
		t.Errorf("%d taps after", got)
	}
	_, err = service.MintToken(t.Context(), mint)
	wantCode(t, err, codes.OK)
}

func TestMint(t *testing.T) {
	m := newStanding(t)
	service := tokentapv1.NewTokenTapServiceClient(m)
	_, err := service.InitialiseTokenTaps(t.Context(), &tokentapv1.InitialiseTokenTapsRequest{})
	wantCode(t, err, codes.OK)
	memo := func(text string) *tokentapv1.MintTokenOptions {
		return &tokentapv1.MintTokenOptions{MintTokenOptions: &tokentapv1.MintTokenOptions_StellarMintOptions{StellarMintOptions: &tokentapv1.StellarMintOptions{
			Options: []*tokentapv1.StellarMintOption{{StellarMintOption: &tokentapv1.StellarMintOption_StellarMintTokenWithMemo{
				StellarMintTokenWithMemo: &tokentapv1.StellarMintTokenWithMemo{Memo: text}}}}}}}
	}
	for _, test := range []struct {
		name    string
		address string
		amount  *typev1.Amount
		options *tokentapv1.MintTokenOptions
		want    codes.Code
		held    string
	}{
		{"to the last decimal", m.address(t, tradingAccount), amountOf(mzar(), "0.0000001"), nil, codes.OK, "500000.0000001"},
		{"with a memo", m.address(t, tradingAccount), amountOf(mzar(), "0.9999999"), memo("salary"), codes.OK, "500001"},
		{"with a memo that is too long", m.address(t, tradingAccount), amountOf(mzar(), "1"), memo(strings.Repeat("m", 29)), codes.InvalidArgument, "500001"},
		{"to nobody", "nowhere", amountOf(mzar(), "1"), nil, codes.NotFound, "500001"},
		{"to an account that is not open", m.address(t, closedAccount), amountOf(mzar(), "1"), nil, codes.FailedPrecondition, "500001"},
		{"a token that is not registered", m.address(t, treasuryAccount), amountOf(mzar(), "1"), nil, codes.FailedPrecondition, "500001"},
		{"a token that no tap has", m.address(t, tradingAccount), amountOf(&typev1.Token{Code: "GOLD", Ledger: typev1.Ledger_LEDGER_STELLAR}, "1"), nil, codes.InvalidArgument, "500001"},
		{"nothing", m.address(t, tradingAccount), amountOf(mzar(), "0"), nil, codes.InvalidArgument, "500001"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := service.MintToken(t.Context(), &tokentapv1.MintTokenRequest{Address: test.address, Amount: test.amount, Options: test.options})
			wantCode(t, err, test.want)
			if held, _ := m.balance(t, tradingAccount, mzar()); held != test.held {
				t.Errorf("%s are held, want %s", held, test.held)
			}
		})
	}
}
