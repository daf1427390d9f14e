package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	apiuserv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/api_user/v1"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	transactionv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/ledger/transaction/v1"
	accountreportv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/reporting/account_report/v1"
	tokentapv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/testing/ledger/token_tap/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// drain returns the messages of a stream, which must end well.
func drain[T any](t *testing.T, stream grpc.ServerStreamingClient[T], err error) (messages []*T) {
	t.Helper()
	for {
		if err != nil {
			t.Fatal(err)
		}
		var message *T
		if message, err = stream.Recv(); errors.Is(err, io.EOF) {
			return messages
		}
		messages = append(messages, message)
	}
}

// TestJourneyOverGRPC is TestJourney as a program with an SDK runs it.
func TestJourneyOverGRPC(t *testing.T) {
	conn, err := grpc.NewClient(startSandbox(t, "--sandbox-clock", "fast", "--sandbox-seed", "11"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	done := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	broker := credential(t, "Broker Admin")
	in := func(key, group string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "x-api-key", key, "x-group", group)
	}
	xlm := &typev1.Token{Code: "XLM", Issuer: "__LEDGER__", Ledger: typev1.Ledger_LEDGER_STELLAR}
	usdc := &typev1.Token{Code: "USDC", Issuer: "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN", Ledger: typev1.Ledger_LEDGER_STELLAR}
	eurc := &typev1.Token{Code: "EURC", Issuer: "GDHU6WRG4IEQXM5NZ4BMPKOXHW76MZM4Y2IEMFDVXBSDP6SJY4ITNPP2", Ledger: typev1.Ledger_LEDGER_STELLAR}
	amount := func(value string, token *typev1.Token) *typev1.Amount {
		return &typev1.Amount{Token: token, Value: &typev1.Decimal{Value: value}}
	}

	groups, users, clients := groupv1.NewGroupServiceClient(conn), apiuserv1.NewAPIUserServiceClient(conn), clientv1.NewClientServiceClient(conn)
	above := in(broker.APIKey, broker.Group)
	group, err := groups.CreateGroup(above, &groupv1.CreateGroupRequest{Group: &groupv1.Group{Owner: broker.Group, DisplayName: "Breakwater"}})
	done(err)
	upper := in(broker.APIKey, group.GetName())
	var roles []string
	for _, role := range broker.Roles {
		roles = append(roles, fmt.Sprintf("%s/roles/%d", group.GetName(), role))
	}
	trader, err := users.CreateAPIUser(upper, &apiuserv1.CreateAPIUserRequest{ApiUser: &apiuserv1.APIUser{Owner: group.GetName(), DisplayName: "Trader", Roles: roles}})
	done(err)
	_, err = users.ActivateAPIUser(upper, &apiuserv1.ActivateAPIUserRequest{Name: trader.GetName()})
	done(err)
	own := in(trader.GetApiKey(), group.GetName())

	client, err := clients.CreateClient(own, &clientv1.CreateClientRequest{Client: &clientv1.Client{
		Owner: group.GetName(), DisplayName: "Breakwater Ltd", VerificationStatus: clientv1.VerificationStatus_VERIFICATION_STATUS_NOT_STARTED}})
	done(err)
	accounts := accountv1.NewAccountServiceClient(conn)
	creation := &accountv1.CreateAccountRequest{Account: &accountv1.Account{Owner: group.GetName(), Ledger: typev1.Ledger_LEDGER_STELLAR, DisplayName: "First"}}
	if _, err := accounts.CreateAccount(own, creation); status.Code(err) != codes.FailedPrecondition {
		t.Fatalf("an account created before the verification: %v", err)
	}
	_, err = clients.StartClientVerification(own, &clientv1.StartClientVerificationRequest{Client: client.GetName()})
	done(err)
	_, err = clients.MarkClientVerified(above, &clientv1.MarkClientVerifiedRequest{Client: client.GetName()})
	done(err)

	succeed := func(transaction string, err error) {
		t.Helper()
		done(err)
		stream, err := transactionv1.NewTransactionServiceClient(conn).MonitorTransactionState(own, &transactionv1.MonitorTransactionStateRequest{Name: transaction})
		states := drain(t, stream, err)
		if last := states[len(states)-1].GetState(); last != transactionv1.TransactionState_TRANSACTION_STATE_SUCCESSFUL {
			t.Fatalf("%s ends at %s", transaction, last)
		}
	}
	account, err := accounts.CreateAccount(own, creation)
	done(err)
	opened, err := accounts.OpenAccount(own, &accountv1.OpenAccountRequest{Name: account.GetName()})
	succeed(opened.GetLedgerTransaction(), err)
	registered, err := accounts.RegisterTokensToAccount(own, &accountv1.RegisterTokensToAccountRequest{Name: account.GetName(), Tokens: []*typev1.Token{xlm, usdc, eurc}})
	succeed(registered.GetLedgerTransaction(), err)

	taps := tokentapv1.NewTokenTapServiceClient(conn)
	_, err = taps.InitialiseTokenTaps(t.Context(), &tokentapv1.InitialiseTokenTapsRequest{})
	done(err)
	_, err = taps.MintToken(t.Context(), &tokentapv1.MintTokenRequest{Amount: amount("1000", usdc), Address: account.GetLedgerId()})
	done(err)

	orders := limitorderv1.NewLimitOrderServiceClient(conn)
	follow := func(order *limitorderv1.LimitOrder) *limitorderv1.LimitOrder {
		t.Helper()
		stream, err := orders.MonitorLimitOrder(own, &limitorderv1.MonitorLimitOrderRequest{
			Identifier: &limitorderv1.MonitorLimitOrderRequest_Name{Name: order.GetName()}, LiveLedgerData: true})
		changes := drain(t, stream, err)
		return changes[len(changes)-1]
	}
	for token, price := range map[*typev1.Token]string{xlm: "0.49", eurc: "2"} {
		order, err := orders.CreateLimitOrder(own, &limitorderv1.CreateLimitOrderRequest{LimitOrder: &limitorderv1.LimitOrder{
			Owner: group.GetName(), Account: account.GetName(), Side: limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY,
			LimitPrice: amount(price, usdc), Quantity: amount("300", token)}})
		done(err)
		if last := follow(order); last.GetState() != limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_COMPLETE || last.GetFilledQuantity().GetValue().GetValue() != "300" {
			t.Fatalf("the order ends as %v", last)
		}
	}
	resting, err := orders.CreateLimitOrder(own, &limitorderv1.CreateLimitOrderRequest{LimitOrder: &limitorderv1.LimitOrder{
		Owner: group.GetName(), Account: account.GetName(), Side: limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY,
		LimitPrice: amount("0.1", usdc), Quantity: amount("100", xlm)}})
	done(err)
	_, err = orders.CancelLimitOrder(own, &limitorderv1.CancelLimitOrderRequest{Name: resting.GetName()})
	done(err)
	if last := follow(resting); last.GetState() != limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_CANCELLED {
		t.Fatalf("the cancelled order ends as %v", last)
	}

	treasury, err := accounts.GetAccount(above, &accountv1.GetAccountRequest{Name: "accounts/00000000000000000000000002"})
	done(err)
	transfers := transferv1.NewTransferServiceClient(conn)
	transfer, err := transfers.CreateTransfer(own, &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{
		Owner: group.GetName(), From: account.GetLedgerId(), To: treasury.GetLedgerId(), Amount: amount("200", xlm)}})
	done(err)
	stream, err := transfers.MonitorTransfer(own, &transferv1.MonitorTransferRequest{Name: transfer.GetName()})
	steps := drain(t, stream, err)
	if last := steps[len(steps)-1].GetState(); last != transferv1.TransferState_TRANSFER_STATE_SUCCESSFUL {
		t.Fatalf("the transfer ends as %s", last)
	}

	report, err := accountreportv1.NewAccountReportServiceClient(conn).GetAccountReport(own, &accountreportv1.GetAccountReportRequest{
		AccountNumber: account.GetNumber(), ReportingAssetToken: &typev1.Token{Code: "ZAR"},
		PeriodStart: timestamppb.New(time.Now().Add(-time.Hour)), PeriodEnd: timestamppb.New(time.Now().Add(time.Hour))})
	done(err)
	// A mint, two orders and a transfer.
	if len(report.GetTradingStatementEntries()) != 4 || len(report.GetFeeEntries()) != 1 || report.GetClientName() != "Breakwater Ltd" {
		t.Fatalf("the report is %v", report)
	}
	if value := report.GetFeeEntries()[0].GetReportedCurrencyValue(); value.GetToken().GetCode() != "ZAR" {
		t.Errorf("the fee is valued at %v", value)
	}
}
