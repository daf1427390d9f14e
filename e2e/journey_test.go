package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/xuri/excelize/v2"
)

// object is a JSON object.
type object = map[string]any

func amount(t *testing.T, value, code, issuer, ledger string) object {
	t.Helper()
	return object{"token": object{"code": code, "issuer": issuer, "ledger": ledger}, "value": object{"value": value}}
}

// TestJourney runs a trading integration over HTTP, from its first API user to its report.
func TestJourney(t *testing.T) {
	const (
		stellar = "LEDGER_STELLAR"
		issuer  = "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN"
		native  = "__LEDGER__"
	)
	p := start(t, "--sandbox", "--sandbox-clock", "fast", "--sandbox-seed", "11")
	broker := credential(t, "Broker Admin")
	in := func(group string) http.Header { return http.Header{"X-Api-Key": {broker.APIKey}, "X-Group": {group}} }
	post := func(header http.Header, path string, body object) object {
		t.Helper()
		content, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		a := p.call(t, "POST", path, header, string(content))
		if a.status != http.StatusOK {
			t.Fatalf("POST %s: %d %s", path, a.status, a.body)
		}
		return a.object(t)
	}
	get := func(header http.Header, path string) object {
		t.Helper()
		a := p.call(t, "GET", path, header, "")
		if a.status != http.StatusOK {
			t.Fatalf("GET %s: %d %s", path, a.status, a.body)
		}
		return a.object(t)
	}
	// monitor reads a stream until it ends.
	monitor := func(header http.Header, path string) (messages []object) {
		t.Helper()
		a := p.call(t, "GET", path, header, "")
		for line := range strings.Lines(string(a.body)) {
			var message object
			if err := json.Unmarshal([]byte(line), &message); err != nil || message["error"] != nil {
				t.Fatalf("GET %s: %s %v", path, line, err)
			}
			messages = append(messages, message)
		}
		return messages
	}
	succeed := func(header http.Header, transaction any) {
		t.Helper()
		states := monitor(header, "/v1/"+transaction.(string)+"/state:monitor")
		if last := states[len(states)-1]["state"]; last != "TRANSACTION_STATE_SUCCESSFUL" {
			t.Fatalf("%s ends at %v", transaction, last)
		}
	}

	group := post(in(broker.Group), "/v1/groups", object{"owner": broker.Group, "displayName": "Breakwater"})["name"].(string)
	upper := in(group)
	var roles []string
	for _, role := range broker.Roles {
		roles = append(roles, fmt.Sprintf("%s/roles/%d", group, role))
	}
	trader := post(upper, "/v1/iam/api_users", object{"owner": group, "displayName": "Trader", "roles": roles})
	post(upper, "/v1/"+trader["name"].(string)+":activate", object{})
	own := http.Header{"X-Api-Key": {trader["apiKey"].(string)}, "X-Group": {group}}

	client := post(own, "/v1/compliance/clients", object{
		"owner": group, "displayName": "Breakwater Ltd", "verificationStatus": "VERIFICATION_STATUS_NOT_STARTED",
		"company": object{"registeredName": "Breakwater Ltd", "registeredAddress": object{"city": "Gqeberha"}},
	})["name"].(string)
	refused := p.call(t, "POST", "/v1/accounts", own, `{"owner":"`+group+`","ledger":"`+stellar+`","displayName":"Too early"}`)
	if refused.status != http.StatusBadRequest || !strings.Contains(string(refused.body), "Have it verified first") {
		t.Fatalf("an account created before the verification: %d %s", refused.status, refused.body)
	}
	post(own, "/v1/"+client+":startVerification", object{})
	if status := post(in(broker.Group), "/v1/"+client+":markVerified", object{})["verificationStatus"]; status != "VERIFICATION_STATUS_VERIFIED" {
		t.Fatalf("the client is %v", status)
	}

	account := post(own, "/v1/accounts", object{"owner": group, "ledger": stellar, "displayName": "First"})
	name := account["name"].(string)
	succeed(own, post(own, "/v1/"+name+":open", object{})["ledgerTransaction"])
	succeed(own, post(own, "/v1/"+name+":registerTokens", object{"tokens": []object{
		{"code": "XLM", "issuer": native, "ledger": stellar}, {"code": "USDC", "issuer": issuer, "ledger": stellar}}})["ledgerTransaction"])

	post(nil, "/v1/testing/token_taps:initialise", object{})
	post(nil, "/v1/testing/token_taps:mint", object{"amount": amount(t, "1000", "USDC", issuer, stellar), "address": account["ledgerId"]})

	order := post(own, "/v1/limit_orders", object{
		"owner": group, "account": name, "side": "LIMIT_ORDER_SIDE_BUY", "externalReference": "journey",
		"limitPrice": amount(t, "0.49", "USDC", issuer, stellar), "quantity": amount(t, "1200", "XLM", native, stellar),
	})
	if _, told := order["state"]; told {
		t.Errorf("the state is returned without live data: %v", order)
	}
	changes := monitor(own, "/v1/"+order["name"].(string)+":monitor?liveLedgerData=true")
	last := changes[len(changes)-1]
	if last["state"] != "LIMIT_ORDER_STATE_COMPLETE" {
		t.Fatalf("the order ends as %v", last)
	}
	if filled := last["filledQuantity"].(object)["value"].(object)["value"]; filled != "1200" {
		t.Fatalf("%v of the order were filled", filled)
	}

	resting := post(own, "/v1/limit_orders", object{
		"owner": group, "account": name, "side": "LIMIT_ORDER_SIDE_BUY",
		"limitPrice": amount(t, "0.1", "USDC", issuer, stellar), "quantity": amount(t, "100", "XLM", native, stellar),
	})["name"].(string)
	post(own, "/v1/"+resting+":cancel", object{})
	changes = monitor(own, "/v1/"+resting+":monitor")
	if last := changes[len(changes)-1]; last["state"] != "LIMIT_ORDER_STATE_CANCELLED" {
		t.Fatalf("the cancelled order ends as %v", last)
	}

	treasury := get(in(broker.Group), "/v1/accounts/00000000000000000000000002")
	transfer := post(own, "/v1/wallet/transfers", object{
		"owner": group, "from": account["ledgerId"], "to": treasury["ledgerId"], "amount": amount(t, "200", "XLM", native, stellar)})
	steps := monitor(own, "/v1/"+transfer["name"].(string)+":monitor")
	if state := steps[len(steps)-1]["state"]; state != "TRANSFER_STATE_SUCCESSFUL" {
		t.Fatalf("the transfer ends as %v", state)
	}
	for _, balance := range get(own, "/v1/"+name+"?populateLedgerData=true")["balances"].([]any) {
		held := balance.(object)["amount"].(object)
		// 1200 bought, 200 sent, less a fee of 0.2 and VAT of 0.03.
		if held["token"].(object)["code"] == "XLM" && held["value"].(object)["value"] != "999.77" {
			t.Errorf("XLM held: %v", held["value"])
		}
	}

	period := url.Values{
		"periodStart":              {time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)},
		"periodEnd":                {time.Now().Add(time.Hour).UTC().Format(time.RFC3339)},
		"reportingAssetToken.code": {"ZAR"},
	}.Encode()
	report := get(own, "/v1/reporting/account_reports/"+account["number"].(string)+"?"+period)
	lines, fees := report["tradingStatementEntries"].([]any), report["feeEntries"].([]any)
	// A mint, three parts of the order and a transfer.
	if len(lines) != 5 || len(fees) != 1 || report["clientName"] != "Breakwater Ltd" {
		t.Fatalf("%d lines, %d fees, client %v", len(lines), len(fees), report["clientName"])
	}

	encoded := get(own, "/v1/reporting/account_reports/"+account["number"].(string)+":excel?"+period)["excelBase64"].(string)
	content, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	book, err := excelize.OpenReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	rows, err := book.GetRows("Trading statement")
	if err != nil || len(rows) != 1+len(lines) {
		t.Fatalf("%d rows in the workbook, %v", len(rows), err)
	}
}

