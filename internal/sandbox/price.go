package sandbox

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"

	"github.com/shopspring/decimal"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pricev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/market_data/price/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// prices is the PriceService.
type prices struct {
	pricev1.UnimplementedPriceServiceServer
	store *store
}

// market is a pair and its price now.
type market struct {
	Name  string
	Price decimal.Decimal
}

func (m *market) GetName() string   { return m.Name }
func (*market) GetOwner() string    { return "" }
func (*market) GetOwners() []string { return nil }

func (p pair) key() string { return p.base.key() + " in " + p.quote.key() }

// pairOf returns the market of two tokens.
func pairOf(base, quote token) (pair, bool) {
	for _, p := range pairs() {
		if p.base == base && p.quote == quote {
			return p, true
		}
	}
	return pair{}, false
}

// GetCurrentPriceByTokenPair answers with the price of a pair that trades, the
// other way around too.
func (s *prices) GetCurrentPriceByTokenPair(_ context.Context, request *pricev1.GetCurrentPriceByTokenPairRequest) (*pricev1.Price, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	base, quote := tokenOf(request.GetBaseToken()), tokenOf(request.GetQuoteToken())
	price, ok := s.store.priceIn(base, quote)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "The sandbox has no price of %s in %s.", base, quote)
	}
	return &pricev1.Price{
		BaseToken: request.GetBaseToken(), QuoteToken: request.GetQuoteToken(),
		MidPrice: &typev1.Decimal{Value: price.String()}, Time: timestamppb.New(s.store.now()),
	}, nil
}

// invertedScale is how many decimals a price has that was turned around.
const invertedScale = 10

// priceIn is the price of one token in another, if the two are a pair.
func (s *store) priceIn(base, quote token) (decimal.Decimal, bool) {
	if p, ok := pairOf(base, quote); ok {
		return s.markets.byName[p.key()].Price, true
	}
	if p, ok := pairOf(quote, base); ok {
		return decimal.NewFromInt(1).DivRound(s.markets.byName[p.key()].Price, invertedScale), true
	}
	return decimal.Zero, false
}

// maxStep is how far a price walks at a time, in ten-thousandths of itself.
const maxStep = 20

// moveMarkets takes every price a step on its walk. A step depends on the seed,
// the pair and the time alone, so that a walk can be walked again. No price
// leaves the range from half to double of its start.
func (s *store) moveMarkets() {
	for _, p := range pairs() {
		hash := fnv.New64a()
		_, _ = hash.Write([]byte(p.key()))
		_, _ = hash.Write(binary.BigEndian.AppendUint64(nil, s.clock.ticks))
		random := rand.New(rand.NewPCG(s.seed, hash.Sum64())) //nolint:gosec // a market, not a secret
		step := decimal.New(int64(random.IntN(2*maxStep+1)-maxStep), -4)

		now, start := s.markets.byName[p.key()], decimal.RequireFromString(p.start)
		price := now.Price.Add(now.Price.Mul(step)).Round(p.scale)
		if half, double := start.Div(decimal.NewFromInt(2)), start.Mul(decimal.NewFromInt(2)); price.LessThan(half) || price.GreaterThan(double) {
			continue
		}
		must(s.markets.put(&market{Name: now.Name, Price: price}))
	}
}
