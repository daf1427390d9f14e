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
	store *store
}

// CreateAccount records an account; it is not on the ledger until it is opened.
func (s *accounts) CreateAccount(ctx context.Context, request *accountv1.CreateAccountRequest) (*accountv1.Account, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	given := request.GetAccount()
	if err := mayCreate(executingGroup(ctx), given.GetOwner()); err != nil {
		return nil, err
	}
	name, err := s.store.name("accounts")
	if err != nil {
		return nil, err
	}
	return s.store.createAccount(s.store.random, &accountv1.Account{
		Name: name, Owner: given.GetOwner(), Ledger: given.GetLedger(), DisplayName: given.GetDisplayName(),
	})
}

// createAccount gives an account its number and its address, and puts it.
func (s *store) createAccount(random io.Reader, account *accountv1.Account) (*accountv1.Account, error) {
	address, err := addressOf(account.GetLedger(), random)
	if err != nil {
		return nil, err
	}
	account.Owners = s.path(account.GetOwner())
	account.Number = fmt.Sprint(firstNumber + len(s.accounts.order) + 1)
	account.LedgerId = address
	if err := s.accounts.put(account); err != nil {
		return nil, err
	}
	return account, s.wallets.put(&wallet{Account: account.GetName()})
}

// UpdateAccount changes the display name, the one field that can be.
func (s *accounts) UpdateAccount(ctx context.Context, request *accountv1.UpdateAccountRequest) (*accountv1.Account, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	account, err := s.store.accounts.getForUpdate(executingGroup(ctx), request.GetAccount().GetName())
	if err != nil {
		return nil, err
	}
	account.DisplayName = request.GetAccount().GetDisplayName()
	return account, s.store.accounts.put(account)
}

func (s *accounts) GetAccount(ctx context.Context, request *accountv1.GetAccountRequest) (*accountv1.Account, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	account, err := s.store.accounts.getVisible(executingGroup(ctx), request.GetName())
	if err != nil {
		return nil, err
	}
	return s.store.view(account, request.GetPopulateLedgerData()), nil
}

func (s *accounts) GetAccountByNumber(ctx context.Context, request *accountv1.GetAccountByNumberRequest) (*accountv1.Account, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	account, err := s.store.accountByNumber(executingGroup(ctx), request.GetAccountNumber())
	if err != nil {
		return nil, err
	}
	return s.store.view(account, request.GetPopulateLedgerData()), nil
}

// accountByNumber returns the account of a number that the group can see.
func (s *store) accountByNumber(group, number string) (*accountv1.Account, error) {
	account, ok := s.accounts.find(number)
	if !ok || account.GetNumber() != number || !slices.Contains(account.GetOwners(), group) {
		return nil, status.Errorf(codes.NotFound, "There is no account with the number %s that is visible to %s.", number, group)
	}
	return account, nil
}

func (s *accounts) ListAccounts(ctx context.Context, request *accountv1.ListAccountsRequest) (*accountv1.ListAccountsResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	found := s.store.accounts.visible(executingGroup(ctx), every)
	sortBy(found, accountField(request.GetSorting().GetField()), request.GetSorting().GetOrder())
	return &accountv1.ListAccountsResponse{Accounts: s.store.views(found, request.GetPopulateLedgerData())}, nil
}

// SearchAccounts leaves out accounts made by the system unless told otherwise.
func (s *accounts) SearchAccounts(ctx context.Context, request *accountv1.SearchAccountsRequest) (*accountv1.SearchAccountsResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	found := s.store.accounts.visible(executingGroup(ctx), func(account *accountv1.Account) bool {
		return containsFold(account.GetDisplayName(), request.GetDisplayName()) &&
			(len(request.GetOwner()) == 0 || slices.Contains(request.GetOwner(), account.GetOwner())) &&
			(request.GetShowInternallyCreated() || !account.GetInternallyCreated())
	})
	sortBy(found, accountField(request.GetSorting().GetField()), request.GetSorting().GetOrder())
	return &accountv1.SearchAccountsResponse{Accounts: s.store.views(found, request.GetPopulateLedgerData())}, nil
}

func accountField(field string) func(*accountv1.Account) string {
	if field == "number" {
		return (*accountv1.Account).GetNumber
	}
	return nil
}

func (s *store) views(accounts []*accountv1.Account, live bool) []*accountv1.Account {
	if live {
		for i, account := range accounts {
			accounts[i] = s.view(account, true)
		}
	}
	return accounts
}

// view is an account as a client sees it: what the ledger knows is added only
// where it is asked for.
func (s *store) view(account *accountv1.Account, live bool) *accountv1.Account {
	if !live {
		return account
	}
	view, w := proto.CloneOf(account), s.wallets.byName[account.GetName()]
	view.LiveDataRetrievedAt = timestamppb.New(s.now())
	view.State = accountv1.AccountState_ACCOUNT_STATE_CLOSED
	if w.Open {
		view.State = accountv1.AccountState_ACCOUNT_STATE_OPEN
	}
	for _, h := range w.Holdings {
		known, _ := instrumentOf(h.Token)
		view.Balances = append(view.Balances, &accountv1.Balance{
			Amount:             h.Token.amount(h.Held),
			AvailableAmount:    h.Token.amount(h.available()),
			InstrumentMetadata: &accountv1.InstrumentMetaData{Name: known.name, Type: known.kind, Unit: known.unit},
		})
	}
	for _, name := range w.Signatories {
		view.Signatories = append(view.Signatories, &accountv1.Signatory{
			DisplayName: s.displayName(name), ResourceName: name, LedgerId: account.GetLedgerId(),
		})
	}
	return view
}

