package sandbox

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

const (
	// firstNumber and maxAccounts follow from the form of a number: 1 and six
	// digits.
	firstNumber = 1_000_000
	maxAccounts = 999_999
	// maxSignatories is how many can sign for one account.
	maxSignatories = 100
)

// accounts is the AccountService.
type accounts struct {
	accountv1.UnimplementedAccountServiceServer
	*mesh
}

// CreateAccount records an account; it is not on the ledger until it is opened.
func (s *accounts) CreateAccount(ctx context.Context, request *accountv1.CreateAccountRequest) (*accountv1.Account, error) {
	return store.Update(s.db, func(tx *store.Tx) (*accountv1.Account, error) {
		given := request.GetAccount()
		if err := mayCreate(executingGroup(ctx), given.GetOwner()); err != nil {
			return nil, err
		}
		name, err := s.newName(tx, "accounts")
		if err != nil {
			return nil, err
		}
		return s.createAccount(tx, s.random, &accountv1.Account{
			Name: name, Owner: given.GetOwner(), Ledger: given.GetLedger(), DisplayName: given.GetDisplayName(),
		})
	})
}

// createAccount gives an account its number and its address, and puts it.
func (m *mesh) createAccount(tx *store.Tx, random io.Reader, account *accountv1.Account) (*accountv1.Account, error) {
	address, err := ledger.NewAddress(account.GetLedger(), random)
	if err != nil {
		return nil, err
	}
	account.Owners = m.path(tx, account.GetOwner())
	account.Number = fmt.Sprint(firstNumber + m.accounts.Count(tx) + 1)
	account.LedgerId = address
	if err := m.accounts.Create(tx, account); err != nil {
		return nil, err
	}
	return account, m.ledger.CreateWallet(tx, account.GetName())
}

// UpdateAccount changes the display name, the one field that can be.
func (s *accounts) UpdateAccount(ctx context.Context, request *accountv1.UpdateAccountRequest) (*accountv1.Account, error) {
	return store.Update(s.db, func(tx *store.Tx) (*accountv1.Account, error) {
		account, err := getForUpdate(tx, s.accounts, executingGroup(ctx), request.GetAccount().GetName())
		if err != nil {
			return nil, err
		}
		account.DisplayName = request.GetAccount().GetDisplayName()
		return account, s.accounts.Update(tx, account)
	})
}

func (s *accounts) GetAccount(ctx context.Context, request *accountv1.GetAccountRequest) (*accountv1.Account, error) {
	return store.View(s.db, func(tx *store.Tx) (*accountv1.Account, error) {
		account, err := getVisible(tx, s.accounts, executingGroup(ctx), request.GetName())
		if err != nil {
			return nil, err
		}
		return s.view(tx, account, request.GetPopulateLedgerData())
	})
}

func (s *accounts) GetAccountByNumber(ctx context.Context, request *accountv1.GetAccountByNumberRequest) (*accountv1.Account, error) {
	return store.View(s.db, func(tx *store.Tx) (*accountv1.Account, error) {
		account, err := s.accountByNumber(tx, executingGroup(ctx), request.GetAccountNumber())
		if err != nil {
			return nil, err
		}
		return s.view(tx, account, request.GetPopulateLedgerData())
	})
}

// accountByNumber returns the account of a number that the group can see.
func (m *mesh) accountByNumber(tx *store.Tx, group, number string) (*accountv1.Account, error) {
	account, ok := m.accounts.Find(tx, number)
	if !ok || account.GetNumber() != number || !slices.Contains(account.GetOwners(), group) {
		return nil, status.Errorf(codes.NotFound, "There is no account with the number %s that is visible to %s.", number, group)
	}
	return account, nil
}

// accountAt returns the account of a ledger address.
func (m *mesh) accountAt(tx *store.Tx, address string) (*accountv1.Account, bool) {
	account, ok := m.accounts.Find(tx, address)
	return account, ok && account.GetLedgerId() == address
}

func (s *accounts) ListAccounts(ctx context.Context, request *accountv1.ListAccountsRequest) (*accountv1.ListAccountsResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*accountv1.ListAccountsResponse, error) {
		found := visible(tx, s.accounts, executingGroup(ctx), every)
		sortBy(found, accountField(request.GetSorting().GetField()), request.GetSorting().GetOrder())
		found, err := s.views(tx, found, request.GetPopulateLedgerData())
		if err != nil {
			return nil, err
		}
		return &accountv1.ListAccountsResponse{Accounts: found}, nil
	})
}

