package examples

import (
	"slices"
	"strings"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Resources of a new sandbox.
const (
	retired   = "iam/api_users/00000000000000000000000009" // INACTIVE
	viewer    = "iam/api_users/00000000000000000000000002"
	corporate = "groups/00000000000000000C0RP0RATE"
	unknown   = "0000000000000000000000000X"

	tradingAddress  = "GDMYO7WONU3IVLA2N5AZ5RRHY5VRX6Y7UN6EDII6URVN22SI3CKHJRBS"
	treasuryAddress = "GBVOM6B7J666SG3OXCFXHJEO2JD5XZMIFYSXS2BUGLA37RJFIVFN26ZJ"
	nobodysAddress  = "GAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAWHF"

	xlm  = `{"code": "XLM", "issuer": "__LEDGER__", "ledger": "LEDGER_STELLAR"}`
	usdc = `{"code": "USDC", "issuer": "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN", "ledger": "LEDGER_STELLAR"}`
	mzar = `{"code": "mZAR", "issuer": "GBC5UN72P27BVJVEJCEBVD5RO2JTXACFENBROGFIRB2CCLUK2VJEIAYE", "ledger": "LEDGER_STELLAR"}`

	backwards = "periodStart=2026-06-01T00:00:00Z&periodEnd=2026-01-01T00:00:00Z&reportingAssetToken.code=ZAR"
	aYear     = "periodStart=2025-06-01T00:00:00Z&periodEnd=2026-06-01T00:00:00Z"
)

func amount(value, token string) string {
	return `{"token": ` + token + `, "value": {"value": "` + value + `"}}`
}

func anonymous() map[string]string {
	return map[string]string{wire.APIKeyHeader: "", wire.GroupHeader: ""}
}

func order(reference, account string) string {
	return `{"owner": "` + Group + `", "account": "` + account + `", "externalReference": "` + reference + `", "side": "LIMIT_ORDER_SIDE_BUY", ` +
		`"quantity": ` + amount("1200", xlm) + `, "limitPrice": ` + amount("0.49", usdc) + `}`
}

func transfer(from string) string {
	return `{"owner": "` + Group + `", "from": "` + from + `", "to": "` + treasuryAddress + `", "amount": ` + amount("250", usdc) + `, "description": "Invoice 1042"}`
}

func mint(address string) string {
	return `{"amount": ` + amount("1000", usdc) + `, "address": "` + address + `", "options": {"stellarMintOptions": {"options": [{"stellarMintTokenWithMemo": {"memo": "test funds"}}]}}}`
}

func get(path string) Call               { return Call{Method: "GET", Path: path, Status: 200} }
func post(path, body string) Call        { return Call{Method: "POST", Path: path, Body: body, Status: 200} }
func put(path, body string) Call         { return Call{Method: "PUT", Path: path, Body: body, Status: 200} }
func patch(path, body string) Call       { return Call{Method: "PATCH", Path: path, Body: body, Status: 200} }
func (c Call) public() Call              { c.Header = anonymous(); return c }
func (c Call) after(others ...Call) Call { c.Before = others; return c }
func (c Call) with(name, value string) Call {
	c.Header = map[string]string{name: value}
	return c
}
func (c Call) refused(status int, title string) Call {
	c.Status, c.Title = status, title
	return c
}

// Calls returns all calls: those that succeed, then those that fail.
func Calls() []Call {
	return append(Successes(), refusals()...)
}

// Successes returns the calls that succeed: one for each operation and media type of its response.
func Successes() []Call {
	taps := post("/v1/testing/token_taps:initialise", "").public()
	return []Call{
		get("/v1/iam/api_users"),
		get("/v1/iam/api_users:search?displayName=Admin"),
		get("/v1/iam/api_users:byKeyHash?keyHash=" + adminKeyHash),
		post("/v1/iam/api_users", `{"owner": "`+Group+`", "displayName": "Settlement bot", "roles": ["`+Group+`/roles/1000001"]}`),
		get("/v1/" + viewer),
		post("/v1/"+viewer+":assignRoles", `{"roles": ["`+Group+`/roles/5000002"]}`),
		post("/v1/"+viewer+":revokeRoles", `{"roles": ["`+Group+`/roles/1000001"]}`),
		post("/v1/"+retired+":activate", ""),
		post("/v1/"+viewer+":deactivate", ""),

		get("/v1/groups"),
		get("/v1/groups:search?displayName=Light&sorting.field=display_name"),
		post("/v1/groups", `{"owner": "`+Group+`", "displayName": "Breakwater Capital", "description": "A client since March."}`),
		get("/v1/" + corporate),
		put("/v1/"+corporate, `{"owner": "`+Group+`", "displayName": "Lighthouse Trading", "description": "A company, verified, in Durban."}`),

		get("/v1/users?sorting.field=email&sorting.order=SORTING_ORDER_DESC"),
		get("/v1/users:search?email=harbour"),
		get("/v1/users:byEmail?email=operations@harbour.example"),
		post("/v1/users", `{"owner": "`+Group+`", "email": "trader@harbour.example", "roles": ["`+Group+`/roles/5000000"]}`),
		get("/v1/users/00000000000000000000000001"),
		put("/v1/users/00000000000000000000000002", `{"owner": "`+Group+`", "email": "compliance@harbour.example", "mobileNumber": {"value": "+27215550123"}}`),
		post("/v1/users/00000000000000000000000001:assignRoles", `{"roles": ["`+Group+`/roles/1000000", "`+Group+`/roles/5000000"]}`),
		post("/v1/users/00000000000000000000000001:revokeRoles", `{"roles": ["`+Group+`/roles/1000000"]}`),

		get("/v1/iam/user_profiles"),
		get("/v1/iam/user_profiles:search?firstName=operations"),
		get("/v1/iam/user_profiles/00000000000000000000000001"),
		get("/v1/users/00000000000000000000000001/profile"),
		patch("/v1/iam/user_profiles/00000000000000000000000001", `{"owner": "`+Group+`", "user": "users/00000000000000000000000001", "firstName": "Operations", "lastName": "Desk", "locale": "en-ZA"}`),
		get("/v1/iam/user_profiles/00000000000000000000000001:pictureUploadUrl"),

		get("/v1/compliance/clients"),
		post("/v1/compliance/clients", `{"owner": "`+Group+`", "displayName": "Breakwater Capital", "verificationStatus": "VERIFICATION_STATUS_NOT_STARTED", `+
			`"company": {"registeredName": "Breakwater Capital Ltd", "registrationNumber": "2021/000003/06", "countryOfIncorporation": "ZA"}}`),
		get("/v1/compliance/clients/00000000000000000000000002"),
		get("/v1/" + corporate + "/client"),
		patch("/v1/compliance/clients/00000000000000000000000002", `{"owner": "`+corporate+`", "displayName": "Lighthouse Trading", "verificationStatus": "VERIFICATION_STATUS_VERIFIED", "description": "Reviewed this year."}`),
		post("/v1/compliance/clients/00000000000000000000000003:startVerification", ""),
		post("/v1/compliance/clients/00000000000000000000000005:failVerification", `{"comments": ["The trust deed is not signed."]}`),
		post("/v1/compliance/clients/00000000000000000000000005:markVerified", `{"nextVerificationDate": "2030-01-31T00:00:00Z"}`),

		get("/v1/accounts"),
		get("/v1/accounts:search?displayName=Trading&populateLedgerData=true"),
		get("/v1/accounts:byNumber?accountNumber=1000001&populateLedgerData=true"),
		post("/v1/accounts", `{"owner": "`+Group+`", "ledger": "LEDGER_STELLAR", "displayName": "Client money"}`),
		get("/v1/accounts/00000000000000000000000001?populateLedgerData=true"),
		put("/v1/accounts/00000000000000000000000002", `{"owner": "`+Group+`", "ledger": "LEDGER_STELLAR", "displayName": "Treasury, Stellar (main)"}`),
		post("/v1/accounts/00000000000000000000000005:open", ""),
		post("/v1/accounts/00000000000000000000000001:addSignatories", `{"users": ["users/00000000000000000000000001"]}`),
		post("/v1/accounts/00000000000000000000000001:removeSignatories", `{"users": ["users/00000000000000000000000001"]}`).
			after(post("/v1/accounts/00000000000000000000000001:addSignatories", `{"users": ["users/00000000000000000000000001"]}`), Call{Method: "POST", Path: "/sandbox:advance?by=30s", Status: 204}),
		post("/v1/accounts/00000000000000000000000002:registerTokens", `{"tokens": [`+mzar+`]}`),
		post("/v1/accounts/00000000000000000000000006:deregisterTokens", `{"tokens": [`+mzar+`]}`).with(wire.GroupHeader, corporate),

		get("/v1/wallet/transfers"),
		get("/v1/wallet/transfers:searchByAddress?address=" + treasuryAddress),
		post("/v1/wallet/transfers:calculateFee", `{"amount": `+amount("250", usdc)+`}`),
		post("/v1/wallet/transfers", transfer(tradingAddress)),
		get("/v1/wallet/transfers/00000000000000000000000001"),
		get("/v1/wallet/transfers/00000000000000000000000001:monitor"),
		get("/v1/wallet/transfers/00000000000000000000000001:monitor").with("Accept", wire.EventStream),

		get("/v1/transactions/00000000000000000000000001/state"),
		get("/v1/transactions/00000000000000000000000001/state:monitor"),
		get("/v1/transactions/00000000000000000000000001/state:monitor").with("Accept", wire.EventStream),

		get("/v1/market_data/prices:current?baseToken.code=XLM&quoteToken.code=USDC"),

		get("/v1/limit_orders"),
		get("/v1/limit_orders:search?token=XLM&states=LIMIT_ORDER_STATE_OPEN&states=LIMIT_ORDER_STATE_COMPLETE"),
		get("/v1/limit_orders:byExternalReference?externalReference=seed-2"),
		post("/v1/limit_orders", order("order-1042", "accounts/00000000000000000000000001")),
		get("/v1/limit_orders/00000000000000000000000001?liveLedgerData=true"),
		post("/v1/limit_orders/00000000000000000000000002:cancel", ""),
		get("/v1/limit_orders/00000000000000000000000001:monitor?liveLedgerData=true"),
		get("/v1/limit_orders/00000000000000000000000001:monitor?liveLedgerData=true").with("Accept", wire.EventStream),
		get("/v1/limit_orders:monitor?externalReference=seed-1&liveLedgerData=true"),
		get("/v1/limit_orders:monitor?externalReference=seed-1&liveLedgerData=true").with("Accept", wire.EventStream),
		get("/v1/market_orders/1"),

		get("/v1/reporting/account_reports/1000004?" + aYear + "&reportingAssetToken.code=ZAR"),
		get("/v1/reporting/account_reports/1000004:excel?" + aYear + "&reportingAssetToken.code=ZAR"),

		taps,
		get("/v1/testing/token_taps").public().after(taps),
		post("/v1/testing/token_taps:mint", mint(treasuryAddress)).public().after(taps),
	}
}

// adminKeyHash is the SHA-256 of Key in standard base64, escaped for a query.
const adminKeyHash = "D1FblsaavlP86sxoZKLIFBfD2tbAxCU%2BH6%2ByeY6sKO0%3D"

// large returns a body that is larger than the gateway accepts.
func large() string { return `{"displayName": "` + strings.Repeat("x", 2<<20) + `"}` }

// refusals returns the calls that fail: one for each error that any operation can return, and the
// errors of single operations.
func refusals() []Call {
	fault := func(c Call, fault string) Call { return c.with(wire.SandboxFaultHeader, fault) }
	slow := get("/v1/iam/api_users")
	slow.Header = map[string]string{wire.SandboxFaultHeader: "deadline", wire.RequestTimeoutHeader: "0.1"}
	price := "/v1/market_data/prices:current?baseToken.code=XAU&quoteToken.code=XAG"
	anywhere := []Call{
		post("/v1/iam/api_users", `{"owner": "me", "displayName": ""}`).refused(400, "Invalid fields"),
		post("/v1/iam/api_users", `{"owner": "`+Group+`", "displayNam": "Settlement bot"}`).refused(400, "Unknown field"),
		get("/v1/iam/api_users:search?name=Admin").refused(400, "Unknown parameter"),
		get("/v1/iam/api_users").with(wire.APIKeyHeader, "").refused(401, "Missing key"),
		get("/v1/iam/api_users").with(wire.APIKeyHeader, "sandbox-retired-key-00000000000000000000000").refused(401, "Inactive key"),
		get("/v1/iam/api_users").with(wire.APIKeyHeader, "sandbox-roleless-key-0000000000000000000000").refused(403, "Missing role"),
		get("/v1/iam/api_users/"+unknown).refused(404, "Unknown resource"),
		get("/v1/iam/api_users").with("Accept", "text/html").refused(406, "HTML is not available"),
		post("/v1/iam/api_users", large()).refused(413, "Body too large"),
		post("/v1/iam/api_users", "owner=me").with("Content-Type", "application/x-www-form-urlencoded").refused(415, "Form instead of JSON"),
		fault(get("/v1/iam/api_users"), "exhausted").refused(429, "Mesh limits the rate"),
		fault(get("/v1/iam/api_users"), "unavailable").refused(503, "Mesh cannot be reached"),
		fault(post("/v1/limit_orders", order("order-1043", "accounts/00000000000000000000000001")), "drop-after-send").refused(503, "Lost response to a write"),
		slow.refused(504, "Mesh does not respond in time"),
	}
	for i := range anywhere {
		anywhere[i].Anywhere = true
	}
	return slices.Concat(anywhere, empties(), []Call{
		get("/v1/iam/api_users:byKeyHash?keyHash="+strings.Repeat("A", 43)+"%3D").refused(404, "No API user has this key"),
		post("/v1/"+viewer+":activate", "").refused(400, "The API user is already ACTIVE"),
		post("/v1/"+retired+":deactivate", "").refused(400, "The API user is already INACTIVE"),
		get("/v1/users:byEmail?email=nobody@harbour.example").refused(404, "No user has this e-mail address"),
		post("/v1/users", `{"owner": "`+Group+`", "email": "operations@harbour.example"}`).refused(409, "The e-mail address is already in use"),
		post("/v1/compliance/clients/00000000000000000000000002:startVerification", "").refused(400, "The client is already VERIFIED"),
		post("/v1/compliance/clients/00000000000000000000000003:markVerified", "").refused(400, "The client is not PENDING"),
		post("/v1/compliance/clients/00000000000000000000000003:failVerification", `{"comments": ["Not yet."]}`).refused(400, "The client is not PENDING"),
		get("/v1/accounts:byNumber?accountNumber=1999999").refused(404, "No account has this number"),
		post("/v1/accounts/00000000000000000000000001:open", "").refused(400, "The account is already open"),
		post("/v1/wallet/transfers", transfer(nobodysAddress)).refused(404, "Unknown account to transfer from"),
		post("/v1/wallet/transfers", strings.Replace(transfer(tradingAddress), `"250"`, `"9000000"`, 1)).refused(400, "Insufficient balance"),
		get(price).refused(404, "The pair has no price"),
		get("/v1/reporting/account_reports/1000004?"+backwards).refused(400, "The period ends before it starts"),
		get("/v1/reporting/account_reports/1000004:excel?"+backwards).refused(400, "The period ends before it starts"),
		get("/v1/limit_orders:byExternalReference?externalReference=none").refused(404, "No order has this reference"),
		get("/v1/limit_orders:monitor?externalReference=none").refused(404, "No order has this reference"),
		post("/v1/limit_orders", order("seed-1", "accounts/00000000000000000000000001")).refused(409, "The reference is already in use"),
		post("/v1/limit_orders", order("order-1", "accounts/"+unknown)).refused(404, "Unknown account"),
		post("/v1/limit_orders/00000000000000000000000001:cancel", "").refused(400, "The order is already finished"),
		post("/v1/testing/token_taps:mint", mint(treasuryAddress)).public().refused(400, "The taps are not initialised"),
		post("/v1/testing/token_taps:mint", mint(nobodysAddress)).public().after(post("/v1/testing/token_taps:initialise", "").public()).refused(404, "No account has this address"),
	})
}

// empties returns the successful calls with an empty body, which fail if a field is required.
func empties() []Call {
	var calls []Call
	for _, call := range Successes() {
		if call.Body == "" || strings.HasSuffix(call.Path, ":markVerified") { // has no required field
			continue
		}
		call.Body, call.Before = "{}", nil
		calls = append(calls, call.refused(400, "Missing required fields"))
	}
	return calls
}
