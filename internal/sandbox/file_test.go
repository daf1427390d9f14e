package sandbox_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

// openFile starts a sandbox on a file; the caller closes it.
func openFile(t *testing.T, path string) (*sandbox.Sandbox, mesh) {
	t.Helper()
	s, err := sandbox.New(sandbox.WithFile(path), sandbox.WithClock(sandbox.ClockManual), sandbox.WithSeed(3))
	if err != nil {
		t.Fatal(err)
	}
	m := mesh{s.Conn(), make(map[string]sandbox.Credential)}
	for _, credential := range sandbox.Seeded() {
		m.seeded[credential.DisplayName] = credential
	}
	return s, m
}

func closeSandbox(t *testing.T, s *sandbox.Sandbox) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// everything is what the broker can see of a sandbox.
func everything(t *testing.T, m mesh) []proto.Message {
	t.Helper()
	ctx := m.as(t, "Broker Admin")
	users, err := apiuserv1.NewAPIUserServiceClient(m).ListAPIUsers(ctx, &apiuserv1.ListAPIUsersRequest{})
	wantCode(t, err, codes.OK)
	accounts, err := accountv1.NewAccountServiceClient(m).ListAccounts(ctx, &accountv1.ListAccountsRequest{PopulateLedgerData: true})
	wantCode(t, err, codes.OK)
	orders, err := limitorderv1.NewLimitOrderServiceClient(m).ListLimitOrders(ctx, &limitorderv1.ListLimitOrdersRequest{LiveLedgerData: true})
	wantCode(t, err, codes.OK)
	return []proto.Message{users, accounts, orders}
}

func TestAFileKeepsTheState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sandbox.db")
	s, m := openFile(t, path)
	user, err := apiuserv1.NewAPIUserServiceClient(m).CreateAPIUser(m.as(t, "Broker Admin"), &apiuserv1.CreateAPIUserRequest{
		ApiUser: &apiuserv1.APIUser{Owner: m.seeded["Broker Admin"].Group, DisplayName: "Kept"}})
	wantCode(t, err, codes.OK)
	opened, err := accountv1.NewAccountServiceClient(m).OpenAccount(m.as(t, "Broker Admin"), &accountv1.OpenAccountRequest{Name: "accounts/00000000000000000000000005"})
	wantCode(t, err, codes.OK)
	if err := s.Advance(500 * time.Millisecond); err != nil { // half way
		t.Fatal(err)
	}
	before := everything(t, m)
	closeSandbox(t, s)

	s, m = openFile(t, path)
	defer closeSandbox(t, s)
	if diff := cmp.Diff(before, everything(t, m), protocmp.Transform()); diff != "" {
		t.Errorf("what was there and what is:\n%s", diff)
	}

	t.Run("a key that was given out is known", func(t *testing.T) {
		m.seeded["Kept"] = sandbox.Credential{APIKey: user.GetApiKey(), Group: user.GetOwner()}
		_, err := apiuserv1.NewAPIUserServiceClient(m).ActivateAPIUser(m.as(t, "Broker Admin"), &apiuserv1.ActivateAPIUserRequest{Name: user.GetName()})
		wantCode(t, err, codes.OK)
		_, err = apiuserv1.NewAPIUserServiceClient(m).ListAPIUsers(m.as(t, "Kept"), &apiuserv1.ListAPIUsersRequest{})
		wantCode(t, err, codes.PermissionDenied) // known, without a role
	})
	t.Run("a key of the same seed is another one", func(t *testing.T) {
		other, err := apiuserv1.NewAPIUserServiceClient(m).CreateAPIUser(m.as(t, "Broker Admin"), &apiuserv1.CreateAPIUserRequest{
			ApiUser: &apiuserv1.APIUser{Owner: user.GetOwner(), DisplayName: "Later"}})
		wantCode(t, err, codes.OK)
		if other.GetApiKey() == user.GetApiKey() || other.GetName() == user.GetName() {
			t.Error("a name or key was given twice")
		}
	})
	t.Run("what was under way goes on", func(t *testing.T) {
		if err := s.Advance(time.Second); err != nil {
			t.Fatal(err)
		}
		state, err := transactionv1.NewTransactionServiceClient(m).GetTransactionState(m.as(t, "Broker Admin"), &transactionv1.GetTransactionStateRequest{Name: opened.GetLedgerTransaction()})
		wantCode(t, err, codes.OK)
		if state.GetState() != transactionv1.TransactionState_TRANSACTION_STATE_SUCCESSFUL {
			t.Errorf("the transaction is %s", state.GetState())
		}
	})
}

