package sandbox

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/xuri/excelize/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	accountreportv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/reporting/account_report/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// workbook writes a report as an .xlsx file, one sheet a section. Amounts stand
// in it as text: a number of a spreadsheet is a float, and money is none.
func workbook(report *accountreportv1.AccountReport) (content []byte, err error) {
	file := excelize.NewFile()
	defer func() { err = errors.Join(err, file.Close()) }()

	summary := [][]any{
		{"Account report"},
		{"Account", report.GetAccountNumber()},
		{"Client", report.GetClientName()},
		{"Address", addressLine(report.GetClientAddress())},
		{"From", day(report.GetPeriod().GetPeriodStart())},
		{"To", day(report.GetPeriod().GetPeriodEnd())},
		{"Reporting currency", report.GetReportingCurrency().GetCode()},
		{"Made", day(report.GetGenerationDate())},
	}
	for _, disclaimer := range report.GetDisclaimers() {
		summary = append(summary, []any{disclaimer.GetTitle(), disclaimer.GetDescription()})
	}
	income := [][]any{{"Date", "Asset", "Token", "Description", "Narrative", "Amount", "Value"}}
	for _, e := range report.GetIncomeEntries() {
		narrative := strings.TrimPrefix(e.GetNarrative().String(), "INCOME_NARRATIVE_")
		income = append(income, []any{day(e.GetDate()), e.GetAssetName(), e.GetToken().GetCode(), e.GetDescription(), narrative, money(e.GetAmount()), money(e.GetReportedCurrencyValue())})
	}
	fees := [][]any{{"Date", "Transaction", "Description", "Token", "Amount", "Value"}}
	for _, e := range report.GetFeeEntries() {
		fees = append(fees, []any{day(e.GetTransactionDate()), e.GetTransactionId(), e.GetDescription(), e.GetTokenCurrency(), money(e.GetAmount()), money(e.GetReportedCurrencyValue())})
	}
	trading := [][]any{{"Date", "Transaction", "Token", "Description", "Amount", "Price", "Cost", "Balance"}}
	for _, e := range report.GetTradingStatementEntries() {
		trading = append(trading, []any{day(e.GetTransactionDate()), e.GetTransactionId(), e.GetTokenCode(), e.GetDescription(), money(e.GetAmount()), money(e.GetPrice()), money(e.GetCost()), money(e.GetBalance())})
	}

	if err := file.SetSheetName("Sheet1", "Summary"); err != nil {
		return nil, fmt.Errorf("sandbox: workbook: %w", err)
	}
	for _, sheet := range []struct {
		name string
		rows [][]any
	}{{"Summary", summary}, {"Income", income}, {"Fees", fees}, {"Trading statement", trading}} {
		if _, err := file.NewSheet(sheet.name); err != nil {
			return nil, fmt.Errorf("sandbox: workbook: %w", err)
		}
		for i, row := range sheet.rows {
			if err := file.SetSheetRow(sheet.name, fmt.Sprintf("A%d", i+1), &row); err != nil {
				return nil, fmt.Errorf("sandbox: workbook: %w", err)
			}
		}
	}
	buffer, err := file.WriteToBuffer()
	if err != nil {
		return nil, fmt.Errorf("sandbox: workbook: %w", err)
	}
	return buffer.Bytes(), nil
}

func day(t *timestamppb.Timestamp) string { return t.AsTime().Format(time.RFC3339) }

func money(amount *typev1.Amount) string {
	if amount == nil {
		return ""
	}
	return amount.GetValue().GetValue() + " " + amount.GetToken().GetCode()
}

func addressLine(address *typev1.Address) string {
	var parts []string
	for _, part := range append(address.GetAddressLines(), address.GetSuburb(), address.GetCity(), address.GetProvince(), address.GetPostalCode(), address.GetCountryCode()) {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ", ")
}
