package sandbox

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/shopspring/decimal"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/meshtrade/mesh-gateway/internal/sandbox/ledger"
	"github.com/meshtrade/mesh-gateway/internal/sandbox/store"
	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	accountreportv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/reporting/account_report/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// accountReports is the AccountReportService.
type accountReports struct {
	accountreportv1.UnimplementedAccountReportServiceServer
	*mesh
}

func (s *accountReports) GetAccountReport(ctx context.Context, request *accountreportv1.GetAccountReportRequest) (*accountreportv1.AccountReport, error) {
	return s.report(ctx, request)
}

// GetExcelAccountReport is the same report as a workbook.
func (s *accountReports) GetExcelAccountReport(ctx context.Context, request *accountreportv1.GetExcelAccountReportRequest) (*accountreportv1.GetExcelAccountReportResponse, error) {
	report, err := s.report(ctx, request)
	if err != nil {
		return nil, err
	}
	file, err := workbook(report)
	if err != nil {
		return nil, err
	}
	return &accountreportv1.GetExcelAccountReportResponse{ExcelBase64: base64.StdEncoding.EncodeToString(file)}, nil
}

// report returns what happened to an account from the start of the period to its end, both included.
// Values are in the reporting currency, at the prices of now. Amounts and balances are quantities of
// their own tokens.
func (s *accountReports) report(ctx context.Context, request interface {
	GetAccountNumber() string
	GetPeriodStart() *timestamppb.Timestamp
	GetPeriodEnd() *timestamppb.Timestamp
	GetReportingAssetToken() *typev1.Token
}) (*accountreportv1.AccountReport, error) {
	return store.View(s.db, func(tx *store.Tx) (*accountreportv1.AccountReport, error) {
		account, err := s.accountByNumber(tx, executingGroup(ctx), request.GetAccountNumber())
		if err != nil {
			return nil, err
		}
		currency := ledger.TokenOf(request.GetReportingAssetToken())
		if !s.ledger.Known(currency.Code) {
			return nil, invalid("reporting_asset_token.code", fmt.Sprintf("must be the code of an asset that has a price, such as ZAR, USD or USDC, not %q", currency.Code))
		}
		start, end := request.GetPeriodStart(), request.GetPeriodEnd()
		report := &accountreportv1.AccountReport{
			ReportingCurrency: request.GetReportingAssetToken(),
			Period:            &accountreportv1.AccountReport_Period{PeriodStart: start, PeriodEnd: end},
			GenerationDate:    timestamppb.New(s.now(tx)),
			AccountNumber:     account.GetNumber(),
			Disclaimers: []*accountreportv1.Disclaimer{
				{Title: "Sandbox", Description: "This report contains only test data."},
				{Title: "Values", Description: "Values in the reporting currency use the prices at the time of the report."},
			},
			Copyright: "Mesh sandbox",
		}
		if client := s.clientOf(tx, account.GetOwner()); client != nil {
			report.ClientName = client.GetDisplayName()
			report.ClientAddress = clientAddress(client)
		}
		for e := range s.ledger.History(tx, account.GetName()) {
			if e.At.Before(start.AsTime()) || e.At.After(end.AsTime()) {
				continue
			}
			s.add(tx, report, currency, e)
		}
		return report, nil
	})
}

// clientAddress is where a client can be written to; funds and trusts have no
// address.
func clientAddress(client *clientv1.Client) *typev1.Address {
	if company := client.GetCompany(); company != nil {
		return company.GetRegisteredAddress()
	}
	return client.GetNaturalPerson().GetPhysicalAddress()
}

// add writes a line of the account's history into the section it belongs to.
func (s *accountReports) add(tx *store.Tx, report *accountreportv1.AccountReport, currency ledger.Token, e *ledger.Entry) {
	at, amount, value := timestamppb.New(e.At), e.Token.Amount(e.Amount), s.value(tx, currency, e.Token, e.Amount)
	switch e.Kind {
	case ledger.Income:
		known, _ := ledger.InstrumentOf(e.Token)
		report.IncomeEntries = append(report.IncomeEntries, &accountreportv1.IncomeEntry{
			AssetName: known.Name, Token: e.Token.Message(), Date: at, Description: e.Description,
			Narrative: accountreportv1.IncomeNarrative_INCOME_NARRATIVE_DIVIDEND, Amount: amount, ReportedCurrencyValue: value,
		})
	case ledger.Fee:
		report.FeeEntries = append(report.FeeEntries, &accountreportv1.FeeEntry{
			TransactionDate: at, TransactionId: e.Reference, Description: e.Description,
			Amount: amount, ReportedCurrencyValue: value, TokenCurrency: e.Token.Code,
		})
	case ledger.Movement, ledger.Trade:
		line := &accountreportv1.TradingStatementEntry{
			TransactionDate: at, TransactionId: e.Reference, TokenCode: e.Token.Code, Description: e.Description,
			Amount: amount, Balance: e.Token.Amount(e.Balance),
		}
		if e.Kind == ledger.Trade {
			line.Price, line.Cost = s.value(tx, currency, e.Quote, e.Price), s.value(tx, currency, e.Quote, e.Cost)
		}
		report.TradingStatementEntries = append(report.TradingStatementEntries, line)
	}
}

// reportScale is how many decimals a value in the reporting currency has.
const reportScale = 8

// value converts an amount to the reporting currency.
func (s *accountReports) value(tx *store.Tx, currency, t ledger.Token, amount decimal.Decimal) *typev1.Amount {
	if t.Code == currency.Code {
		return currency.Amount(amount)
	}
	price, ok := s.ledger.Value(tx, t.Code, currency.Code)
	if !ok {
		return nil // not a token of the sandbox
	}
	return currency.Amount(amount.Mul(price).Round(reportScale))
}