// SearchAccounts leaves out accounts made by the system unless told otherwise.
func (s *accounts) SearchAccounts(ctx context.Context, request *accountv1.SearchAccountsRequest) (*accountv1.SearchAccountsResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*accountv1.SearchAccountsResponse, error) {
		found := visible(tx, s.accounts, executingGroup(ctx), func(account *accountv1.Account) bool {
			return containsFold(account.GetDisplayName(), request.GetDisplayName()) &&
				(len(request.GetOwner()) == 0 || slices.Contains(request.GetOwner(), account.GetOwner())) &&
				(request.GetShowInternallyCreated() || !account.GetInternallyCreated())
		})
		sortBy(found, accountField(request.GetSorting().GetField()), request.GetSorting().GetOrder())
		found, err := s.views(tx, found, request.GetPopulateLedgerData())
		if err != nil {
			return nil, err
		}
		return &accountv1.SearchAccountsResponse{Accounts: found}, nil
	})
}

func accountField(field string) func(*accountv1.Account) string {
	if field == "number" {
		return (*accountv1.Account).GetNumber
	}
	return nil
}

func (m *mesh) views(tx *store.Tx, accounts []*accountv1.Account, live bool) (_ []*accountv1.Account, err error) {
	for i, account := range accounts {
		if accounts[i], err = m.view(tx, account, live); err != nil {
			return nil, err
		}
	}
	return accounts, nil
}

// view is an account as a client sees it: what the ledger knows is added only
// where it is asked for.
func (m *mesh) view(tx *store.Tx, account *accountv1.Account, live bool) (*accountv1.Account, error) {
	if !live {
		return account, nil
	}
	w, err := m.ledger.Wallet(tx, account.GetName())
	if err != nil {
		return nil, err
	}
	view := proto.CloneOf(account)
	view.LiveDataRetrievedAt = timestamppb.New(m.now(tx))
	view.State = accountv1.AccountState_ACCOUNT_STATE_CLOSED
	if w.Open {
		view.State = accountv1.AccountState_ACCOUNT_STATE_OPEN
	}
	for _, h := range w.Holdings {
		known, _ := ledger.InstrumentOf(h.Token)
		view.Balances = append(view.Balances, &accountv1.Balance{
			Amount:             h.Token.Amount(h.Held),
			AvailableAmount:    h.Token.Amount(h.Available()),
			InstrumentMetadata: &accountv1.InstrumentMetaData{Name: known.Name, Type: known.Type, Unit: known.Unit},
		})
	}
	for _, name := range w.Signatories {
		view.Signatories = append(view.Signatories, &accountv1.Signatory{
			DisplayName: m.displayName(tx, name), ResourceName: name, LedgerId: account.GetLedgerId(),
		})
	}
	return view, nil
}

// displayName is what people call a user or API user.
func (m *mesh) displayName(tx *store.Tx, name string) string {
	if user, ok := m.apiUsers.Get(tx, name); ok {
		return user.GetDisplayName()
	}
	user, _ := m.users.Get(tx, name)
	return user.GetEmail()
}

// OpenAccount puts an account on its ledger, with the caller as its signatory.
func (s *accounts) OpenAccount(ctx context.Context, request *accountv1.OpenAccountRequest) (*accountv1.OpenAccountResponse, error) {
	name, err := s.start(ctx, request.GetName(), func(tx *store.Tx, account *accountv1.Account, w *ledger.Wallet) (effect, error) {
		switch {
		case w.Open:
			return effect{}, precondition("%s is already open.", account.GetName())
		case s.underWay(tx, account.GetName(), effectOpen):
			return effect{}, precondition("%s is already being opened. Watch the transaction that the open call returned.", account.GetName())
		}
		return effect{Kind: effectOpen, Users: []string{caller(ctx)}}, nil
	})
	return &accountv1.OpenAccountResponse{LedgerTransaction: name}, err
}

func (s *accounts) AddSignatoriesToAccount(ctx context.Context, request *accountv1.AddSignatoriesToAccountRequest) (*accountv1.AddSignatoriesToAccountResponse, error) {
	name, err := s.startOpen(ctx, request.GetName(), func(tx *store.Tx, _ *accountv1.Account, w *ledger.Wallet) (effect, error) {
		for _, user := range request.GetUsers() {
			if err := s.checkUserVisible(tx, executingGroup(ctx), user); err != nil {
				return effect{}, err
			}
			if slices.Contains(w.Signatories, user) {
				return effect{}, precondition("%s is already a signatory.", user)
			}
		}
		if len(w.Signatories)+len(request.GetUsers()) > maxSignatories {
			return effect{}, status.Errorf(codes.ResourceExhausted, "An account can have at most %d signatories. Remove one first.", maxSignatories)
		}
		return effect{Kind: effectAddSignatories, Users: request.GetUsers()}, nil
	})
	return &accountv1.AddSignatoriesToAccountResponse{LedgerTransaction: name}, err
}

// checkUserVisible returns an error if a user or an API user is not visible to the group.
func (m *mesh) checkUserVisible(tx *store.Tx, group, name string) error {
	if strings.HasPrefix(name, "users/") {
		_, err := getVisible(tx, m.users, group, name)
		return err
	}
	_, err := getVisible(tx, m.apiUsers, group, name)
	return err
}