func TestSandboxFaultsOverHTTP(t *testing.T) {
	p := start(t, "--sandbox")
	broker := credential(t, "Broker Admin")
	create := `{"owner":"` + broker.Group + `","displayName":"Faulty"}`
	for _, test := range []struct {
		fault, method string
		status        int
		reason        string
	}{
		{"unavailable", "GET", 503, ""},
		{"unavailable", "POST", 503, ""},
		{"exhausted", "GET", 429, ""},
		{"slow=1ms", "GET", 200, ""},
		{"nonsense", "GET", 400, ""},
		{"drop-after-send", "POST", 503, "OUTCOME_UNKNOWN"},
	} {
		t.Run(test.method+" "+test.fault, func(t *testing.T) {
			header, body := as(broker), ""
			header.Set("X-Sandbox-Fault", test.fault)
			if test.method == "POST" {
				body = create
			}
			a := p.call(t, test.method, "/v1/groups", header, body)
			if a.status != test.status {
				t.Fatalf("status %d, want %d: %s", a.status, test.status, a.body)
			}
			if info := a.detail(t, "ErrorInfo"); test.reason != "" && info["reason"] != test.reason {
				t.Errorf("the reason is %v, want %s", info, test.reason)
			}
		})
	}
	t.Run("the dropped call was carried out once", func(t *testing.T) {
		found := p.call(t, "GET", "/v1/groups:search?displayName=Faulty", as(broker), "").object(t)["groups"].([]any)
		if len(found) != 1 {
			t.Errorf("%d groups", len(found))
		}
	})
}

