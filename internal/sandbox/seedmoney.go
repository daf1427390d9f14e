package sandbox

import (
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"github.com/shopspring/decimal"
	"google.golang.org/genproto/googleapis/type/date"
	"google.golang.org/protobuf/types/known/timestamppb"

	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// year is how long a verification lasts.
const year = 365 * 24 * time.Hour

// seedClients makes the client behind each group: two that are verified, one
// that is not, and one that failed. The broker's client verifies the others.
func seedClients(s *store) error {
	broker := fmt.Sprintf("compliance/clients/%026d", 1)
	verified := func(client *clientv1.Client) *clientv1.Client {
		client.VerificationStatus = clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED
		client.Status = clientv1.ClientStatus_CLIENT_STATUS_ACTIVE
		client.VerificationDate = timestamppb.New(s.now().Add(-30 * 24 * time.Hour))
		client.NextVerificationDate = timestamppb.New(s.now().Add(year))
		return client
	}
	harbour := &typev1.Address{AddressLines: []string{"1 Quay Street"}, City: "Cape Town", CountryCode: "ZA", PostalCode: "8001"}
	for i, client := range []*clientv1.Client{
		verified(&clientv1.Client{Owner: brokerGroup, DisplayName: "Harbour Brokers", ShortName: "HBR",
			LegalPerson: &clientv1.Client_Company{Company: &clientv1.Company{
				RegisteredName: "Harbour Brokers Ltd", RegistrationNumber: "2015/000001/06", CountryOfIncorporation: "ZA", RegisteredAddress: harbour}}}),
		verified(&clientv1.Client{Owner: corporateGroup, DisplayName: "Lighthouse Trading", ShortName: "LHT", VerificationAuthority: broker,
			LegalPerson: &clientv1.Client_Company{Company: &clientv1.Company{
				RegisteredName: "Lighthouse Trading Ltd", RegistrationNumber: "2019/000002/06", CountryOfIncorporation: "ZA",
				RegisteredAddress: &typev1.Address{AddressLines: []string{"7 Beacon Road"}, City: "Durban", CountryCode: "ZA", PostalCode: "4001"}}}}),
		{Owner: individualGroup, DisplayName: "Individual", VerificationAuthority: broker,
			VerificationStatus: clientv1.VerificationStatus_VERIFICATION_STATUS_NOT_STARTED,
			Status:             clientv1.ClientStatus_CLIENT_STATUS_COMPLETE_PROFILE,
			LegalPerson: &clientv1.Client_NaturalPerson{NaturalPerson: &clientv1.NaturalPerson{
				FullName: "Sample Person", CountryOfCitizenship: "ZA", DateOfBirth: &date.Date{Year: 1990, Month: 1, Day: 1}}}},
		{Owner: individualGroup, DisplayName: "Dormant Fund", VerificationAuthority: broker,
			VerificationStatus:       clientv1.VerificationStatus_VERIFICATION_STATUS_FAILED,
			VerificationStatusReason: "The proof of registration is illegible.",
			Status:                   clientv1.ClientStatus_CLIENT_STATUS_INACTIVE,
			LegalPerson:              &clientv1.Client_Fund{Fund: &clientv1.Fund{RegisteredName: "Dormant Fund", CountryOfDomicile: "ZA"}}},
		{Owner: individualGroup, DisplayName: "Family Trust", VerificationAuthority: broker,
			VerificationStatus: clientv1.VerificationStatus_VERIFICATION_STATUS_PENDING,
			Status:             clientv1.ClientStatus_CLIENT_STATUS_COMPLETE_PROFILE,
			LegalPerson:        &clientv1.Client_Trust{Trust: &clientv1.Trust{RegisteredName: "Family Trust"}}},
	} {
		client.Name = fmt.Sprintf("compliance/clients/%026d", i+1)
		client.Owners = s.path(client.GetOwner())
		client.CreationDate = timestamppb.New(s.now().Add(-60 * 24 * time.Hour))
		if client.GetVerificationAuthority() != "" {
			client.VerificationAuthorityDisplayName = "Harbour Brokers"
		}
		if err := s.clients.put(client); err != nil {
			return err
		}
	}
	return nil
}

// seedMarkets sets the prices.
func seedMarkets(s *store) error {
	for _, p := range pairs() {
		if err := s.markets.put(&market{Name: p.key(), Price: decimal.RequireFromString(p.start)}); err != nil {
			return err
		}
	}
	return nil
}

// marketMaker is the account on the other side of every trade on a ledger.
func (s *store) marketMaker(ledger typev1.Ledger) string {
	return fmt.Sprintf("accounts/%024dMM", ledger)
}

// seedAccounts makes accounts and funds them.
func seedAccounts(s *store) error {
	type balance struct {
		token  token
		amount int64
	}
	for i, seeded := range []struct {
		owner, name string
		ledger      typev1.Ledger
		closed      bool
		signatory   int
		balances    []balance
		internal    bool
	}{
		{brokerGroup, "Trading, Stellar", typev1.Ledger_LEDGER_STELLAR, false, 1, []balance{{xlm(), 100_000}, {usdc(), 25_000}, {mzar(), 500_000}}, false},
		{brokerGroup, "Treasury, Stellar", typev1.Ledger_LEDGER_STELLAR, false, 1, []balance{{xlm(), 1_000}, {usdc(), 250_000}}, false},
		{brokerGroup, "Trading, Ethereum", typev1.Ledger_LEDGER_ETHEREUM, false, 1, []balance{{eth(), 40}, {ethUSDC(), 100_000}}, false},
		{brokerGroup, "Shares", typev1.Ledger_LEDGER_SA_STOCK_BROKERS, false, 1, []balance{{zar(), 1_000_000}, {lhs(), 2_000}}, false},
		{brokerGroup, "Not open yet", typev1.Ledger_LEDGER_STELLAR, true, 1, nil, false},
		{corporateGroup, "Operations, Stellar", typev1.Ledger_LEDGER_STELLAR, false, 10, []balance{{xlm(), 5_000}, {usdc(), 10_000}, {mzar(), 0}}, false},
		{brokerGroup, "Settlement, Stellar", typev1.Ledger_LEDGER_STELLAR, false, 1, []balance{{xlm(), 10}}, true},
	} {
		account, err := s.createAccount(fixed(i), &accountv1.Account{
			Name: fmt.Sprintf("accounts/%026d", i+1), Owner: seeded.owner, Ledger: seeded.ledger, DisplayName: seeded.name, InternallyCreated: seeded.internal,
		})
		if err != nil {
			return err
		}
		if seeded.closed {
			continue
		}
		w := &wallet{Account: account.GetName(), Open: true, Signatories: []string{fmt.Sprintf("iam/api_users/%026d", seeded.signatory)}}
		for _, b := range seeded.balances {
			w.Holdings = append(w.Holdings, holding{Token: b.token})
		}
		if err := s.wallets.put(w); err != nil {
			return err
		}
		for _, b := range seeded.balances {
			if b.amount == 0 {
				continue
			}
			if err := s.mint(w.Account, b.token, decimal.NewFromInt(b.amount)); err != nil {
				return err
			}
			s.record(entry{Account: w.Account, Kind: entryMovement, Description: "Opening balance", Token: b.token, Amount: decimal.NewFromInt(b.amount)})
		}
		if seeded.ledger == typev1.Ledger_LEDGER_SA_STOCK_BROKERS {
			dividend := decimal.NewFromInt(400)
			if err := s.mint(w.Account, zar(), dividend); err != nil {
				return err
			}
			s.record(entry{Account: w.Account, Kind: entryIncome, Description: "Dividend of Lighthouse Shipping", Token: zar(), Amount: dividend})
		}
	}
	return seedMarketMakers(s)
}

// fixed is a random source that gives a seeded account the same address in
// every sandbox, so that examples can name it.
func fixed(number int) io.Reader {
	return mathrand.NewChaCha8([32]byte{byte(number), byte(number >> 8)})
}

// seedTransfer makes a transfer that is done.
func seedTransfer(s *store) error {
	from, to := s.accounts.byName[fmt.Sprintf("accounts/%026d", 2)], s.accounts.byName[fmt.Sprintf("accounts/%026d", 1)]
	amount := decimal.NewFromInt(5_000)
	fee, vat := feeOf(usdc(), amount)
	transfer := &transferv1.Transfer{
		Name: fmt.Sprintf("wallet/transfers/%026d", 1), Owner: from.GetOwner(), Owners: from.GetOwners(), Number: "1",
		From: from.GetLedgerId(), To: to.GetLedgerId(), Amount: usdc().amount(amount), Description: "Working capital",
		Transaction: fmt.Sprintf("transactions/%026d", 1),
		Fee:         &transferv1.TransferFee{Amount: usdc().amount(fee), VatRate: &typev1.Decimal{Value: vatRate().String()}},
		State:       transferv1.TransferState_TRANSFER_STATE_SUCCESSFUL,
	}
	if err := s.transactions.put(&transaction{
		Name: transfer.GetTransaction(), Owner: from.GetOwner(), Owners: from.GetOwners(),
		State:  transactionv1.TransactionState_TRANSACTION_STATE_SUCCESSFUL,
		Effect: effect{Kind: effectTransfer, Account: from.GetName(), Transfer: transfer.GetName()},
	}); err != nil {
		return err
	}
	if err := s.reserve(from.GetName(), usdc(), amount.Add(fee).Add(vat)); err != nil {
		return err
	}
	if err := s.carryOut(transfer); err != nil {
		return err
	}
	return s.transfers.put(transfer)
}

// seedMarketMakers makes one account of the system on each ledger that trades.
func seedMarketMakers(s *store) error {
	for _, p := range pairs() {
		name := s.marketMaker(p.base.Ledger)
		if _, made := s.accounts.byName[name]; made {
			continue
		}
		ledger := strings.TrimPrefix(p.base.Ledger.String(), "LEDGER_")
		if _, err := s.createAccount(fixed(int(p.base.Ledger)<<8), &accountv1.Account{
			Name: name, Owner: rootGroup, Ledger: p.base.Ledger, DisplayName: "Market, " + ledger, InternallyCreated: true,
		}); err != nil {
			return err
		}
		w := &wallet{Account: name, Open: true}
		for _, known := range instruments() {
			if known.Ledger == p.base.Ledger {
				w.Holdings = append(w.Holdings, holding{Token: known.token})
			}
		}
		if err := s.wallets.put(w); err != nil {
			return err
		}
	}
	return nil
}

// seedOrders places orders and lets time pass until some have ended.
func seedOrders(s *store) error {
	const (
		buy  = limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY
		sell = limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_SELL
	)
	const ticksToEnd = 12
	for i, seeded := range []struct {
		account         int
		owner           string
		side            limitorderv1.LimitOrderSide
		base, quote     token
		quantity, price string
		cancel          bool
	}{
		{1, brokerGroup, buy, xlm(), usdc(), "2000", "0.3", false},
		{1, brokerGroup, buy, xlm(), usdc(), "1000", "0.13", false},
		{1, brokerGroup, sell, xlm(), mzar(), "1000", "8.9", false},
		{3, brokerGroup, sell, eth(), ethUSDC(), "2.5", "3100", false},
		{4, brokerGroup, buy, lhs(), zar(), "100", "61", true},
		{6, corporateGroup, buy, xlm(), usdc(), "400", "0.126", false},
	} {
		order := &limitorderv1.LimitOrder{
			Name: fmt.Sprintf("limit_orders/%026d", i+1), Owner: seeded.owner, Account: fmt.Sprintf("accounts/%026d", seeded.account),
			ExternalReference: fmt.Sprintf("seed-%d", i+1), Side: seeded.side,
			LimitPrice: seeded.quote.amount(decimal.RequireFromString(seeded.price)),
			Quantity:   seeded.base.amount(decimal.RequireFromString(seeded.quantity)),
		}
		if err := s.placeOrder(order); err != nil {
			return err
		}
		if seeded.cancel {
			s.moveOrder(order, orderCancelling)
		}
	}
	for range ticksToEnd {
		s.step()
	}
	for i, owner := range []string{brokerGroup, brokerGroup, corporateGroup} {
		if err := s.marketOrders.put(&marketOrder{Number: fmt.Sprint(i + 1), Owner: owner, Owners: s.path(owner)}); err != nil {
			return err
		}
	}
	return nil
}
