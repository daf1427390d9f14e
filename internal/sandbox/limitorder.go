package sandbox

import (
	"context"
	"slices"
	"strconv"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
)

// limitOrders is the LimitOrderService.
type limitOrders struct {
	limitorderv1.UnimplementedLimitOrderServiceServer
	store *store
}

// Short names for the states of an order.
const (
	orderSubmitting = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_SUBMISSION_IN_PROGRESS
	orderRefused    = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_SUBMISSION_FAILED
	orderOpen       = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_OPEN
	orderCompleting = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_COMPLETE_IN_PROGRESS
	orderComplete   = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_COMPLETE
	orderCancelling = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_CANCELLATION_IN_PROGRESS
	orderCancelled  = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_CANCELLED
)

// orderMoves is the way of an order. Time moves it on, but for cancel:
//
//	SUBMISSION_IN_PROGRESS -> OPEN, or SUBMISSION_FAILED where the market refuses it
//	OPEN -> COMPLETE_IN_PROGRESS once it is filled
//	COMPLETE_IN_PROGRESS -> COMPLETE
//	SUBMISSION_IN_PROGRESS, OPEN -> CANCELLATION_IN_PROGRESS by cancel
//	CANCELLATION_IN_PROGRESS -> CANCELLED
func orderMoves() map[limitorderv1.LimitOrderState][]limitorderv1.LimitOrderState {
	return map[limitorderv1.LimitOrderState][]limitorderv1.LimitOrderState{
		orderSubmitting: {orderOpen, orderRefused, orderCancelling},
		orderOpen:       {orderCompleting, orderCancelling},
		orderCompleting: {orderComplete},
		orderCancelling: {orderCancelled},
	}
}

func final(order *limitorderv1.LimitOrder) bool { return len(orderMoves()[order.GetState()]) == 0 }

// referenceKey finds an order by its reference, which is unique per owner.
func referenceKey(owner, reference string) string {
	if reference == "" {
		return ""
	}
	return owner + " " + reference
}

// CreateLimitOrder reserves what the order can cost and submits it.
func (s *limitOrders) CreateLimitOrder(ctx context.Context, request *limitorderv1.CreateLimitOrderRequest) (*limitorderv1.LimitOrder, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	given, group := request.GetLimitOrder(), executingGroup(ctx)
	if err := mayCreate(group, given.GetOwner()); err != nil {
		return nil, err
	}
	if _, err := s.store.accounts.getForUpdate(group, given.GetAccount()); err != nil {
		return nil, err
	}
	name, err := s.store.name("limit_orders")
	if err != nil {
		return nil, err
	}
	order := &limitorderv1.LimitOrder{
		Name: name, Owner: group, Account: given.GetAccount(), ExternalReference: given.GetExternalReference(),
		Side: given.GetSide(), LimitPrice: given.GetLimitPrice(), Quantity: given.GetQuantity(),
	}
	if err := s.store.placeOrder(order); err != nil {
		return nil, err
	}
	return withoutFills(order, false), nil
}

// placeOrder checks an order and puts it. It keeps the order it is given.
func (s *store) placeOrder(order *limitorderv1.LimitOrder) error {
	quote, price, err := positive("limit_order.limit_price", order.GetLimitPrice())
	if err != nil {
		return err
	}
	base, quantity, err := positive("limit_order.quantity", order.GetQuantity())
	if err != nil {
		return err
	}
	if _, ok := pairOf(base, quote); !ok {
		return precondition("The sandbox has no market that trades %s for %s. Its markets are XLM/USDC, XLM/mZAR, USDC/mZAR, ETH/USDC and LHS/ZAR.", base, quote)
	}
	if taken, ok := s.orders.find(referenceKey(order.GetOwner(), order.GetExternalReference())); ok {
		return status.Errorf(codes.AlreadyExists, "%s already has the external_reference %q, which must be unique for each owner. Use another.", taken.GetName(), order.GetExternalReference())
	}
	// Both tokens must be held: one pays and the other is received.
	for _, t := range []token{base, quote} {
		if err := s.canReceive(order.GetAccount(), t); err != nil {
			return err
		}
	}
	if err := s.orders.room(); err != nil {
		return err
	}
	order.Owners = s.path(order.GetOwner())
	order.Number = strconv.Itoa(len(s.orders.order) + 1)
	order.LimitPrice, order.Quantity = quote.amount(price), base.amount(quantity)
	order.FillPrice, order.FilledQuantity = quote.amount(decimal.Zero), base.amount(decimal.Zero)
	order.State = orderSubmitting
	order.SubmittedAt = timestamppb.New(s.now())
	reserved, amount := reservation(order)
	if err := s.reserve(order.GetAccount(), reserved, amount); err != nil {
		return err
	}
	s.active = append(s.active, order.GetName())
	return s.orders.put(order)
}