// TestADroppedCallBreaksNoOther has a stream open while the connection of a call breaks.
func TestADroppedCallBreaksNoOther(t *testing.T) {
	p := start(t, "--sandbox", "--sandbox-clock", "manual")
	broker := credential(t, "Broker Admin")
	opened := p.call(t, "POST", "/v1/accounts/00000000000000000000000005:open", as(broker), "{}").object(t)["ledgerTransaction"].(string)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/v1/"+opened+"/state:monitor", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = as(broker)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stream := bufio.NewReader(response.Body)
	if _, err := stream.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	header := as(broker)
	header.Set("X-Sandbox-Fault", "drop-after-send")
	if a := p.call(t, "POST", "/v1/groups", header, `{"owner":"`+broker.Group+`","displayName":"Dropped"}`); a.status != http.StatusServiceUnavailable || a.detail(t, "ErrorInfo")["reason"] != "OUTCOME_UNKNOWN" {
		t.Errorf("status %d: %s", a.status, a.body)
	}
	if a := p.call(t, "POST", "/sandbox:advance?by=1s", nil, ""); a.status != http.StatusNoContent {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	rest, err := io.ReadAll(stream)
	if err != nil || !bytes.Contains(rest, []byte("TRANSACTION_STATE_SUCCESSFUL")) || bytes.Contains(rest, []byte("error")) {
		t.Errorf("the stream goes on with %q, %v", rest, err)
	}
}

// TestFaultsAreOnlyForTheSandbox sends the header to another upstream.
func TestFaultsAreOnlyForTheSandbox(t *testing.T) {
	mesh := startSandbox(t)
	p := start(t, "--upstream", mesh, "--upstream-plaintext")
	header := as(credential(t, "Broker Admin"))
	header.Set("X-Sandbox-Fault", "unavailable")
	if a := p.call(t, "GET", "/v1/groups", header, ""); a.status != http.StatusOK {
		t.Errorf("status %d: %s", a.status, a.body)
	}
	for _, path := range []string{"/sandbox:reset", "/sandbox:advance?by=1s"} {
		if a := p.call(t, "POST", path, nil, ""); a.status != http.StatusNotFound {
			t.Errorf("%s: status %d", path, a.status)
		}
	}
}

func TestReset(t *testing.T) {
	p := start(t, "--sandbox")
	broker := credential(t, "Broker Admin")
	before := p.call(t, "GET", "/v1/groups", as(broker), "").body
	if a := p.call(t, "POST", "/v1/groups", as(broker), `{"owner":"`+broker.Group+`","displayName":"Gone soon"}`); a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	if a := p.call(t, "POST", "/sandbox:reset", http.Header{"Sec-Fetch-Site": {"cross-site"}}, ""); a.status != http.StatusForbidden {
		t.Errorf("a page of another site: status %d", a.status)
	}
	if a := p.call(t, "POST", "/sandbox:reset", nil, ""); a.status != http.StatusNoContent {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	if after := p.call(t, "GET", "/v1/groups", as(broker), "").body; !bytes.Equal(before, after) {
		t.Errorf("before %s\nafter %s", before, after)
	}
}

func TestAdvance(t *testing.T) {
	p := start(t, "--sandbox", "--sandbox-clock", "manual")
	broker := credential(t, "Broker Admin")
	opened := p.call(t, "POST", "/v1/accounts/00000000000000000000000005:open", as(broker), "{}").object(t)["ledgerTransaction"].(string)
	for _, step := range []struct{ by, state string }{
		{"", "DRAFT"}, {"250ms", "SIGNING_IN_PROGRESS"}, {"750ms", "SUCCESSFUL"},
	} {
		if step.by != "" {
			if a := p.call(t, "POST", "/sandbox:advance?by="+step.by, nil, ""); a.status != http.StatusNoContent {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
		}
		if got := p.call(t, "GET", "/v1/"+opened+"/state", as(broker), "").object(t)["state"]; got != "TRANSACTION_STATE_"+step.state {
			t.Errorf("after another %q, the state is %v, want %s", step.by, got, step.state)
		}
	}
	for _, by := range []string{"", "soon", "-1s", "0s", "2h"} {
		if a := p.call(t, "POST", "/sandbox:advance?by="+by, nil, ""); a.status != http.StatusBadRequest {
			t.Errorf("by %q: status %d", by, a.status)
		}
	}
}

// startSandbox runs `mesh-gateway sandbox` and returns its address.
func startSandbox(t *testing.T, flags ...string) string {
	t.Helper()
	p := launch(t, append([]string{"sandbox", "--listen", "127.0.0.1:0"}, flags...)...)
	return strings.TrimSuffix(strings.Fields(p.stdout.Wait(t, "Mesh gRPC"))[2], ",")
}

func TestServeAlsoServesSDKs(t *testing.T) {
	p := start(t, "--sandbox", "--sandbox-grpc-listen", "127.0.0.1:0")
	address := strings.TrimSuffix(strings.Fields(p.stdout.Wait(t, "gRPC"))[1], ",")
	other := start(t, "--upstream", address, "--upstream-plaintext")
	broker := credential(t, "Broker Admin")
	if a := p.call(t, "POST", "/v1/groups", as(broker), `{"owner":"`+broker.Group+`","displayName":"Shared"}`); a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	if found := other.call(t, "GET", "/v1/groups:search?displayName=Shared", as(broker), "").object(t)["groups"]; found == nil {
		t.Error("a group created over REST is missing over gRPC")
	}
}
