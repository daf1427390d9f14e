package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

// reports collects what a sandbox reports to its operator.
type reports struct {
	mu   sync.Mutex
	text bytes.Buffer
	// came is closed with the first report.
	came chan struct{}
	once sync.Once
}

func newReports() *reports { return &reports{came: make(chan struct{})} }

func (r *reports) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.once.Do(func() { close(r.came) })
	return r.text.Write(line)
}

func (r *reports) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *reports) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

// reporting starts a sandbox and returns what it reports.
func reporting(t *testing.T, opts ...Option) (*Sandbox, *reports) {
	t.Helper()
	r := newReports()
	s, err := New(append([]Option{WithSeed(1), WithLogger(r.logger())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, r
}

// as is a call of a seeded API user.
func as(ctx context.Context, name, group string) context.Context {
	for _, credential := range Seeded() {
		if credential.DisplayName == name {
			return metadata.AppendToOutgoingContext(ctx, "x-api-key", credential.APIKey, "x-group", group)
		}
	}
	panic("no API user " + name + " is seeded")
}

// done fails the test if a call did not succeed.
func done[T any](t *testing.T) func(T, error) T {
	return func(reply T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
}

func advance(t *testing.T, s *Sandbox, ticks int) {
	t.Helper()
	if err := s.Advance(time.Duration(ticks) * tick); err != nil {
		t.Fatal(err)
	}
}

func amountOf(t ledger.Token, value string) *typev1.Amount {
	return &typev1.Amount{Token: t.Message(), Value: &typev1.Decimal{Value: value}}
}

// TestFillsNeedNoRoom fills the table of orders, first with those of a group that is deep in the tree,
// whose path takes up room in each, and then with smaller ones. When all of them are filled, they are
// larger than the table may be.
func TestFillsNeedNoRoom(t *testing.T) {
	s, r := reporting(t, WithClock(ClockManual), func(o *options) { o.bytes = 128 << 10 })
	group := brokerGroup
	for range 20 {
		group = done[*groupv1.Group](t)(groupv1.NewGroupServiceClient(s.Conn()).CreateGroup(as(t.Context(), "Broker Admin", group),
			&groupv1.CreateGroupRequest{Group: &groupv1.Group{Owner: group, DisplayName: "Deeper"}})).GetName()
	}
	ctx, accounts := as(t.Context(), "Broker Admin", group), accountv1.NewAccountServiceClient(s.Conn())
	account := done[*accountv1.Account](t)(accounts.CreateAccount(ctx, &accountv1.CreateAccountRequest{
		Account: &accountv1.Account{Owner: group, Ledger: typev1.Ledger_LEDGER_STELLAR, DisplayName: "Deep"}}))
	done[*accountv1.OpenAccountResponse](t)(accounts.OpenAccount(ctx, &accountv1.OpenAccountRequest{Name: account.GetName()}))
	advance(t, s, 5)
	done[*accountv1.RegisterTokensToAccountResponse](t)(accounts.RegisterTokensToAccount(ctx, &accountv1.RegisterTokensToAccountRequest{
		Name: account.GetName(), Tokens: []*typev1.Token{ledger.XLM().Message(), ledger.USDC().Message()}}))
	advance(t, s, 5)
	taps := tokentapv1.NewTokenTapServiceClient(s.Conn())
	done[*tokentapv1.InitialiseTokenTapsResponse](t)(taps.InitialiseTokenTaps(ctx, new(tokentapv1.InitialiseTokenTapsRequest)))
	done[*tokentapv1.MintTokenResponse](t)(taps.MintToken(ctx, &tokentapv1.MintTokenRequest{Address: account.GetLedgerId(), Amount: amountOf(ledger.USDC(), "1000")}))

	var last string
	place := func(group, account string) bool {
		order, err := limitorderv1.NewLimitOrderServiceClient(s.Conn()).CreateLimitOrder(as(t.Context(), "Broker Admin", group),
			&limitorderv1.CreateLimitOrderRequest{LimitOrder: &limitorderv1.LimitOrder{Owner: group, Account: account, Side: limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY,
				Quantity: amountOf(ledger.XLM(), "1"), LimitPrice: amountOf(ledger.USDC(), "0.5")}})
		if err == nil {
			last = order.GetName()
			return true
		}
		if status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
		if err := audit(s.mesh); err != nil {
			t.Fatalf("after a refusal: %v", err)
		}
		return false
	}
	for place(group, account.GetName()) { // the bound of the table ends it
	}
	for place(brokerGroup, firstAccount) {
	}
	advance(t, s, 8)
	if state := get(t, s.mesh, s.mesh.orders, last).GetState(); state != orderComplete {
		t.Errorf("the last order is %s", state)
	}
	if err := audit(s.mesh); err != nil {
		t.Error(err)
	}
	if r.String() != "" {
		t.Errorf("reported: %s", r)
	}
}

// TestAMarketWithoutItsTokens deregisters a token of the market maker's, as the root group can,
// while an order is being filled. The order rests, and goes on when the token is back.
func TestAMarketWithoutItsTokens(t *testing.T) {
	s, r := reporting(t, WithClock(ClockManual))
	root, broker := as(t.Context(), "Root Admin", rootGroup), as(t.Context(), "Broker Admin", brokerGroup)
	clients, accounts := clientv1.NewClientServiceClient(s.Conn()), accountv1.NewAccountServiceClient(s.Conn())
	client := done[*clientv1.Client](t)(clients.CreateClient(root, &clientv1.CreateClientRequest{
		Client: &clientv1.Client{Owner: rootGroup, DisplayName: "Exchange", VerificationStatus: notStarted}})).GetName()
	done[*clientv1.Client](t)(clients.StartClientVerification(root, &clientv1.StartClientVerificationRequest{Client: client}))
	done[*clientv1.Client](t)(clients.MarkClientVerified(root, &clientv1.MarkClientVerifiedRequest{Client: client}))

	order := done[*limitorderv1.LimitOrder](t)(limitorderv1.NewLimitOrderServiceClient(s.Conn()).CreateLimitOrder(broker, &limitorderv1.CreateLimitOrderRequest{
		LimitOrder: &limitorderv1.LimitOrder{Owner: brokerGroup, Account: "accounts/00000000000000000000000003", Side: limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_SELL,
			Quantity: amountOf(ledger.ETH(), "20"), LimitPrice: amountOf(ledger.EthereumUSDC(), "1600")}})).GetName()
	maker, token := ledger.MarketMaker(typev1.Ledger_LEDGER_ETHEREUM), []*typev1.Token{ledger.EthereumUSDC().Message()}
	done[*accountv1.DeregisterTokensFromAccountResponse](t)(accounts.DeregisterTokensFromAccount(root, &accountv1.DeregisterTokensFromAccountRequest{Name: maker, Tokens: token}))
	filled := func() string { return get(t, s.mesh, s.mesh.orders, order).GetFilledQuantity().GetValue().GetValue() }
	advance(t, s, 10)
	rests := filled()
	advance(t, s, 10)
	if rests == "0" || rests == "20" || filled() != rests {
		t.Errorf("%s are filled, then %s", rests, filled())
	}
	done[*accountv1.RegisterTokensToAccountResponse](t)(accounts.RegisterTokensToAccount(root, &accountv1.RegisterTokensToAccountRequest{Name: maker, Tokens: token}))
	advance(t, s, 30)
	if filled() != "20" {
		t.Errorf("%s are filled", filled())
	}
	if err := audit(s.mesh); err != nil {
		t.Error(err)
	}
	if r.String() != "" {
		t.Errorf("reported: %s", r)
	}
}

// TestNoRequestPanics sends requests of all methods with contents that are drawn, some of which pass
// the rules of the contract.
func TestNoRequestPanics(t *testing.T) {
	s, r := reporting(t, WithClock(ClockManual), func(o *options) { o.records = 100 })
	methods := contract.Methods()
	rapid.Check(t, func(t *rapid.T) {
		for range 30 {
			method := rapid.SampledFrom(methods).Draw(t, "method")
			request := dynamicpb.NewMessage(method.Descriptor.Input())
			draw(t, request, 0)
			caller := rapid.SampledFrom([]string{"Broker Admin", "Broker Admin", "Corporate Admin", "Root Admin"}).Draw(t, "caller")
			ctx, cancel := context.WithCancel(as(context.Background(), caller, rapid.SampledFrom([]string{brokerGroup, corporateGroup, rootGroup}).Draw(t, "group")))
			stream, err := s.Conn().NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method.Name())
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.SendMsg(request); err != nil {
				t.Fatal(err)
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			err = stream.RecvMsg(dynamicpb.NewMessage(method.Descriptor.Output()))
			cancel()
			if code := status.Code(err); code == codes.Internal || code == codes.Unknown || code == codes.Unavailable {
				t.Fatalf("%s %v: %v", method.Name(), request, err)
			}
		}
		if err := s.Advance(5 * tick); err != nil {
			t.Fatal(err)
		}
		if err := audit(s.mesh); err != nil {
			t.Fatal(err)
		}
	})
	if r.String() != "" {
		t.Errorf("reported: %s", r)
	}
}

// draw fills some of the fields of a message.
func draw(t *rapid.T, message protoreflect.Message, depth int) {
	fields := message.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.IsMap() || rapid.IntRange(0, 9).Draw(t, "set") == 9 {
			continue
		}
		if field.IsList() {
			list := message.Mutable(field).List()
			for range rapid.IntRange(0, 2).Draw(t, "elements") {
				if field.Message() == nil {
					list.Append(drawScalar(t, field))
				} else if depth < 5 {
					draw(t, list.AppendMutable().Message(), depth+1)
				}
			}
			continue
		}
		if field.Message() == nil {
			message.Set(field, drawScalar(t, field))
		} else if depth < 5 {
			draw(t, message.Mutable(field).Message(), depth+1)
		}
	}
}

func drawScalar(t *rapid.T, field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		seeded := func(collection string) *rapid.Generator[string] {
			return rapid.Map(rapid.IntRange(0, 9), func(i int) string { return fmt.Sprintf("%s/%026d", collection, i) })
		}
		return protoreflect.ValueOfString(rapid.OneOf(
			rapid.SampledFrom([]string{"", brokerGroup, corporateGroup, rootGroup, brokerGroup + "/roles/3000001", "XLM", "USDC", "1", "1000001", "0.5", "-1", "1e400", "a@b.example", "ZA", "\x00", strings.Repeat("9", 300)}),
			rapid.SampledFrom([]string{brokerGroup, firstAccount, "1"}),
			seeded("accounts"), seeded("limit_orders"), seeded("wallet/transfers"), seeded("compliance/clients"), seeded("users"), seeded("iam/api_users"), seeded("iam/user_profiles"), seeded("transactions"),
			rapid.String(),
		).Draw(t, "text"))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(rapid.Int32Range(-1, 9).Draw(t, "enum")))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(rapid.Int32().Draw(t, "int"))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(rapid.Int64().Draw(t, "int"))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
	default:
		return field.Default()
	}
}

// TestAPanicEndsOneCall makes the time source panic, which most calls that create something use.
func TestAPanicEndsOneCall(t *testing.T) {
	var broken atomic.Bool
	s, r := reporting(t, WithClock(ClockManual), WithTime(func() time.Time {
		if broken.Load() {
			panic("the battery is empty")
		}
		return time.Now()
	}))
	ctx := as(t.Context(), "Broker Admin", brokerGroup)
	create := func() error {
		_, err := groupv1.NewGroupServiceClient(s.Conn()).CreateGroup(ctx, &groupv1.CreateGroupRequest{Group: &groupv1.Group{Owner: brokerGroup, DisplayName: "New"}})
		return err
	}
	broken.Store(true)
	if err := create(); status.Code(err) != codes.Internal {
		t.Errorf("the call returns %v", err)
	}
	if !strings.Contains(r.String(), "the battery is empty") || !strings.Contains(r.String(), groupv1.GroupService_CreateGroup_FullMethodName) {
		t.Errorf("reported: %s", r)
	}
	broken.Store(false)
	if err := create(); err != nil {
		t.Error(err)
	}

	t.Run("or a stream", func(t *testing.T) {
		err := s.mesh.recoverStream(nil, nil, &grpc.StreamServerInfo{FullMethod: "/a/stream"}, func(any, grpc.ServerStream) error { panic("in a stream") })
		if status.Code(err) != codes.Internal || !strings.Contains(r.String(), "in a stream") {
			t.Errorf("%v, reported: %s", err, r)
		}
	})
	t.Run("or a step of an order", func(t *testing.T) {
		order := done[*limitorderv1.LimitOrder](t)(limitorderv1.NewLimitOrderServiceClient(s.Conn()).CreateLimitOrder(ctx, &limitorderv1.CreateLimitOrderRequest{
			LimitOrder: &limitorderv1.LimitOrder{Owner: brokerGroup, Account: firstAccount, Side: limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY,
				Quantity: amountOf(ledger.XLM(), "1"), LimitPrice: amountOf(ledger.USDC(), "0.5")}})).GetName()
		opened := done[*accountv1.OpenAccountResponse](t)(accountv1.NewAccountServiceClient(s.Conn()).OpenAccount(ctx, &accountv1.OpenAccountRequest{Name: "accounts/00000000000000000000000005"})).GetLedgerTransaction()
		broken.Store(true)
		advance(t, s, 6)
		if err := audit(s.mesh); err != nil {
			t.Error(err)
		}
		if state := get(t, s.mesh, s.mesh.orders, order).GetState(); state != orderOpen || !strings.Contains(r.String(), order) {
			t.Errorf("the order is %s, reported: %s", state, r)
		}
		if state := get(t, s.mesh, s.mesh.transactions, opened).State; state != transactionSuccessful {
			t.Errorf("the order holds up a transaction, which is %s", state)
		}
		broken.Store(false)
		advance(t, s, 6)
		if state := get(t, s.mesh, s.mesh.orders, order).GetState(); state != orderComplete {
			t.Errorf("the order is %s", state)
		}
	})
}

// TestTheClockSurvivesAPanic runs the clock of a store that is not open.
func TestTheClockSurvivesAPanic(t *testing.T) {
	r, stopped, ended := newReports(), make(chan struct{}), make(chan struct{})
	m := &mesh{logger: r.logger(), db: store.New(store.Config{})}
	go func() {
		m.run(time.Millisecond, stopped)
		close(ended)
	}()
	<-r.came
	close(stopped)
	<-ended
	if !strings.Contains(r.String(), "panic") {
		t.Errorf("reported: %s", r)
	}
}

// TestOthersWriteWhileTheClockAdvances advances the clock by an hour.
func TestOthersWriteWhileTheClockAdvances(t *testing.T) {
	m := newTestMesh(t, 1)
	const ticks = int(MaxAdvance / tick)
	advanced := make(chan error, 1)
	go func() { advanced <- m.advance(ticks) }()
	between := false
	for !between {
		now, err := store.Update(m.db, m.clock)
		if err != nil {
			t.Fatal(err)
		}
		between = now.Ticks > 100 && now.Ticks < uint64(ticks)
		if now.Ticks > uint64(ticks) {
			break
		}
	}
	if err := <-advanced; err != nil {
		t.Error(err)
	}
	if !between {
		t.Error("nobody could write before the clock had advanced by an hour")
	}
}