// reservation is what an order holds back: price x quantity of the quote token
// for a buy, the quantity for a sell; in both cases of what is not filled yet.
func reservation(order *limitorderv1.LimitOrder) (token, decimal.Decimal) {
	base, quote := tokenOf(order.GetQuantity().GetToken()), tokenOf(order.GetLimitPrice().GetToken())
	left := valueOf(order.GetQuantity()).Sub(valueOf(order.GetFilledQuantity()))
	if final(order) {
		left = decimal.Zero
	}
	if order.GetSide() == limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_SELL {
		return base, left
	}
	return quote, quote.roundUp(valueOf(order.GetLimitPrice()).Mul(left))
}

// changeOrder replaces an order by a changed copy, gives back what it no longer
// reserves and tells who watches it.
func (s *store) changeOrder(order *limitorderv1.LimitOrder, change func(*limitorderv1.LimitOrder)) *limitorderv1.LimitOrder {
	changed := proto.CloneOf(order)
	change(changed)
	if to := changed.GetState(); to != order.GetState() && !slices.Contains(orderMoves()[order.GetState()], to) {
		panic("sandbox: an order cannot go from " + order.GetState().String() + " to " + to.String())
	}
	reserved, before := reservation(order)
	_, after := reservation(changed)
	if !before.Equal(after) {
		must(s.release(order.GetAccount(), reserved, before.Sub(after)))
	}
	must(s.orders.put(changed))
	s.watchers.notify(changed)
	return changed
}

func (s *store) moveOrder(order *limitorderv1.LimitOrder, to limitorderv1.LimitOrderState) *limitorderv1.LimitOrder {
	return s.changeOrder(order, func(order *limitorderv1.LimitOrder) { order.State = to })
}

// advanceOrder takes an order a step on and reports whether there are more.
func (s *store) advanceOrder(order *limitorderv1.LimitOrder) bool {
	switch order.GetState() {
	case orderSubmitting:
		// What it receives may have been deregistered since it was placed.
		for _, t := range []token{tokenOf(order.GetQuantity().GetToken()), tokenOf(order.GetLimitPrice().GetToken())} {
			if s.canReceive(order.GetAccount(), t) != nil {
				s.moveOrder(order, orderRefused)
				return false
			}
		}
		s.moveOrder(order, orderOpen)
	case orderOpen:
		s.fill(order)
	case orderCompleting:
		s.moveOrder(order, orderComplete)
		return false
	case orderCancelling:
		s.moveOrder(order, orderCancelled)
		return false
	default:
		return false
	}
	return true
}

// fill trades what the market takes of an open order in one tick, if the price
// has crossed its limit. The other side is the market's own account, which
// mints what it lacks.
func (s *store) fill(order *limitorderv1.LimitOrder) {
	base, quote := tokenOf(order.GetQuantity().GetToken()), tokenOf(order.GetLimitPrice().GetToken())
	p, _ := pairOf(base, quote)
	price, limit := s.markets.byName[p.key()].Price, valueOf(order.GetLimitPrice())
	buy := order.GetSide() == limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY
	if buy && price.GreaterThan(limit) || !buy && price.LessThan(limit) {
		return
	}
	quantity, filled := valueOf(order.GetQuantity()), valueOf(order.GetFilledQuantity())
	part := decimal.Min(quantity.Sub(filled), decimal.RequireFromString(p.depth))
	// Rounded in the client's favour, so that it never costs more than was
	// reserved.
	cost := quote.roundDown(price.Mul(part))
	paid, got, paidAmount, gotAmount := quote, base, cost, part
	if !buy {
		cost = quote.roundUp(price.Mul(part))
		paid, got, paidAmount, gotAmount = base, quote, part, cost
	}
	if s.canReceive(order.GetAccount(), got) != nil {
		return // it was deregistered: the order rests until it is back or cancelled
	}

	changed := s.changeOrder(order, func(order *limitorderv1.LimitOrder) {
		sum := valueOf(order.GetFillPrice()).Mul(filled).Add(price.Mul(part))
		order.FilledQuantity = base.amount(filled.Add(part))
		order.FillPrice = quote.amount(sum.DivRound(filled.Add(part), fillPriceScale))
		if filled.Add(part).Equal(quantity) {
			order.State = orderCompleting
		}
	})
	maker := s.marketMaker(base.Ledger)
	if lacks := gotAmount.Sub(s.wallets.byName[maker].holding(got).available()); lacks.IsPositive() {
		must(s.mint(maker, got, lacks))
	}
	must(s.move(order.GetAccount(), maker, paid, paidAmount))
	must(s.move(maker, order.GetAccount(), got, gotAmount))
	what := "Buy"
	if !buy {
		what = "Sell"
		part, cost = part.Neg(), cost.Neg()
	}
	s.record(entry{
		Account: changed.GetAccount(), Kind: entryTrade, Reference: changed.GetName(), Description: what + " " + base.Code,
		Token: base, Amount: part, Quote: quote, Price: price, Cost: cost,
	})
}

// fillPriceScale is how many decimals a volume-weighted price has.
const fillPriceScale = 10

