package sandbox

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// tokenTaps is the TokenTapService. Its methods are PUBLIC: they exist on test
// environments, which a sandbox is.
type tokenTaps struct {
	tokentapv1.UnimplementedTokenTapServiceServer
	store *store
}

// maxMemo is the longest memo of a Stellar transaction, in bytes.
const maxMemo = 28

// taps is there once the taps are initialised.
type taps struct{}

func (*taps) GetName() string     { return "taps" }
func (*taps) GetOwner() string    { return "" }
func (*taps) GetOwners() []string { return nil }

// InitialiseTokenTaps may be called again.
func (s *tokenTaps) InitialiseTokenTaps(context.Context, *tokentapv1.InitialiseTokenTapsRequest) (*tokentapv1.InitialiseTokenTapsResponse, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	return &tokentapv1.InitialiseTokenTapsResponse{}, s.store.taps.put(&taps{})
}

func (s *store) tapsReady() bool { return len(s.taps.order) > 0 }

// ListTokenTaps lists what can be minted; nothing before the taps are
// initialised.
func (s *tokenTaps) ListTokenTaps(context.Context, *tokentapv1.ListTokenTapsRequest) (*tokentapv1.ListTokenTapsResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	var tokens []*typev1.Token
	if s.store.tapsReady() {
		for _, known := range instruments() {
			tokens = append(tokens, known.message())
		}
	}
	return &tokentapv1.ListTokenTapsResponse{Tokens: tokens}, nil
}

func (s *tokenTaps) MintToken(_ context.Context, request *tokentapv1.MintTokenRequest) (*tokentapv1.MintTokenResponse, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	if !s.store.tapsReady() {
		return nil, precondition("The token taps are not initialised. Initialise them first with POST /v1/testing/token_taps:initialise.")
	}
	t, amount, err := positive("amount", request.GetAmount())
	if err != nil {
		return nil, err
	}
	account, ok := s.store.accounts.find(request.GetAddress())
	if !ok || account.GetLedgerId() != request.GetAddress() {
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
	if err := s.store.mint(account.GetName(), t, amount); err != nil {
		return nil, err
	}
	s.store.record(entry{Account: account.GetName(), Kind: entryMovement, Description: description, Token: t, Amount: amount})
	return &tokentapv1.MintTokenResponse{}, nil
}
