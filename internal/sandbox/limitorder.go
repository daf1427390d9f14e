package sandbox

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
)

// limitOrders is the LimitOrderService.
type limitOrders struct {
	limitorderv1.UnimplementedLimitOrderServiceServer
	*mesh
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
	return store.Update(s.db, func(tx *store.Tx) (*limitorderv1.LimitOrder, error) {
		given, group := request.GetLimitOrder(), executingGroup(ctx)
		if err := mayCreate(group, given.GetOwner()); err != nil {
			return nil, err
		}
		if _, err := getForUpdate(tx, s.accounts, group, given.GetAccount()); err != nil {
			return nil, err
		}
		name, err := s.newName(tx, "limit_orders")
		if err != nil {
			return nil, err
		}
		order := &limitorderv1.LimitOrder{
			Name: name, Owner: group, Account: given.GetAccount(), ExternalReference: given.GetExternalReference(),
			Side: given.GetSide(), LimitPrice: given.GetLimitPrice(), Quantity: given.GetQuantity(),
		}
		if err := s.placeOrder(tx, order); err != nil {
			return nil, err
		}
		return orderView(order, false), nil
	})
}

// placeOrder checks an order and puts it. It keeps the order it is given.
func (m *mesh) placeOrder(tx *store.Tx, order *limitorderv1.LimitOrder) error {
	quote, price, err := positive("limit_order.limit_price", order.GetLimitPrice())
	if err != nil {
		return err
	}
	base, quantity, err := positive("limit_order.quantity", order.GetQuantity())
	if err != nil {
		return err
	}
	if _, ok := ledger.PairOf(base, quote); !ok {
		return precondition("The sandbox has no market that trades %s for %s. Its markets are %s.", base, quote, markets())
	}
	if taken, ok := m.orders.Find(tx, referenceKey(order.GetOwner(), order.GetExternalReference())); ok {
		return status.Errorf(codes.AlreadyExists, "%s already has the external_reference %q, which must be unique for each owner. Use another.", taken.GetName(), order.GetExternalReference())
	}
	if err := m.ledger.CanTrade(tx, order.GetAccount(), base, quote); err != nil {
		return err
	}
	order.Owners = m.path(tx, order.GetOwner())
	order.Number = strconv.Itoa(m.orders.Count(tx) + 1)
	order.LimitPrice, order.Quantity = quote.Amount(price), base.Amount(quantity)
	order.FillPrice, order.FilledQuantity = quote.Amount(decimal.Zero), base.Amount(decimal.Zero)
	order.State = orderSubmitting
	order.SubmittedAt = timestamppb.New(m.now(tx))
	reserved, amount := reservation(order)
	if err := m.ledger.Reserve(tx, order.GetAccount(), reserved, amount); err != nil {
		return err
	}
	return m.orders.Create(tx, order)
}