// withoutFills is an order as a client sees it: what was filled is told only
// where it is asked for.
func withoutFills(order *limitorderv1.LimitOrder, live bool) *limitorderv1.LimitOrder {
	if live {
		return order
	}
	return &limitorderv1.LimitOrder{
		Name: order.GetName(), Owner: order.GetOwner(), Owners: order.GetOwners(), Account: order.GetAccount(),
		ExternalReference: order.GetExternalReference(), Side: order.GetSide(), LimitPrice: order.GetLimitPrice(),
		Quantity: order.GetQuantity(), State: order.GetState(), Number: order.GetNumber(), SubmittedAt: order.GetSubmittedAt(),
	}
}

func orderViews(orders []*limitorderv1.LimitOrder, live bool) []*limitorderv1.LimitOrder {
	for i, order := range orders {
		orders[i] = withoutFills(order, live)
	}
	return orders
}

// CancelLimitOrder starts the cancellation of an order that still rests. What
// was filled before stays filled.
func (s *limitOrders) CancelLimitOrder(ctx context.Context, request *limitorderv1.CancelLimitOrderRequest) (*limitorderv1.LimitOrder, error) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	order, err := s.store.orders.getForUpdate(executingGroup(ctx), request.GetName())
	if err != nil {
		return nil, err
	}
	if !slices.Contains(orderMoves()[order.GetState()], orderCancelling) {
		return nil, precondition("%s is %s. Only an order that is being submitted or is OPEN can be cancelled.", order.GetName(), order.GetState())
	}
	return withoutFills(s.store.moveOrder(order, orderCancelling), false), nil
}

func (s *limitOrders) GetLimitOrder(ctx context.Context, request *limitorderv1.GetLimitOrderRequest) (*limitorderv1.LimitOrder, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	order, err := s.store.orders.getVisible(executingGroup(ctx), request.GetName())
	if err != nil {
		return nil, err
	}
	return withoutFills(order, request.GetLiveLedgerData()), nil
}

func (s *limitOrders) GetLimitOrderByExternalReference(ctx context.Context, request *limitorderv1.GetLimitOrderByExternalReferenceRequest) (*limitorderv1.LimitOrder, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	order, err := s.store.orderByReference(executingGroup(ctx), request.GetExternalReference())
	if err != nil {
		return nil, err
	}
	return withoutFills(order, request.GetLiveLedgerData()), nil
}

// orderByReference finds the group's own order of a reference, and else the
// oldest of a group below it: a reference is unique per owner only.
func (s *store) orderByReference(group, reference string) (*limitorderv1.LimitOrder, error) {
	if order, ok := s.orders.find(referenceKey(group, reference)); ok {
		return order, nil
	}
	found := s.orders.visible(group, func(order *limitorderv1.LimitOrder) bool { return order.GetExternalReference() == reference })
	if len(found) == 0 {
		return nil, status.Errorf(codes.NotFound, "There is no limit order with the external_reference %q that is visible to %s.", reference, group)
	}
	return found[0], nil
}

func (s *limitOrders) ListLimitOrders(ctx context.Context, request *limitorderv1.ListLimitOrdersRequest) (*limitorderv1.ListLimitOrdersResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	found := s.store.orders.visible(executingGroup(ctx), every)
	return &limitorderv1.ListLimitOrdersResponse{LimitOrders: orderViews(found, request.GetLiveLedgerData())}, nil
}

// SearchLimitOrders narrows by whatever is given; token is the code of either
// token of the pair.
func (s *limitOrders) SearchLimitOrders(ctx context.Context, request *limitorderv1.SearchLimitOrdersRequest) (*limitorderv1.SearchLimitOrdersResponse, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	found := s.store.orders.visible(executingGroup(ctx), func(order *limitorderv1.LimitOrder) bool {
		code := request.GetToken()
		return (code == "" || code == order.GetQuantity().GetToken().GetCode() || code == order.GetLimitPrice().GetToken().GetCode()) &&
			(request.GetAccount() == "" || request.GetAccount() == order.GetAccount()) &&
			(len(request.GetStates()) == 0 || slices.Contains(request.GetStates(), order.GetState()))
	})
	return &limitorderv1.SearchLimitOrdersResponse{LimitOrders: orderViews(found, request.GetLiveLedgerData())}, nil
}

// MonitorLimitOrder sends the order and each change of it, parts that are
// filled included, and ends at a final state.
func (s *limitOrders) MonitorLimitOrder(request *limitorderv1.MonitorLimitOrderRequest, stream grpc.ServerStreamingServer[limitorderv1.LimitOrder]) error {
	ctx := stream.Context()
	return watch(ctx, s.store,
		func() (*limitorderv1.LimitOrder, error) {
			switch request.GetIdentifier().(type) {
			case *limitorderv1.MonitorLimitOrderRequest_Name:
				return s.store.orders.getVisible(executingGroup(ctx), request.GetName())
			case *limitorderv1.MonitorLimitOrderRequest_ExternalReference:
				return s.store.orderByReference(executingGroup(ctx), request.GetExternalReference())
			}
			return nil, invalid("identifier", "must be the name or the external_reference of an order")
		},
		final,
		func(order *limitorderv1.LimitOrder) error {
			return stream.Send(withoutFills(order, request.GetLiveLedgerData()))
		})
}
