package sandbox_test

import (
	"bytes"
	"encoding/base64"
	"slices"
	"testing"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/sandbox"
	"github.com/shopspring/decimal"

	"github.com/google/go-cmp/cmp"
	"github.com/xuri/excelize/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	accountreportv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/reporting/account_report/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// The manual clock starts here.
var clockStart = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

func (m standing) report(t *testing.T, caller, number string, from, to time.Time, currency *typev1.Token) (*accountreportv1.AccountReport, error) {
	t.Helper()
	return accountreportv1.NewAccountReportServiceClient(m).GetAccountReport(m.as(t, caller), &accountreportv1.GetAccountReportRequest{
		AccountNumber: number, PeriodStart: timestamppb.New(from), PeriodEnd: timestamppb.New(to), ReportingAssetToken: currency})
}

func descriptions(report *accountreportv1.AccountReport) (found []string) {
	for _, line := range report.GetTradingStatementEntries() {
		found = append(found, line.GetDescription()+" "+line.GetAmount().GetValue().GetValue()+" "+line.GetTokenCode())
	}
	return found
}

func TestReportTellsWhatHappened(t *testing.T) {
	m := newStanding(t)
	m.tick(t, 100)
	begin := clockStart.Add(20 * time.Second)
	_, err := m.transfer(t, m.address(t, tradingAccount), m.address(t, treasuryAccount), amountOf(xlm(), "100"))
	wantCode(t, err, codes.OK)
	m.order(t, sell, "700", "0.15", "")
	m.tick(t, 8)

	report, err := m.report(t, "Broker Admin", "1000001", begin, clockStart.Add(time.Hour), usdc())
	wantCode(t, err, codes.OK)
	got := descriptions(report)
	slices.Sort(got)
	want := []string{"Sell XLM -200 XLM", "Sell XLM -500 XLM", "Transfer to " + m.address(t, treasuryAccount) + " -100 XLM"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(report.GetFeeEntries()) != 1 || report.GetFeeEntries()[0].GetAmount().GetValue().GetValue() != "0.115" ||
		report.GetFeeEntries()[0].GetReportedCurrencyValue().GetToken().GetCode() != "USDC" {
		t.Errorf("the fees are %v", report.GetFeeEntries())
	}
	for _, line := range report.GetTradingStatementEntries() {
		if trade := line.GetPrice() != nil; trade != (line.GetCost() != nil) || line.GetBalance() == nil || line.GetTransactionId() == "" {
			t.Errorf("a line is %v", line)
		}
	}
	if report.GetClientName() != "Harbour Brokers" || report.GetClientAddress().GetCity() != "Cape Town" || report.GetAccountNumber() != "1000001" || len(report.GetDisclaimers()) == 0 {
		t.Errorf("the head is %v", report)
	}

	t.Run("the receiver's", func(t *testing.T) {
		report, err := m.report(t, "Broker Admin", "1000002", begin, clockStart.Add(time.Hour), usdc())
		wantCode(t, err, codes.OK)
		if got := descriptions(report); len(got) != 1 || len(report.GetFeeEntries()) != 0 {
			t.Errorf("%v, fees %v", got, report.GetFeeEntries())
		}
	})
}

func TestReportPeriodIncludesItsEnds(t *testing.T) {
	m := newStanding(t)
	m.tick(t, 100)
	at := clockStart.Add(112 * 250 * time.Millisecond) // the seed took 12 ticks
	_, err := m.transfer(t, m.address(t, treasuryAccount), m.address(t, tradingAccount), amountOf(xlm(), "1"))
	wantCode(t, err, codes.OK)
	m.tick(t, 4)
	at = at.Add(time.Second)
	for _, test := range []struct {
		name     string
		from, to time.Time
		want     int
	}{
		{"ends with it", at.Add(-time.Second), at, 1},
		{"starts with it", at, at.Add(time.Second), 1},
		{"ends before it", at.Add(-time.Second), at.Add(-time.Nanosecond), 0},
		{"starts after it", at.Add(time.Nanosecond), at.Add(time.Second), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			report, err := m.report(t, "Broker Admin", "1000002", test.from, test.to, xlm())
			wantCode(t, err, codes.OK)
			if got := len(report.GetTradingStatementEntries()); got != test.want {
				t.Errorf("%d lines, want %d", got, test.want)
			}
		})
	}
}

func TestReportIncome(t *testing.T) {
	m := newStanding(t)
	rand := &typev1.Token{Code: "ZAR"}
	report, err := m.report(t, "Broker Admin", "1000004", clockStart, clockStart.Add(time.Hour), rand)
	wantCode(t, err, codes.OK)
	if len(report.GetIncomeEntries()) != 1 {
		t.Fatalf("%v", report.GetIncomeEntries())
	}
	income := report.GetIncomeEntries()[0]
	if income.GetNarrative() != accountreportv1.IncomeNarrative_INCOME_NARRATIVE_DIVIDEND || income.GetReportedCurrencyValue().GetValue().GetValue() != "400" {
		t.Errorf("%v", income)
	}
}

func TestReportRefusals(t *testing.T) {
	m := newStanding(t)
	for _, test := range []struct {
		name, caller, number string
		from, to             time.Time
		currency             *typev1.Token
		want                 codes.Code
	}{
		{"an account that does not exist", "Broker Admin", "1999999", clockStart, clockStart.Add(1), usdc(), codes.NotFound},
		{"an account of a group above", "Corporate Admin", "1000001", clockStart, clockStart.Add(1), usdc(), codes.NotFound},
		{"no account number", "Broker Admin", "2000001", clockStart, clockStart.Add(1), usdc(), codes.InvalidArgument},
		{"a period that ends before it starts", "Broker Admin", "1000001", clockStart.Add(1), clockStart, usdc(), codes.InvalidArgument},
		{"a currency that is not known", "Broker Admin", "1000001", clockStart, clockStart.Add(1), &typev1.Token{Code: "ZZZ"}, codes.InvalidArgument},
		{"without a role", "Trading Admin", "1000001", clockStart, clockStart.Add(1), usdc(), codes.PermissionDenied},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := m.report(t, test.caller, test.number, test.from, test.to, test.currency)
			wantCode(t, err, test.want)
		})
	}
}

