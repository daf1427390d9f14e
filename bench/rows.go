package main

import (
	"bytes"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	instrumentv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/studio/instrument/v1"
	limitorderv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/trading/limit_order/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
)

const (
	apiKey = "bench-key-000000000000000000000000000000000"

	getRow    = "GET"
	searchRow = "search"
	createRow = "create"
	keyedRow  = "create with a key"
	// telemetryRow is GET again, of peers with more and more telemetry.
	telemetryRow = "GET with telemetry"
	streamRow    = "stream 20"
	memoryRow    = "list 1,000 × 128 clients"

	streamMessages = 20
)

// row is a kind of request that is measured: what the client sends, the gRPC call that
// must come of it, and what the upstream answers.
type row struct {
	name string
	// group is the value of X-Group. Each row has one of its own, by which the upstream
	// and the floor know the row.
	group string
	verb  string
	path  string
	body  string

	method  string // the path of the gRPC call
	request proto.Message
	replies []proto.Message
	stream  bool

	clients int
	// percent is how many of the requests that -requests asks for a measurement sends:
	// large answers need fewer for the same precision.
	percent int
}

// newRows returns all rows, in the order of the tables.
func newRows() []*row {
	const listAccounts = "/meshtrade.wallet.account.v1.AccountService/ListAccounts"
	list := func(name string, accounts, clients, percent int) *row {
		return &row{
			name: name, verb: "GET", path: "/v1/accounts?populateLedgerData=true",
			method: listAccounts, request: &accountv1.ListAccountsRequest{PopulateLedgerData: true},
			replies: []proto.Message{newAccounts(accounts)},
			clients: clients, percent: percent,
		}
	}
	orderName := "limit_orders/" + ulid(1)
	get := func(name string) *row {
		return &row{
			name: name, verb: "GET", path: "/v1/" + orderName,
			method:  "/meshtrade.trading.limit_order.v1.LimitOrderService/GetLimitOrder",
			request: &limitorderv1.GetLimitOrderRequest{Name: orderName},
			replies: []proto.Message{newOrder(1)},
			clients: 32, percent: 100,
		}
	}
	rows := []*row{
		get(getRow),
		{
			name: searchRow, verb: "GET",
			path:   "/v1/groups:search?displayName=Harbour&sorting.field=display_name&sorting.order=SORTING_ORDER_DESC",
			method: "/meshtrade.iam.group.v1.GroupService/SearchGroups",
			request: &groupv1.SearchGroupsRequest{
				DisplayName: "Harbour",
				Sorting: &groupv1.SearchGroupsRequest_Sorting{
					Field: "display_name", Order: typev1.SortingOrder_SORTING_ORDER_DESC,
				},
			},
			replies: []proto.Message{newGroups(5)},
			clients: 32, percent: 100,
		},
		{
			name: createRow, verb: "POST", path: "/v1/limit_orders", body: requestJSON(newOrderRequest()),
			method:  "/meshtrade.trading.limit_order.v1.LimitOrderService/CreateLimitOrder",
			request: &limitorderv1.CreateLimitOrderRequest{LimitOrder: newOrderRequest()},
			replies: []proto.Message{newOrder(1)},
			clients: 32, percent: 100,
		},
		{
			name: keyedRow, verb: "POST", path: "/v1/limit_orders", body: requestJSON(newOrderRequest()),
			method:  "/meshtrade.trading.limit_order.v1.LimitOrderService/CreateLimitOrder",
			request: &limitorderv1.CreateLimitOrderRequest{LimitOrder: newOrderRequest()},
			replies: []proto.Message{newOrder(1)},
			clients: 32, percent: 100,
		},
		list("list 1", 1, 32, 100),
		list("list 100", 100, 32, 10),
		list("list 1,000", 1000, 32, 2),
		{
			name: streamRow, verb: "GET", path: "/v1/" + orderName + ":monitor",
			method: "/meshtrade.trading.limit_order.v1.LimitOrderService/MonitorLimitOrder",
			request: &limitorderv1.MonitorLimitOrderRequest{
				Identifier: &limitorderv1.MonitorLimitOrderRequest_Name{Name: orderName},
			},
			replies: newOrders(streamMessages), stream: true,
			clients: 32, percent: 20,
		},
		list(memoryRow, 1000, 128, 0),
		get(telemetryRow),
	}
	for i, r := range rows {
		r.group = "groups/" + ulid(i+1)
	}
	return rows
}

// rowsByGroup returns the rows by the X-Group of their requests.
func rowsByGroup() map[string]*row {
	byGroup := make(map[string]*row)
	for _, r := range newRows() {
		byGroup[r.group] = r
	}
	return byGroup
}

func (r *row) String() string { return r.name }

// count is the number of requests of one measurement: at least one for each client.
func (r *row) count(requests int) int { return max(requests*r.percent/100, r.clients) }

// warm is the number of requests before a measurement of count. Memory is measured from a
// cold start.
func (r *row) warm(count int) int {
	if r.name == memoryRow {
		return 0
	}
	return max(count/5, r.clients)
}

