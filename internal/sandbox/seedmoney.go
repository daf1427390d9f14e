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

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// year is how long a verification lasts.
const year = 365 * 24 * time.Hour

// seedClients makes the client behind each group: two that are verified, one
// that is not, and one that failed. The broker's client verifies the others.
func (m *mesh) seedClients(tx *store.Tx) error {
	broker := fmt.Sprintf("compliance/clients/%026d", 1)
	verified := func(client *clientv1.Client) *clientv1.Client {
		client.VerificationStatus = clientv1.VerificationStatus_VERIFICATION_STATUS_VERIFIED
		client.Status = clientv1.ClientStatus_CLIENT_STATUS_ACTIVE
		client.VerificationDate = timestamppb.New(m.now(tx).Add(-30 * 24 * time.Hour))
		client.NextVerificationDate = timestamppb.New(m.now(tx).Add(year))
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
		client.Owners = m.path(tx, client.GetOwner())
		client.CreationDate = timestamppb.New(m.now(tx).Add(-60 * 24 * time.Hour))
		if client.GetVerificationAuthority() != "" {
			client.VerificationAuthorityDisplayName = "Harbour Brokers"
		}
		if err := m.clients.Create(tx, client); err != nil {
			return err
		}
	}
	return nil
}

// seedAccounts makes accounts and funds them.
func (m *mesh) seedAccounts(tx *store.Tx) error {
	type balance struct {
		token  ledger.Token
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
		{brokerGroup, "Trading, Stellar", typev1.Ledger_LEDGER_STELLAR, false, 1, []balance{{ledger.XLM(), 100_000}, {ledger.USDC(), 25_000}, {ledger.MZAR(), 500_000}, {ledger.EURC(), 10_000}}, false},
		{brokerGroup, "Treasury, Stellar", typev1.Ledger_LEDGER_STELLAR, false, 1, []balance{{ledger.XLM(), 1_000}, {ledger.USDC(), 250_000}}, false},
		{brokerGroup, "Trading, Ethereum", typev1.Ledger_LEDGER_ETHEREUM, false, 1, []balance{{ledger.ETH(), 40}, {ledger.EthereumUSDC(), 100_000}}, false},
		{brokerGroup, "Shares", typev1.Ledger_LEDGER_SA_STOCK_BROKERS, false, 1, []balance{{ledger.ZAR(), 1_000_000}, {ledger.STX40(), 2_000}}, false},
		{brokerGroup, "Not open yet", typev1.Ledger_LEDGER_STELLAR, true, 1, nil, false},
		{corporateGroup, "Operations, Stellar", typev1.Ledger_LEDGER_STELLAR, false, 10, []balance{{ledger.XLM(), 5_000}, {ledger.USDC(), 10_000}, {ledger.MZAR(), 0}}, false},
		{brokerGroup, "Settlement, Stellar", typev1.Ledger_LEDGER_STELLAR, false, 1, []balance{{ledger.XLM(), 10}}, true},
	} {
		account, err := m.createAccount(tx, fixed(i), &accountv1.Account{
			Name: fmt.Sprintf("accounts/%026d", i+1), Owner: seeded.owner, Ledger: seeded.ledger, DisplayName: seeded.name, InternallyCreated: seeded.internal,
		})
		if err != nil {
			return err
		}
		if seeded.closed {
			continue
		}
		if err := m.ledger.UpdateWallet(tx, account.GetName(), func(w *ledger.Wallet) error {
			w.Open, w.Signatories = true, []string{fmt.Sprintf("iam/api_users/%026d", seeded.signatory)}
			for _, b := range seeded.balances {
				w.Register(b.token)
			}
			return nil
		}); err != nil {
			return err
		}
		for _, b := range seeded.balances {
			if b.amount == 0 {
				continue
			}
			if err := m.seedBalance(tx, account, ledger.Movement, "Opening balance", b.token, b.amount); err != nil {
				return err
			}
		}
		if seeded.ledger == typev1.Ledger_LEDGER_SA_STOCK_BROKERS {
			if err := m.seedBalance(tx, account, ledger.Income, "Dividend of Satrix 40", ledger.ZAR(), 400); err != nil {
				return err
			}
		}
	}
	return m.seedMarketMakers(tx)
}

// seedBalance gives an account tokens, with a line in its history.
func (m *mesh) seedBalance(tx *store.Tx, account *accountv1.Account, kind ledger.EntryKind, description string, t ledger.Token, units int64) error {
	amount := decimal.NewFromInt(units)
	if err := m.ledger.Mint(tx, account.GetName(), t, amount); err != nil {
		return err
	}
	return m.ledger.Record(tx, ledger.Entry{Account: account.GetName(), At: m.now(tx), Kind: kind, Description: description, Token: t, Amount: amount})
}

// fixed is a random source that gives a seeded account the same address in
// every sandbox, so that examples can name it.
func fixed(number int) io.Reader {
	return mathrand.NewChaCha8([32]byte{byte(number), byte(number >> 8)})
}