// TestWorkbookIsTheReport opens the file and compares it cell by cell.
func TestWorkbookIsTheReport(t *testing.T) {
	m := newStanding(t)
	_, err := m.transfer(t, m.address(t, tradingAccount), m.address(t, treasuryAccount), amountOf(xlm(), "100"))
	wantCode(t, err, codes.OK)
	m.tick(t, 4)
	from, to := clockStart, clockStart.Add(time.Hour)
	report, err := m.report(t, "Broker Admin", "1000001", from, to, usdc())
	wantCode(t, err, codes.OK)
	answer, err := accountreportv1.NewAccountReportServiceClient(m).GetExcelAccountReport(m.as(t, "Broker Admin"), &accountreportv1.GetExcelAccountReportRequest{
		AccountNumber: "1000001", PeriodStart: timestamppb.New(from), PeriodEnd: timestamppb.New(to), ReportingAssetToken: usdc()})
	wantCode(t, err, codes.OK)
	content, err := base64.StdEncoding.DecodeString(answer.GetExcelBase64())
	if err != nil {
		t.Fatal(err)
	}
	book, err := excelize.OpenReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	if diff := cmp.Diff([]string{"Summary", "Income", "Fees", "Trading statement"}, book.GetSheetList()); diff != "" {
		t.Error(diff)
	}
	summary, err := book.GetRows("Summary")
	if err != nil || summary[1][1] != "1000001" || summary[2][1] != "Harbour Brokers" || summary[3][1] != "1 Quay Street, Cape Town, 8001, ZA" {
		t.Errorf("%v %v", summary, err)
	}
	rows, err := book.GetRows("Trading statement")
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(report.GetTradingStatementEntries())+1 {
		t.Fatalf("%d rows for %d lines", len(rows), len(report.GetTradingStatementEntries()))
	}
	for i, line := range report.GetTradingStatementEntries() {
		row := rows[i+1]
		want := []string{line.GetTransactionDate().AsTime().Format(time.RFC3339), line.GetTransactionId(), line.GetTokenCode(), line.GetDescription(),
			line.GetAmount().GetValue().GetValue() + " " + line.GetAmount().GetToken().GetCode()}
		if diff := cmp.Diff(want, row[:5]); diff != "" {
			t.Error(diff)
		}
	}
	fees, err := book.GetRows("Fees")
	if err != nil || len(fees) != 2 || fees[1][4] != "0.115 XLM" {
		t.Errorf("%v %v", fees, err)
	}
}