// markets lists the markets for an error.
func markets() string {
	names := make([]string, 0, len(ledger.Pairs()))
	for _, p := range ledger.Pairs() {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}

// tokens returns what an order buys or sells, and what its price is in.
func tokens(order *limitorderv1.LimitOrder) (base, quote ledger.Token) {
	return ledger.TokenOf(order.GetQuantity().GetToken()), ledger.TokenOf(order.GetLimitPrice().GetToken())
}

// reservation is what an order holds back: price x quantity of the quote token
// for a buy, the quantity for a sell; in both cases of what is not filled yet.
func reservation(order *limitorderv1.LimitOrder) (ledger.Token, decimal.Decimal) {
	base, quote := tokens(order)
	left := ledger.ValueOf(order.GetQuantity()).Sub(ledger.ValueOf(order.GetFilledQuantity()))
	if final(order) {
		left = decimal.Zero
	}
	if order.GetSide() == limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_SELL {
		return base, left
	}
	return quote, quote.RoundUp(ledger.ValueOf(order.GetLimitPrice()).Mul(left))
}

// changeOrder replaces an order by a changed copy and gives back what it no longer reserves.
func (m *mesh) changeOrder(tx *store.Tx, order *limitorderv1.LimitOrder, change func(*limitorderv1.LimitOrder)) (*limitorderv1.LimitOrder, error) {
	changed := proto.CloneOf(order)
	change(changed)
	if to := changed.GetState(); to != order.GetState() && !slices.Contains(orderMoves()[order.GetState()], to) {
		return nil, fmt.Errorf("sandbox: %s cannot go from %s to %s", order.GetName(), order.GetState(), to)
	}
	reserved, before := reservation(order)
	_, after := reservation(changed)
	if !before.Equal(after) {
		if err := m.ledger.Release(tx, order.GetAccount(), reserved, before.Sub(after)); err != nil {
			return nil, err
		}
	}
	return changed, m.orders.Update(tx, changed)
}

func (m *mesh) moveOrder(tx *store.Tx, order *limitorderv1.LimitOrder, to limitorderv1.LimitOrderState) (*limitorderv1.LimitOrder, error) {
	return m.changeOrder(tx, order, func(order *limitorderv1.LimitOrder) { order.State = to })
}

// advanceOrder takes an order a step on.
func (m *mesh) advanceOrder(tx *store.Tx, order *limitorderv1.LimitOrder) error {
	base, quote := tokens(order)
	next := order.GetState()
	switch next {
	case orderSubmitting:
		next = orderOpen
		if m.ledger.CanTrade(tx, order.GetAccount(), base, quote) != nil { // a token was deregistered since it was placed
			next = orderRefused
		}
	case orderOpen:
		return m.fill(tx, order)
	case orderCompleting:
		next = orderComplete
	case orderCancelling:
		next = orderCancelled
	}
	_, err := m.moveOrder(tx, order, next)
	return err
}

// fill trades what the market takes of an open order in one tick, if the price has crossed its
// limit. The other side is the market maker.
func (m *mesh) fill(tx *store.Tx, order *limitorderv1.LimitOrder) error {
	base, quote := tokens(order)
	p, _ := ledger.PairOf(base, quote)
	price, ok := m.ledger.Price(tx, base.Code, quote.Code)
	if !ok {
		return fmt.Errorf("sandbox: %s in %s has no price", base, quote)
	}
	limit := ledger.ValueOf(order.GetLimitPrice())
	buy := order.GetSide() == limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY
	if buy && price.GreaterThan(limit) || !buy && price.LessThan(limit) {
		return nil
	}
	if m.ledger.CanTrade(tx, order.GetAccount(), base, quote) != nil {
		return nil // a token was deregistered: the order rests until it is back or cancelled
	}

	quantity, filled := ledger.ValueOf(order.GetQuantity()), ledger.ValueOf(order.GetFilledQuantity())
	part := decimal.Min(quantity.Sub(filled), p.Depth())
	changed, err := m.changeOrder(tx, order, func(order *limitorderv1.LimitOrder) {
		sum := ledger.ValueOf(order.GetFillPrice()).Mul(filled).Add(price.Mul(part))
		order.FilledQuantity = base.Amount(filled.Add(part))
		order.FillPrice = quote.Amount(sum.DivRound(filled.Add(part), fillPriceScale))
		if filled.Add(part).Equal(quantity) {
			order.State = orderCompleting
		}
	})
	if err != nil {
		return err
	}
	entry := ledger.Entry{
		Account: changed.GetAccount(), At: m.now(tx), Kind: ledger.Trade, Reference: changed.GetName(),
		Token: base, Quote: quote, Price: price,
	}
	// Rounded in the client's favour, so that a buy never costs more than was reserved.
	if buy {
		cost := quote.RoundDown(price.Mul(part))
		entry.Description, entry.Amount, entry.Cost = "Buy "+base.Code, part, cost
		err = m.ledger.Trade(tx, changed.GetAccount(), quote, cost, base, part)
	} else {
		cost := quote.RoundUp(price.Mul(part))
		entry.Description, entry.Amount, entry.Cost = "Sell "+base.Code, part.Neg(), cost.Neg()
		err = m.ledger.Trade(tx, changed.GetAccount(), base, part, quote, cost)
	}
	if err != nil {
		return err
	}
	return m.ledger.Record(tx, entry)
}

// fillPriceScale is how many decimals a volume-weighted price has.
const fillPriceScale = 10

// orderView is an order as a client sees it. The state and what was filled come from the ledger, so they
// are returned only if live data is requested.
func orderView(order *limitorderv1.LimitOrder, live bool) *limitorderv1.LimitOrder {
	if live {
		return order
	}
	return &limitorderv1.LimitOrder{
		Name: order.GetName(), Owner: order.GetOwner(), Owners: order.GetOwners(), Account: order.GetAccount(),
		ExternalReference: order.GetExternalReference(), Side: order.GetSide(), LimitPrice: order.GetLimitPrice(),
		Quantity: order.GetQuantity(), Number: order.GetNumber(), SubmittedAt: order.GetSubmittedAt(),
	}
}

func orderViews(orders []*limitorderv1.LimitOrder, live bool) []*limitorderv1.LimitOrder {
	for i, order := range orders {
		orders[i] = orderView(order, live)
	}
	return orders
}

// CancelLimitOrder starts the cancellation of an order that still rests. What
// was filled before stays filled.
func (s *limitOrders) CancelLimitOrder(ctx context.Context, request *limitorderv1.CancelLimitOrderRequest) (*limitorderv1.LimitOrder, error) {
	return store.Update(s.db, func(tx *store.Tx) (*limitorderv1.LimitOrder, error) {
		order, err := getForUpdate(tx, s.orders, executingGroup(ctx), request.GetName())
		if err != nil {
			return nil, err
		}
		if !slices.Contains(orderMoves()[order.GetState()], orderCancelling) {
			return nil, precondition("%s is %s. Only an order that is being submitted or is OPEN can be cancelled.", order.GetName(), order.GetState())
		}
		cancelling, err := s.moveOrder(tx, order, orderCancelling)
		if err != nil {
			return nil, err
		}
		return orderView(cancelling, false), nil
	})
}

func (s *limitOrders) GetLimitOrder(ctx context.Context, request *limitorderv1.GetLimitOrderRequest) (*limitorderv1.LimitOrder, error) {
	return store.View(s.db, func(tx *store.Tx) (*limitorderv1.LimitOrder, error) {
		order, err := getVisible(tx, s.orders, executingGroup(ctx), request.GetName())
		if err != nil {
			return nil, err
		}
		return orderView(order, request.GetLiveLedgerData()), nil
	})
}

func (s *limitOrders) GetLimitOrderByExternalReference(ctx context.Context, request *limitorderv1.GetLimitOrderByExternalReferenceRequest) (*limitorderv1.LimitOrder, error) {
	return store.View(s.db, func(tx *store.Tx) (*limitorderv1.LimitOrder, error) {
		order, err := s.orderByReference(tx, executingGroup(ctx), request.GetExternalReference())
		if err != nil {
			return nil, err
		}
		return orderView(order, request.GetLiveLedgerData()), nil
	})
}

// orderByReference finds the group's own order of a reference, and else the
// oldest of a group below it: a reference is unique per owner only.
func (m *mesh) orderByReference(tx *store.Tx, group, reference string) (*limitorderv1.LimitOrder, error) {
	if order, ok := m.orders.Find(tx, referenceKey(group, reference)); ok {
		return order, nil
	}
	found := visible(tx, m.orders, group, func(order *limitorderv1.LimitOrder) bool { return order.GetExternalReference() == reference })
	if len(found) == 0 {
		return nil, status.Errorf(codes.NotFound, "There is no limit order with the external_reference %q that is visible to %s.", reference, group)
	}
	return found[0], nil
}

func (s *limitOrders) ListLimitOrders(ctx context.Context, request *limitorderv1.ListLimitOrdersRequest) (*limitorderv1.ListLimitOrdersResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*limitorderv1.ListLimitOrdersResponse, error) {
		found := visible(tx, s.orders, executingGroup(ctx), every)
		return &limitorderv1.ListLimitOrdersResponse{LimitOrders: orderViews(found, request.GetLiveLedgerData())}, nil
	})
}