// seedTransfer makes a transfer that is done.
func (m *mesh) seedTransfer(tx *store.Tx) error {
	from, _ := m.accounts.Get(tx, fmt.Sprintf("accounts/%026d", 2))
	to, _ := m.accounts.Get(tx, fmt.Sprintf("accounts/%026d", 1))
	amount := decimal.NewFromInt(5_000)
	fee, _ := ledger.FeeOf(ledger.USDC(), amount)
	transfer := &transferv1.Transfer{
		Name: fmt.Sprintf("wallet/transfers/%026d", 1), Owner: from.GetOwner(), Owners: from.GetOwners(), Number: "1",
		From: from.GetLedgerId(), To: to.GetLedgerId(), Amount: ledger.USDC().Amount(amount), Description: "Working capital",
		Transaction: fmt.Sprintf("transactions/%026d", 1),
		Fee:         transferFee(ledger.USDC(), fee),
		State:       transferInProgress,
	}
	if err := m.transactions.Create(tx, &transaction{
		Name: transfer.GetTransaction(), Owner: from.GetOwner(), Owners: from.GetOwners(),
		State:  transactionSuccessful,
		Effect: effect{Kind: effectTransfer, Account: from.GetName(), Transfer: transfer.GetName()},
	}); err != nil {
		return err
	}
	if err := m.transfers.Create(tx, transfer); err != nil {
		return err
	}
	t, reserved := transferReservation(transfer)
	if err := m.ledger.Reserve(tx, from.GetName(), t, reserved); err != nil {
		return err
	}
	if err := m.carryOut(tx, transfer.GetName()); err != nil {
		return err
	}
	return m.endTransfer(tx, transfer.GetName(), nil)
}

// seedMarketMakers makes one account of the system on each ledger that trades.
func (m *mesh) seedMarketMakers(tx *store.Tx) error {
	for _, p := range ledger.Pairs() {
		on := p.Base.Ledger
		name := ledger.MarketMaker(on)
		if _, made := m.accounts.Get(tx, name); made {
			continue
		}
		if _, err := m.createAccount(tx, fixed(int(on)<<8), &accountv1.Account{
			Name: name, Owner: rootGroup, Ledger: on, DisplayName: "Market, " + strings.TrimPrefix(on.String(), "LEDGER_"), InternallyCreated: true,
		}); err != nil {
			return err
		}
		if err := m.ledger.UpdateWallet(tx, name, func(w *ledger.Wallet) error {
			w.Open = true
			for _, known := range ledger.Instruments() {
				if known.Ledger == on {
					w.Register(known.Token)
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// seedOrders places orders and lets time pass until some have ended.
func (m *mesh) seedOrders(tx *store.Tx) error {
	const (
		buy  = limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY
		sell = limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_SELL
	)
	const ticksToEnd = 12
	for i, seeded := range []struct {
		account         int
		owner           string
		side            limitorderv1.LimitOrderSide
		base, quote     ledger.Token
		quantity, price string
		cancel          bool
	}{
		{1, brokerGroup, buy, ledger.XLM(), ledger.USDC(), "2000", "0.3", false},
		{1, brokerGroup, buy, ledger.XLM(), ledger.USDC(), "1000", "0.13", false},
		{1, brokerGroup, sell, ledger.XLM(), ledger.MZAR(), "1000", "10", false},
		{3, brokerGroup, sell, ledger.ETH(), ledger.EthereumUSDC(), "2.5", "3100", false},
		{4, brokerGroup, buy, ledger.STX40(), ledger.ZAR(), "100", "61", true},
		{6, corporateGroup, buy, ledger.XLM(), ledger.USDC(), "400", "0.126", false},
	} {
		order := &limitorderv1.LimitOrder{
			Name: fmt.Sprintf("limit_orders/%026d", i+1), Owner: seeded.owner, Account: fmt.Sprintf("accounts/%026d", seeded.account),
			ExternalReference: fmt.Sprintf("seed-%d", i+1), Side: seeded.side,
			LimitPrice: seeded.quote.Amount(decimal.RequireFromString(seeded.price)),
			Quantity:   seeded.base.Amount(decimal.RequireFromString(seeded.quantity)),
		}
		if err := m.placeOrder(tx, order); err != nil {
			return err
		}
		if seeded.cancel {
			if _, err := m.moveOrder(tx, order, orderCancelling); err != nil {
				return err
			}
		}
	}
	for range ticksToEnd {
		if err := m.step(tx); err != nil {
			return err
		}
	}
	for i, owner := range []string{brokerGroup, brokerGroup, corporateGroup} {
		if err := m.marketOrders.Create(tx, &marketOrder{Number: fmt.Sprint(i + 1), Owner: owner, Owners: m.path(tx, owner)}); err != nil {
			return err
		}
	}
	return nil
}