// displayName is what people call a user or API user.
func (s *store) displayName(name string) string {
	if user, ok := s.apiUsers.byName[name]; ok {
		return user.GetDisplayName()
	}
	return s.users.byName[name].GetEmail()
}

// OpenAccount puts an account on its ledger, with the caller as its signatory.
func (s *accounts) OpenAccount(ctx context.Context, request *accountv1.OpenAccountRequest) (*accountv1.OpenAccountResponse, error) {
	name, err := s.submit(ctx, request.GetName(), func(account *accountv1.Account, w *wallet) (effect, error) {
		switch {
		case w.Open:
			return effect{}, precondition("%s is already open.", account.GetName())
		case s.store.underWay(account.GetName(), effectOpen):
			return effect{}, precondition("%s is already being opened. Watch the transaction that the open call returned.", account.GetName())
		}
		return effect{Kind: effectOpen, Users: []string{caller(ctx)}}, nil
	})
	return &accountv1.OpenAccountResponse{LedgerTransaction: name}, err
}

func (s *accounts) AddSignatoriesToAccount(ctx context.Context, request *accountv1.AddSignatoriesToAccountRequest) (*accountv1.AddSignatoriesToAccountResponse, error) {
	name, err := s.submitOpen(ctx, request.GetName(), func(_ *accountv1.Account, w *wallet) (effect, error) {
		for _, user := range request.GetUsers() {
			if err := s.store.checkUserVisible(executingGroup(ctx), user); err != nil {
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
func (s *store) checkUserVisible(group, name string) error {
	if strings.HasPrefix(name, "users/") {
		_, err := s.users.getVisible(group, name)
		return err
	}
	_, err := s.apiUsers.getVisible(group, name)
	return err
}

func (s *accounts) RemoveSignatoriesFromAccount(ctx context.Context, request *accountv1.RemoveSignatoriesFromAccountRequest) (*accountv1.RemoveSignatoriesFromAccountResponse, error) {
	name, err := s.submitOpen(ctx, request.GetName(), func(account *accountv1.Account, w *wallet) (effect, error) {
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
	name, err := s.submitOpen(ctx, request.GetName(), func(account *accountv1.Account, w *wallet) (effect, error) {
		tokens, err := tokensOn(account.GetLedger(), request.GetTokens())
		if err != nil {
			return effect{}, err
		}
		for _, t := range tokens {
			if w.holding(t) != nil {
				return effect{}, precondition("%s has already registered %s.", account.GetName(), t)
			}
		}
		return effect{Kind: effectRegister, Tokens: tokens}, nil
	})
	return &accountv1.RegisterTokensToAccountResponse{LedgerTransaction: name}, err
}

// DeregisterTokensFromAccount refuses tokens that the account still holds.
func (s *accounts) DeregisterTokensFromAccount(ctx context.Context, request *accountv1.DeregisterTokensFromAccountRequest) (*accountv1.DeregisterTokensFromAccountResponse, error) {
	name, err := s.submitOpen(ctx, request.GetName(), func(account *accountv1.Account, w *wallet) (effect, error) {
		tokens, err := tokensOn(account.GetLedger(), request.GetTokens())
		if err != nil {
			return effect{}, err
		}
		for _, t := range tokens {
			switch h := w.holding(t); {
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
func tokensOn(ledger typev1.Ledger, given []*typev1.Token) ([]token, error) {
	tokens := make([]token, 0, len(given))
	for i, one := range given {
		field, t := fmt.Sprintf("tokens[%d]", i), tokenOf(one)
		if _, err := knownToken(field, t); err != nil {
			return nil, err
		}
		if t.Ledger != ledger {
			return nil, invalid(field, fmt.Sprintf("must be on the ledger of the account: %s cannot be held on %s", t, strings.TrimPrefix(ledger.String(), "LEDGER_")))
		}
		if slices.Contains(tokens, t) {
			return nil, invalid(field, t.String()+" must not be listed more than once")
		}
		tokens = append(tokens, t)
	}
	return tokens, nil
}

// submit starts the transaction that plan asks for.
func (s *accounts) submit(ctx context.Context, name string, plan func(*accountv1.Account, *wallet) (effect, error)) (string, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	account, err := s.store.accounts.getForUpdate(executingGroup(ctx), name)
	if err != nil {
		return "", err
	}
	e, err := plan(account, s.store.wallets.byName[name])
	if err != nil {
		return "", err
	}
	e.Account = name
	return s.store.submit(account.GetOwner(), e)
}

// submitOpen is submit for what only an account on the ledger can do.
func (s *accounts) submitOpen(ctx context.Context, name string, plan func(*accountv1.Account, *wallet) (effect, error)) (string, error) {
	return s.submit(ctx, name, func(account *accountv1.Account, w *wallet) (effect, error) {
		if !w.Open {
			return effect{}, precondition("%s is not open on its ledger. Open it first with POST /v1/%s:open.", name, name)
		}
		return plan(account, w)
	})
}
