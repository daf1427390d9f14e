package gateway_test

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"
)

func TestWorkbookDownload(t *testing.T) {
	const (
		workbook = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
		period   = "?periodStart=2020-01-01T00:00:00Z&periodEnd=2030-01-01T00:00:00Z&reportingAssetToken.code=XLM&reportingAssetToken.ledger=LEDGER_STELLAR"
		path     = "/v1/reporting/account_reports/1000001:excel"
	)
	s := newStreaming(t)
	base := s.base()
	for _, test := range []struct {
		name, path, accept string
		status             int
		media              string
	}{
		{"by Accept", path + period, workbook, 200, workbook},
		{"by a link", path + period + "&alt=media", "*/*", 200, workbook},
		{"JSON to others", path + period, "*/*", 200, "application/json"},
		{"JSON where both will do", path + period, "application/json, " + workbook, 200, "application/json"},
		{"a refusal is JSON", strings.Replace(path, "1000001", "1999999", 1) + period, workbook, 404, "application/json"},
		{"no fields of a workbook", path + period + "&alt=media&fields=excelBase64", workbook, 400, "application/json"},
		{"a fault in the query is named", path + period + "&alt=media&nonsense=1", workbook, 400, "application/json"},
		{"no file where there is none", strings.TrimSuffix(path, ":excel") + period, workbook, 406, "application/json"},
	} {
		t.Run(test.name, func(t *testing.T) {
			response, reader := s.open(t, base+test.path, test.accept)
			body, err := io.ReadAll(reader)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || response.Header.Get("Content-Type") != test.media {
				t.Fatalf("%s, %s: %.200s", response.Status, response.Header.Get("Content-Type"), body)
			}
			if test.media != workbook {
				return
			}
			if got := response.Header.Get("Content-Disposition"); got != `attachment; filename="account-report-1000001.xlsx"` {
				t.Errorf("Content-Disposition is %s", got)
			}
			if got := response.Header.Get("Content-Length"); got != strconv.Itoa(len(body)) {
				t.Errorf("Content-Length is %s, and %d bytes came", got, len(body))
			}
			book, err := excelize.OpenReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if err := book.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
