package sandbox

import (
	"context"
	"encoding/base64"

	"github.com/shopspring/decimal"
	"google.golang.org/protobuf/types/known/timestamppb"

	clientv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/compliance/client/v1"
	accountreportv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/reporting/account_report/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// accountReports is the AccountReportService.
type accountReports struct {
	accountreportv1.UnimplementedAccountReportServiceServer
	store *store
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

// report tells what happened to an account from the start of the period to its
// end, both included. Values are at the prices of now; where a token has no
// price in the reporting currency they are left out.
func (s *accountReports) report(ctx context.Context, request interface {
	GetAccountNumber() string
	GetPeriodStart() *timestamppb.Timestamp
	GetPeriodEnd() *timestamppb.Timestamp
	GetReportingAssetToken() *typev1.Token
}) (*accountreportv1.AccountReport, error) {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	account, err := s.store.accountByNumber(executingGroup(ctx), request.GetAccountNumber())
	if err != nil {
		return nil, err
	}
	currency := tokenOf(request.GetReportingAssetToken())
	if _, err := knownToken("reporting_asset_token", currency); err != nil {
		return nil, err
	}
	start, end := request.GetPeriodStart(), request.GetPeriodEnd()
	report := &accountreportv1.AccountReport{
		ReportingCurrency: request.GetReportingAssetToken(),
		Period:            &accountreportv1.AccountReport_Period{PeriodStart: start, PeriodEnd: end},
		GenerationDate:    timestamppb.New(s.store.now()),
		AccountNumber:     account.GetNumber(),
		Disclaimers: []*accountreportv1.Disclaimer{
			{Title: "Sandbox", Description: "This report contains only test data."},
			{Title: "Values", Description: "Values in the reporting currency use the prices at the time of the report."},
		},
		Copyright: "Mesh sandbox",
	}
	if client := s.store.clientOf(account.GetOwner()); client != nil {
		report.ClientName = client.GetDisplayName()
		report.ClientAddress = clientAddress(client)
	}
	for _, e := range s.store.entries.owned(account.GetName()) {
		if e.At.Before(start.AsTime()) || e.At.After(end.AsTime()) {
			continue
		}
		s.add(report, currency, e)
	}
	return report, nil
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
func (s *accountReports) add(report *accountreportv1.AccountReport, currency token, e *entry) {
	at, amount, value := timestamppb.New(e.At), e.Token.amount(e.Amount), s.value(currency, e.Token, e.Amount)
	switch e.Kind {
	case entryIncome:
		known, _ := instrumentOf(e.Token)
		report.IncomeEntries = append(report.IncomeEntries, &accountreportv1.IncomeEntry{
			AssetName: known.name, Token: e.Token.message(), Date: at, Description: e.Description,
			Narrative: accountreportv1.IncomeNarrative_INCOME_NARRATIVE_DIVIDEND, Amount: amount, ReportedCurrencyValue: value,
		})
	case entryFee:
		report.FeeEntries = append(report.FeeEntries, &accountreportv1.FeeEntry{
			TransactionDate: at, TransactionId: e.Reference, Description: e.Description,
			Amount: amount, ReportedCurrencyValue: value, TokenCurrency: e.Token.Code,
		})
	case entryMovement, entryTrade:
		line := &accountreportv1.TradingStatementEntry{
			TransactionDate: at, TransactionId: e.Reference, TokenCode: e.Token.Code, Description: e.Description,
			Amount: amount, Balance: e.Token.amount(e.Balance),
		}
		if e.Kind == entryTrade {
			line.Price, line.Cost = e.Quote.amount(e.Price), e.Quote.amount(e.Cost)
		}
		report.TradingStatementEntries = append(report.TradingStatementEntries, line)
	}
}

// reportScale is how many decimals a value in the reporting currency has.
const reportScale = 4

func (s *accountReports) value(currency, t token, amount decimal.Decimal) *typev1.Amount {
	if t == currency {
		return currency.amount(amount)
	}
	price, ok := s.store.priceIn(t, currency)
	if !ok {
		return nil
	}
	return currency.amount(amount.Mul(price).Round(reportScale))
}