func TestReportValues(t *testing.T) {
	m := newStanding(t)
	_, err := m.transfer(t, m.address(t, tradingAccount), m.address(t, treasuryAccount), amountOf(xlm(), "100"))
	wantCode(t, err, codes.OK)
	m.tick(t, 4)
	price, err := m.price(t, xlm(), usdc())
	wantCode(t, err, codes.OK)
	inRand, err := m.price(t, xlm(), &typev1.Token{Code: "ZAR"})
	wantCode(t, err, codes.OK)
	for _, test := range []struct {
		name     string
		currency *typev1.Token
		want     string
	}{
		{"at the price of the pair", usdc(), decimal.RequireFromString("0.115").Mul(price).Round(8).String()},
		{"in the token itself", xlm(), "0.115"},
		{"in a fiat currency, by its code", &typev1.Token{Code: "ZAR"}, decimal.RequireFromString("0.115").Mul(inRand).Round(8).String()},
	} {
		t.Run(test.name, func(t *testing.T) {
			report, err := m.report(t, "Broker Admin", "1000001", clockStart, clockStart.Add(time.Hour), test.currency)
			wantCode(t, err, codes.OK)
			if got := report.GetFeeEntries()[0].GetReportedCurrencyValue().GetValue().GetValue(); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// TestReportStatesValuesInItsCurrency asks for reports in currencies of each kind, most of them by code
// alone. Quantities stay in their own tokens.
func TestReportStatesValuesInItsCurrency(t *testing.T) {
	m := newStanding(t)
	_, err := m.transfer(t, m.address(t, tradingAccount), m.address(t, treasuryAccount), amountOf(xlm(), "100"))
	wantCode(t, err, codes.OK)
	m.order(t, sell, "700", "0.15", "")
	m.tick(t, 8)
	for _, test := range []struct {
		number   string
		currency *typev1.Token
	}{
		{"1000001", &typev1.Token{Code: "ZAR"}},
		{"1000001", &typev1.Token{Code: "EUR"}},
		{"1000001", usdc()},
		{"1000001", &typev1.Token{Code: "XAU"}},
		{"1000004", &typev1.Token{Code: "ZAR"}},
		{"1000004", &typev1.Token{Code: "USD"}}, // the price service has no price of an equity in US dollars
	} {
		t.Run(test.number+" in "+test.currency.GetCode(), func(t *testing.T) {
			report, err := m.report(t, "Broker Admin", test.number, clockStart, clockStart.Add(time.Hour), test.currency)
			wantCode(t, err, codes.OK)
			if !proto.Equal(report.GetReportingCurrency(), test.currency) {
				t.Errorf("the currency is %v", report.GetReportingCurrency())
			}
			in := func(what string, value *typev1.Amount) {
				t.Helper()
				if !proto.Equal(value.GetToken(), test.currency) || decimal.RequireFromString(value.GetValue().GetValue()).IsZero() {
					t.Errorf("the %s is %v", what, value)
				}
			}
			values := 0
			for _, e := range report.GetIncomeEntries() {
				in("income", e.GetReportedCurrencyValue())
				values++
			}
			for _, e := range report.GetFeeEntries() {
				in("fee", e.GetReportedCurrencyValue())
				values++
			}
			for _, e := range report.GetTradingStatementEntries() {
				if e.GetAmount().GetToken().GetCode() != e.GetTokenCode() || e.GetBalance().GetToken().GetCode() != e.GetTokenCode() {
					t.Errorf("the quantities of %s are %v and %v", e.GetTokenCode(), e.GetAmount(), e.GetBalance())
				}
				if e.GetPrice() != nil {
					in("price", e.GetPrice())
					in("cost", e.GetCost())
					values++
				}
			}
			if values == 0 {
				t.Error("there is no value")
			}
		})
	}
}

func TestReportClientIsTheAccountsOwn(t *testing.T) {
	m := newStanding(t)
	report, err := m.report(t, "Broker Admin", "1000006", clockStart, clockStart.Add(time.Hour), usdc())
	wantCode(t, err, codes.OK)
	if report.GetClientName() != "Lighthouse Trading" || report.GetClientAddress().GetCity() != "Durban" {
		t.Errorf("%s in %v", report.GetClientName(), report.GetClientAddress())
	}
}

// TestAPeriodThatEndsWithTheDateOfALineIncludesIt asks again with a date that
// the report itself gave, on a clock with nanoseconds as real ones have.
func TestAPeriodThatEndsWithTheDateOfALineIncludesIt(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 123_456_789, time.UTC)
	m := newMesh(t, sandbox.WithClock(sandbox.ClockManual), sandbox.WithSeed(1), sandbox.WithTime(func() time.Time { return now }))
	report := func(end *timestamppb.Timestamp) []*accountreportv1.TradingStatementEntry {
		got, err := accountreportv1.NewAccountReportServiceClient(m).GetAccountReport(m.as(t, "Broker Admin"), &accountreportv1.GetAccountReportRequest{
			AccountNumber: "1000002", PeriodStart: timestamppb.New(now.Add(-time.Hour)), PeriodEnd: end, ReportingAssetToken: usdc()})
		wantCode(t, err, codes.OK)
		return got.GetTradingStatementEntries()
	}
	all := report(timestamppb.New(now.Add(time.Hour)))
	if again := report(all[len(all)-1].GetTransactionDate()); len(again) != len(all) {
		t.Errorf("%d lines, want %d", len(again), len(all))
	}
}

// TestWorkbookCells compares every cell of the three tables with the report.
func TestWorkbookCells(t *testing.T) {
	m := newStanding(t)
	rand := &typev1.Token{Code: "ZAR"}
	_, err := m.transfer(t, m.address(t, tradingAccount), m.address(t, treasuryAccount), amountOf(xlm(), "100"))
	wantCode(t, err, codes.OK)
	m.order(t, sell, "700", "0.15", "")
	m.tick(t, 8)
	money := func(a *typev1.Amount) string {
		if a == nil {
			return ""
		}
		return a.GetValue().GetValue() + " " + a.GetToken().GetCode()
	}
	date := func(at *timestamppb.Timestamp) string { return at.AsTime().Format(time.RFC3339) }
	for _, test := range []struct {
		number   string
		currency *typev1.Token
	}{{"1000001", usdc()}, {"1000004", rand}, {"1000001", eth()}} {
		t.Run(test.number+" in "+test.currency.GetCode(), func(t *testing.T) {
			report, err := m.report(t, "Broker Admin", test.number, clockStart, clockStart.Add(time.Hour), test.currency)
			wantCode(t, err, codes.OK)
			want := map[string][][]string{
				"Income":            {{"Date", "Asset", "Token", "Description", "Narrative", "Amount", "Value"}},
				"Fees":              {{"Date", "Transaction", "Description", "Token", "Amount", "Value"}},
				"Trading statement": {{"Date", "Transaction", "Token", "Description", "Amount", "Price", "Cost", "Balance"}},
			}
			for _, e := range report.GetIncomeEntries() {
				want["Income"] = append(want["Income"], []string{date(e.GetDate()), e.GetAssetName(), e.GetToken().GetCode(), e.GetDescription(), "DIVIDEND", money(e.GetAmount()), money(e.GetReportedCurrencyValue())})
			}
			for _, e := range report.GetFeeEntries() {
				want["Fees"] = append(want["Fees"], []string{date(e.GetTransactionDate()), e.GetTransactionId(), e.GetDescription(), e.GetTokenCurrency(), money(e.GetAmount()), money(e.GetReportedCurrencyValue())})
			}
			for _, e := range report.GetTradingStatementEntries() {
				want["Trading statement"] = append(want["Trading statement"], []string{date(e.GetTransactionDate()), e.GetTransactionId(), e.GetTokenCode(), e.GetDescription(), money(e.GetAmount()), money(e.GetPrice()), money(e.GetCost()), money(e.GetBalance())})
			}
			answer, err := accountreportv1.NewAccountReportServiceClient(m).GetExcelAccountReport(m.as(t, "Broker Admin"), &accountreportv1.GetExcelAccountReportRequest{
				AccountNumber: test.number, PeriodStart: timestamppb.New(clockStart), PeriodEnd: timestamppb.New(clockStart.Add(time.Hour)), ReportingAssetToken: test.currency})
			wantCode(t, err, codes.OK)
			content, err := base64.StdEncoding.DecodeString(answer.GetExcelBase64())
			if err != nil {
				t.Fatal(err)
			}
			book, err := excelize.OpenReader(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			defer book.Close()
			for sheet, rows := range want {
				got, err := book.GetRows(sheet)
				if err != nil {
					t.Fatal(err)
				}
				for i := range rows { // cells at the end that are empty are left out
					for len(rows[i]) > 0 && rows[i][len(rows[i])-1] == "" {
						rows[i] = rows[i][:len(rows[i])-1]
					}
				}
				if diff := cmp.Diff(rows, got); diff != "" {
					t.Errorf("%s: %s", sheet, diff)
				}
			}
		})
	}
}

func TestExcelReportRefusesLikeTheReport(t *testing.T) {
	m := newStanding(t)
	for _, test := range []struct {
		name, caller, number string
		currency             *typev1.Token
		want                 codes.Code
	}{
		{"an account that does not exist", "Broker Admin", "1999999", usdc(), codes.NotFound},
		{"an account of a group above", "Corporate Admin", "1000001", usdc(), codes.NotFound},
		{"a currency that is not known", "Broker Admin", "1000001", &typev1.Token{Code: "ZZZ", Ledger: typev1.Ledger_LEDGER_STELLAR}, codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := accountreportv1.NewAccountReportServiceClient(m).GetExcelAccountReport(m.as(t, test.caller), &accountreportv1.GetExcelAccountReportRequest{
				AccountNumber: test.number, PeriodStart: timestamppb.New(clockStart), PeriodEnd: timestamppb.New(clockStart.Add(time.Hour)), ReportingAssetToken: test.currency})
			wantCode(t, err, test.want)
		})
	}
}