// TestACrashLosesNothing copies the file while the sandbox runs, which is what
// a crash leaves, and opens the copy.
func TestACrashLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sandbox.db")
	s, m := openFile(t, path)
	defer closeSandbox(t, s)
	order, err := limitorderv1.NewLimitOrderServiceClient(m).CreateLimitOrder(m.as(t, "Broker Admin"), &limitorderv1.CreateLimitOrderRequest{LimitOrder: &limitorderv1.LimitOrder{
		Owner: m.seeded["Broker Admin"].Group, Account: "accounts/00000000000000000000000003", Side: limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY,
		Quantity:   &typev1.Amount{Token: eth(), Value: &typev1.Decimal{Value: "0.5"}},
		LimitPrice: &typev1.Amount{Token: &typev1.Token{Code: "USDC", Issuer: "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", Ledger: typev1.Ledger_LEDGER_ETHEREUM}, Value: &typev1.Decimal{Value: "1700.25"}},
	}})
	wantCode(t, err, codes.OK)

	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	crashed := filepath.Join(t.TempDir(), "crashed.db")
	if err := os.WriteFile(crashed, content, 0o600); err != nil {
		t.Fatal(err)
	}
	again, m := openFile(t, crashed)
	defer closeSandbox(t, again)
	got, err := limitorderv1.NewLimitOrderServiceClient(m).GetLimitOrder(m.as(t, "Broker Admin"), &limitorderv1.GetLimitOrderRequest{Name: order.GetName()})
	wantCode(t, err, codes.OK)
	if diff := cmp.Diff(order, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestResetAlsoClearsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sandbox.db")
	s, m := openFile(t, path)
	seeded := everything(t, m)
	_, err := apiuserv1.NewAPIUserServiceClient(m).CreateAPIUser(m.as(t, "Broker Admin"), &apiuserv1.CreateAPIUserRequest{
		ApiUser: &apiuserv1.APIUser{Owner: m.seeded["Broker Admin"].Group, DisplayName: "Forgotten"}})
	wantCode(t, err, codes.OK)
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(seeded, everything(t, m), protocmp.Transform()); diff != "" {
		t.Errorf("the seed and what a reset leaves:\n%s", diff)
	}
	closeSandbox(t, s)
	s, m = openFile(t, path)
	defer closeSandbox(t, s)
	if diff := cmp.Diff(seeded, everything(t, m), protocmp.Transform()); diff != "" {
		t.Errorf("the seed and what the file holds:\n%s", diff)
	}
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	taken := filepath.Join(dir, "taken")
	s, _ := openFile(t, taken)
	defer closeSandbox(t, s)
	for _, test := range []struct{ name, path, want string }{
		{"another kind of file", text, "this is not a sandbox file"},
		{"open elsewhere", taken, "in use by another sandbox"},
		{"a folder that is not there", filepath.Join(dir, "none", "file"), "no such file or directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := sandbox.New(sandbox.WithFile(test.path))
			if err == nil {
				closeSandbox(t, s)
				t.Fatal("it opens")
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.path) {
				t.Errorf("the error is %q", err)
			}
		})
	}
	if content, err := os.ReadFile(text); err != nil || !strings.HasPrefix(string(content), "not a database") {
		t.Error("a file of another kind was written to")
	}
}