func (s *accounts) RemoveSignatoriesFromAccount(ctx context.Context, request *accountv1.RemoveSignatoriesFromAccountRequest) (*accountv1.RemoveSignatoriesFromAccountResponse, error) {
	name, err := s.startOpen(ctx, request.GetName(), func(tx *store.Tx, account *accountv1.Account, w *ledger.Wallet) (effect, error) {
		for _, user := range request.GetUsers() {
			if !slices.Contains(w.Signatories, user) {
				return effect{}, precondition("%s is not a signatory of %s.", user, account.GetName())
			}
		}
		return effect{Kind: effectRemoveSignatories, Users: request.GetUsers()}, nil
	})
	return &accountv1.RemoveSignatoriesFromAccountResponse{LedgerTransaction: name}, err
}

func (s *accounts) RegisterTokensToAccount(ctx context.Context, request *accountv1.RegisterTokensToAccountRequest) (*accountv1.RegisterTokensToAccountResponse, error) {
	name, err := s.startOpen(ctx, request.GetName(), func(tx *store.Tx, account *accountv1.Account, w *ledger.Wallet) (effect, error) {
		tokens, err := tokensOn(account.GetLedger(), request.GetTokens())
		if err != nil {
			return effect{}, err
		}
		for _, t := range tokens {
			if w.Holding(t) != nil {
				return effect{}, precondition("%s has already registered %s.", account.GetName(), t)
			}
		}
		return effect{Kind: effectRegister, Tokens: tokens}, nil
	})
	return &accountv1.RegisterTokensToAccountResponse{LedgerTransaction: name}, err
}

// DeregisterTokensFromAccount refuses tokens that the account still holds.
func (s *accounts) DeregisterTokensFromAccount(ctx context.Context, request *accountv1.DeregisterTokensFromAccountRequest) (*accountv1.DeregisterTokensFromAccountResponse, error) {
	name, err := s.startOpen(ctx, request.GetName(), func(tx *store.Tx, account *accountv1.Account, w *ledger.Wallet) (effect, error) {
		tokens, err := tokensOn(account.GetLedger(), request.GetTokens())
		if err != nil {
			return effect{}, err
		}
		for _, t := range tokens {
			switch h := w.Holding(t); {
			case h == nil:
				return effect{}, precondition("%s has not registered %s.", account.GetName(), t)
			case !h.Held.IsZero():
				return effect{}, precondition("%s holds %s of %s. A token with a balance cannot be deregistered. Transfer the balance first.", account.GetName(), h.Held, t)
			}
		}
		return effect{Kind: effectDeregister, Tokens: tokens}, nil
	})
	return &accountv1.DeregisterTokensFromAccountResponse{LedgerTransaction: name}, err
}

// tokensOn checks tokens that are to be registered on a ledger.
func tokensOn(on typev1.Ledger, given []*typev1.Token) ([]ledger.Token, error) {
	tokens := make([]ledger.Token, 0, len(given))
	for i, one := range given {
		field, t := fmt.Sprintf("tokens[%d]", i), ledger.TokenOf(one)
		if _, err := knownToken(field, t); err != nil {
			return nil, err
		}
		if t.Ledger != on {
			return nil, invalid(field, fmt.Sprintf("must be on the ledger of the account: %s cannot be held on %s", t, strings.TrimPrefix(on.String(), "LEDGER_")))
		}
		if slices.Contains(tokens, t) {
			return nil, invalid(field, t.String()+" must not be listed more than once")
		}
		tokens = append(tokens, t)
	}
	return tokens, nil
}

// start starts the transaction that plan asks for.
func (s *accounts) start(ctx context.Context, name string, plan func(*store.Tx, *accountv1.Account, *ledger.Wallet) (effect, error)) (string, error) {
	return store.Update(s.db, func(tx *store.Tx) (string, error) {
		account, err := getForUpdate(tx, s.accounts, executingGroup(ctx), name)
		if err != nil {
			return "", err
		}
		w, err := s.ledger.Wallet(tx, name)
		if err != nil {
			return "", err
		}
		e, err := plan(tx, account, w)
		if err != nil {
			return "", err
		}
		e.Account = name
		return s.submit(tx, account.GetOwner(), e)
	})
}

// startOpen is start for what only an account on the ledger can do.
func (s *accounts) startOpen(ctx context.Context, name string, plan func(*store.Tx, *accountv1.Account, *ledger.Wallet) (effect, error)) (string, error) {
	return s.start(ctx, name, func(tx *store.Tx, account *accountv1.Account, w *ledger.Wallet) (effect, error) {
		if !w.Open {
			return effect{}, precondition("%s is not open on its ledger. Open it first with POST /v1/%s:open.", name, name)
		}
		return plan(tx, account, w)
	})
}
