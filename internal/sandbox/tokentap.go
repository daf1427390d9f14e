package sandbox

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// tokenTaps is the TokenTapService. Its methods are PUBLIC: they exist on test
// environments, which a sandbox is.
type tokenTaps struct {
	tokentapv1.UnimplementedTokenTapServiceServer
	*mesh
}

// maxMemo is the longest memo of a Stellar transaction, in bytes.
const maxMemo = 28

// taps is there once the taps are initialised.
type taps struct{}

const tapsName = "taps"

func (*taps) GetName() string     { return tapsName }
func (*taps) GetOwner() string    { return "" }
func (*taps) GetOwners() []string { return nil }

// InitialiseTokenTaps may be called again.
func (s *tokenTaps) InitialiseTokenTaps(context.Context, *tokentapv1.InitialiseTokenTapsRequest) (*tokentapv1.InitialiseTokenTapsResponse, error) {
	return store.Update(s.db, func(tx *store.Tx) (*tokentapv1.InitialiseTokenTapsResponse, error) {
		return &tokentapv1.InitialiseTokenTapsResponse{}, s.taps.Put(tx, &taps{})
	})
}

func (s *tokenTaps) ready(tx *store.Tx) bool {
	_, ok := s.taps.Get(tx, tapsName)
	return ok
}

// ListTokenTaps lists what can be minted; nothing before the taps are
// initialised.
func (s *tokenTaps) ListTokenTaps(context.Context, *tokentapv1.ListTokenTapsRequest) (*tokentapv1.ListTokenTapsResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*tokentapv1.ListTokenTapsResponse, error) {
		var tokens []*typev1.Token
		if s.ready(tx) {
			for _, known := range ledger.Instruments() {
				tokens = append(tokens, known.Message())
			}
		}
		return &tokentapv1.ListTokenTapsResponse{Tokens: tokens}, nil
	})
}

func (s *tokenTaps) MintToken(_ context.Context, request *tokentapv1.MintTokenRequest) (*tokentapv1.MintTokenResponse, error) {
	return store.Update(s.db, func(tx *store.Tx) (*tokentapv1.MintTokenResponse, error) {
		if !s.ready(tx) {
			return nil, precondition("The token taps are not initialised. Initialise them first with POST /v1/testing/token_taps:initialise.")
		}
		t, amount, err := positive("amount", request.GetAmount())
		if err != nil {
			return nil, err
		}
		account, ok := s.accountAt(tx, request.GetAddress())
		if !ok {
			return nil, status.Errorf(codes.NotFound, "There is no account with the ledger address %q. Use the ledger_id of an account.", request.GetAddress())
		}
		description := "Minted"
		for _, option := range request.GetOptions().GetStellarMintOptions().GetOptions() {
			memo := option.GetStellarMintTokenWithMemo().GetMemo()
			if len(memo) > maxMemo {
				return nil, invalid("options", fmt.Sprintf("must have a memo of at most %d bytes", maxMemo))
			}
			description = "Minted: " + memo
		}
		if err := s.ledger.Mint(tx, account.GetName(), t, amount); err != nil {
			return nil, err
		}
		return &tokentapv1.MintTokenResponse{}, s.ledger.Record(tx, ledger.Entry{
			Account: account.GetName(), At: s.now(tx), Kind: ledger.Movement, Description: description, Token: t, Amount: amount,
		})
	})
}