// http returns the request as it is sent over a connection, with an Idempotency-Key if it
// is not "".
func (r *row) http(host, key string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\nX-Api-Key: %s\r\nX-Group: %s\r\n",
		r.verb, r.path, host, apiKey, r.group)
	if key != "" {
		fmt.Fprintf(&b, "Idempotency-Key: %s\r\n", key)
	}
	if r.body != "" {
		fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(r.body))
	}
	b.WriteString("\r\n")
	b.WriteString(r.body)
	return b.Bytes()
}

// wire returns the replies as they are sent over gRPC.
func (r *row) wire() ([][]byte, error) { return marshalEach(r.replies, proto.Marshal) }

// json returns the replies as compact JSON.
func (r *row) json() ([][]byte, error) { return marshalEach(r.replies, protojson.Marshal) }

func marshalEach(messages []proto.Message, marshal func(proto.Message) ([]byte, error)) ([][]byte, error) {
	all := make([][]byte, len(messages))
	for i, message := range messages {
		var err error
		if all[i], err = marshal(message); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// requestJSON is for messages of this file, which can always be marshalled.
func requestJSON(message proto.Message) string { return protojson.Format(message) }

func ulid(n int) string { return fmt.Sprintf("%026d", n) }

func amount(code string, ledger typev1.Ledger, value string) *typev1.Amount {
	issuer := "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN"
	if code == "XLM" {
		issuer = "__LEDGER__"
	}
	return &typev1.Amount{
		Token: &typev1.Token{Code: code, Issuer: issuer, Ledger: ledger},
		Value: &typev1.Decimal{Value: value},
	}
}

func stellar(code, value string) *typev1.Amount {
	return amount(code, typev1.Ledger_LEDGER_STELLAR, value)
}

func newOrderRequest() *limitorderv1.LimitOrder {
	return &limitorderv1.LimitOrder{
		Owner:             "groups/" + ulid(1),
		Account:           "accounts/" + ulid(1),
		ExternalReference: "bench-1",
		Side:              limitorderv1.LimitOrderSide_LIMIT_ORDER_SIDE_BUY,
		LimitPrice:        stellar("USDC", "0.49"),
		Quantity:          stellar("XLM", "1200"),
	}
}

func newOrder(n int) *limitorderv1.LimitOrder {
	order := newOrderRequest()
	order.Name = "limit_orders/" + ulid(n)
	order.Owners = []string{"groups/" + ulid(0), "groups/" + ulid(1)}
	order.FillPrice = stellar("USDC", "0.4875")
	order.FilledQuantity = stellar("XLM", fmt.Sprintf("%d.5", n*10))
	order.State = limitorderv1.LimitOrderState_LIMIT_ORDER_STATE_OPEN
	order.Number = fmt.Sprintf("%07d", 1000000+n)
	order.SubmittedAt = timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC))
	return order
}

func newOrders(n int) []proto.Message {
	orders := make([]proto.Message, n)
	for i := range orders {
		orders[i] = newOrder(i + 1)
	}
	return orders
}

func newGroups(n int) *groupv1.SearchGroupsResponse {
	reply := new(groupv1.SearchGroupsResponse)
	for i := range n {
		reply.Groups = append(reply.Groups, &groupv1.Group{
			Name:        "groups/" + ulid(i+1),
			Owner:       "groups/" + ulid(0),
			Owners:      []string{"groups/" + ulid(0), "groups/" + ulid(i+1)},
			DisplayName: fmt.Sprintf("Harbour Brokers %d", i+1),
			Description: `Desk "A" & its clients – São Paulo`,
		})
	}
	return reply
}

func newAccounts(n int) *accountv1.ListAccountsResponse {
	balance := func(code, value string) *accountv1.Balance {
		return &accountv1.Balance{
			Amount: stellar(code, value), AvailableAmount: stellar(code, value),
			InstrumentMetadata: &accountv1.InstrumentMetaData{
				Name: code, Type: instrumentv1.InstrumentType_INSTRUMENT_TYPE_CRYPTO_CURRENCY,
				Unit: instrumentv1.Unit_UNIT_TOKEN,
			},
		}
	}
	reply := new(accountv1.ListAccountsResponse)
	for i := range n {
		reply.Accounts = append(reply.Accounts, &accountv1.Account{
			Name:                "accounts/" + ulid(i+1),
			Owner:               "groups/" + ulid(1),
			Owners:              []string{"groups/" + ulid(0), "groups/" + ulid(1)},
			Number:              fmt.Sprintf("1%06d", i),
			LedgerId:            "GDMYO7WONU3IVLA2N5AZ5RRHY5VRX6Y7UN6EDII6URVN22SI3CKHJRBS",
			Ledger:              typev1.Ledger_LEDGER_STELLAR,
			DisplayName:         fmt.Sprintf("Client account %d", i+1),
			LiveDataRetrievedAt: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
			State:               accountv1.AccountState_ACCOUNT_STATE_OPEN,
			Balances:            []*accountv1.Balance{balance("XLM", fmt.Sprintf("%d.1234567", i)), balance("USDC", "250.00")},
			Signatories:         []*accountv1.Signatory{{DisplayName: "Broker Admin", ResourceName: "iam/api_users/" + ulid(1), LedgerId: "GBVOM6B7J666SG3OXCFXHJEO2JD5XZMIFYSXS2BUGLA37RJFIVFN26ZJ"}},
			InternallyCreated:   true,
		})
	}
	return reply
}