// SearchLimitOrders narrows by whatever is given; token is the code of either
// token of the pair.
func (s *limitOrders) SearchLimitOrders(ctx context.Context, request *limitorderv1.SearchLimitOrdersRequest) (*limitorderv1.SearchLimitOrdersResponse, error) {
	return store.View(s.db, func(tx *store.Tx) (*limitorderv1.SearchLimitOrdersResponse, error) {
		found := visible(tx, s.orders, executingGroup(ctx), func(order *limitorderv1.LimitOrder) bool {
			code := request.GetToken()
			return (code == "" || code == order.GetQuantity().GetToken().GetCode() || code == order.GetLimitPrice().GetToken().GetCode()) &&
				(request.GetAccount() == "" || request.GetAccount() == order.GetAccount()) &&
				(len(request.GetStates()) == 0 || slices.Contains(request.GetStates(), order.GetState()))
		})
		return &limitorderv1.SearchLimitOrdersResponse{LimitOrders: orderViews(found, request.GetLiveLedgerData())}, nil
	})
}

// MonitorLimitOrder sends the order and each change of its state, and ends at a final state. A part that
// is filled is no change of the state. The state is always set, and the fills only if live data is
// requested.
func (s *limitOrders) MonitorLimitOrder(request *limitorderv1.MonitorLimitOrderRequest, stream grpc.ServerStreamingServer[limitorderv1.LimitOrder]) error {
	ctx := stream.Context()
	sent := limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_UNSPECIFIED
	return store.Watch(ctx, s.db, s.orders,
		func(tx *store.Tx) (*limitorderv1.LimitOrder, error) {
			switch request.GetIdentifier().(type) {
			case *limitorderv1.MonitorLimitOrderRequest_Name:
				return getVisible(tx, s.orders, executingGroup(ctx), request.GetName())
			case *limitorderv1.MonitorLimitOrderRequest_ExternalReference:
				return s.orderByReference(tx, executingGroup(ctx), request.GetExternalReference())
			}
			return nil, invalid("identifier", "must be the name or the external_reference of an order")
		},
		final,
		func(order *limitorderv1.LimitOrder) error {
			if order.GetState() == sent {
				return nil
			}
			sent = order.GetState()
			if request.GetLiveLedgerData() {
				return stream.Send(order)
			}
			view := orderView(order, false)
			view.State = sent
			return stream.Send(view)
		})
}
