package sandbox_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	groupv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/group/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
	accountv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/account/v1"
	transferv1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/wallet/transfer/v1"
)

// accessTable is one resource of each kind, owned by the corporate group, and
// a request for each method that is about it.
type accessTable struct {
	standing
	// owner is the corporate group; sibling is a verified group beside it.
	owner, sibling string
	// names are the resources, by collection.
	names map[string]string
	// fields are the values of request fields, as ProtoJSON, by field name.
	fields map[string]any
}

func newAccessTable(t *testing.T) accessTable {
	t.Helper()
	m := accessTable{standing: newStanding(t)}
	broker, corporate := m.as(t, "Broker Admin"), m.as(t, "Corporate Admin")
	m.owner = m.seeded["Corporate Admin"].Group
	group := func(ctx context.Context, owner string) string {
		created, err := groupv1.NewGroupServiceClient(m).CreateGroup(ctx, &groupv1.CreateGroupRequest{Group: &groupv1.Group{Owner: owner, DisplayName: "Table"}})
		wantCode(t, err, codes.OK)
		return created.GetName()
	}
	m.sibling = group(broker, m.seeded["Broker Admin"].Group)
	address := func(ctx context.Context, name string) string {
		account, err := accountv1.NewAccountServiceClient(m).GetAccount(ctx, &accountv1.GetAccountRequest{Name: name})
		wantCode(t, err, codes.OK)
		return account.GetLedgerId()
	}
	const account = "accounts/00000000000000000000000006"
	from, to := address(corporate, account), address(broker, "accounts/00000000000000000000000001")
	lumens := object{"code": "XLM", "issuer": native, "ledger": "LEDGER_STELLAR"}
	one := object{"token": lumens, "value": object{"value": "1"}}
	transfer, err := transferv1.NewTransferServiceClient(m).CreateTransfer(corporate, &transferv1.CreateTransferRequest{Transfer: &transferv1.Transfer{
		Owner: m.owner, From: from, To: to,
		Amount: &typev1.Amount{Token: xlm(), Value: &typev1.Decimal{Value: "1"}}}})
	wantCode(t, err, codes.OK)

	m.names = map[string]string{
		"iam/api_users":      m.seeded["Corporate Admin"].Name,
		"groups":             group(corporate, m.owner),
		"users":              "users/00000000000000000000000003",
		"iam/user_profiles":  "iam/user_profiles/00000000000000000000000003",
		"compliance/clients": "compliance/clients/00000000000000000000000002",
		"accounts":           account,
		"wallet/transfers":   transfer.GetName(),
		"transactions":       transfer.GetTransaction(),
		"limit_orders":       "limit_orders/00000000000000000000000006",
	}
	hash := sha256.Sum256([]byte(m.seeded["Corporate Admin"].APIKey))
	m.fields = map[string]any{
		"owner": m.owner, "display_name": "Table", "first_name": "Table", "verification_status": 1, "ledger": "LEDGER_STELLAR",
		"side": 1, "user": m.names["users"], "users": []string{m.names["users"]}, "group": m.owner, "account": account,
		"key_hash": base64.StdEncoding.EncodeToString(hash[:]), "email": "treasury@lighthouse.example", "external_reference": "seed-6",
		"account_number": "1000006", "number": "3", "address": from, "from": from, "to": to, "comments": []string{"No."},
		"roles": []string{m.owner + "/roles/3000000"}, "amount": one, "limit_price": one, "quantity": one,
		"base_token": lumens, "quote_token": object{"code": "mZAR"},
		"reporting_asset_token": lumens, "tokens": []object{lumens}, "period_start": "2020-01-01T00:00:00Z", "period_end": "2030-01-01T00:00:00Z",
	}
	return m
}

type object = map[string]any

// pathVariable finds {field=collection/*} in a route.
var pathVariable = regexp.MustCompile(`\{([a-z_.]+)=(.+)/\*\}`)

// request is a message for the method about the resource that the table has.
func (m accessTable) request(t *testing.T, method *contract.Method) *dynamicpb.Message {
	t.Helper()
	input, name := method.Descriptor.Input(), string(method.Descriptor.Name())
	body := object{}
	switch {
	case strings.HasPrefix(name, "List"), strings.HasPrefix(name, "Search"):
		// No filter finds all, save for the one that is required.
		if input.Fields().ByName("address") != nil {
			body["address"] = m.fields["address"]
		}
	default:
		m.fill(body, input, method.Bindings[0].Body)
	}
	if variable := pathVariable.FindStringSubmatch(method.Bindings[0].Template); variable != nil {
		in, field := body, variable[1]
		if parent, child, nested := strings.Cut(field, "."); nested {
			in, field = body[parent].(object), child
		}
		in[field] = m.names[variable[2]]
	}
	if name == "GetGroupClient" {
		body["group"] = m.owner
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	message := dynamicpb.NewMessage(input)
	if err := protojson.Unmarshal(text, message); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return message
}

func (m accessTable) fill(body object, message protoreflect.MessageDescriptor, resource string) {
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		name := string(field.Name())
		if name == resource {
			inner := object{}
			m.fill(inner, field.Message(), "")
			delete(inner, "number") // the server's
			delete(inner, "roles")
			if field.Message().Fields().ByName("external_reference") != nil {
				delete(inner, "external_reference")
			}
			body[name] = inner
			continue
		}
		value, known := m.fields[name]
		if oneof := field.ContainingOneof(); oneof != nil && oneof.Fields().Get(0) != field {
			continue // the first is filled
		}
		_, text := value.(string)
		if message := field.Message(); known && (!text || message == nil || message.Name() == "Timestamp") {
			body[name] = value
		}
	}
}

// call sends the request and returns the first answer as text.
func (m accessTable) call(ctx context.Context, method *contract.Method, request *dynamicpb.Message) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := m.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method.Name())
	if err != nil {
		return "", err
	}
	if err := stream.SendMsg(request); err != nil {
		return "", err
	}
	if err := stream.CloseSend(); err != nil {
		return "", err
	}
	answer := dynamicpb.NewMessage(method.Descriptor.Output())
	if err := stream.RecvMsg(answer); err != nil {
		return "", err
	}
	return fmt.Sprint(answer), nil
}

// what says what a method is about, which decides what a group that is not the
// owner is told.
type what int

const (
	one      what = iota // one resource, by name or another key
	several              // all that the group can see
	creation             // a new one, of an owner that is named
	nothing              // no resource: prices and fees
)

func about(method *contract.Method) what {
	name := string(method.Descriptor.Name())
	switch {
	case strings.HasPrefix(name, "List"), strings.HasPrefix(name, "Search"):
		return several
	case strings.HasPrefix(name, "Create"):
		return creation
	case strings.HasPrefix(name, "Calculate"), strings.HasSuffix(name, "ByTokenPair"):
		return nothing
	}
	return one
}

// TestAccessTable holds each method of the contract against the access model.
func TestAccessTable(t *testing.T) {
	methods := contract.Methods()
	// A column says who calls, and what a method that the column is about is told.
	columns := []struct {
		name   string
		ctx    func(*testing.T, accessTable, *contract.Method) context.Context
		column func(*contract.Method) bool
		want   func(*contract.Method) codes.Code
		cases  int
		// sees is set if lists have the resource.
		sees bool
	}{
		{
			name:   "no key",
			ctx:    func(t *testing.T, _ accessTable, _ *contract.Method) context.Context { return t.Context() },
			column: func(*contract.Method) bool { return true },
			want: func(method *contract.Method) codes.Code {
				if method.Public {
					return codes.OK
				}
				return codes.Unauthenticated
			},
			cases: 69,
		},
		{
			name: "wrong group",
			ctx: func(t *testing.T, m accessTable, _ *contract.Method) context.Context {
				return m.as(t, "Broker Admin", nobody)
			},
			column: func(method *contract.Method) bool { return !method.Public },
			want:   func(*contract.Method) codes.Code { return codes.PermissionDenied },
			cases:  66,
		},
		{
			name:   "no role",
			ctx:    func(t *testing.T, m accessTable, _ *contract.Method) context.Context { return m.as(t, "Roleless") },
			column: func(method *contract.Method) bool { return !method.Public },
			want:   func(*contract.Method) codes.Code { return codes.PermissionDenied },
			cases:  66,
		},
		{
			name:   "WRITE as a viewer",
			ctx:    func(t *testing.T, m accessTable, _ *contract.Method) context.Context { return m.as(t, "Broker Viewer") },
			column: func(method *contract.Method) bool { return method.Write && !method.Public },
			want:   func(*contract.Method) codes.Code { return codes.PermissionDenied },
			cases:  27,
		},
		{
			name: "a client that is not verified",
			ctx: func(t *testing.T, m accessTable, _ *contract.Method) context.Context {
				return m.as(t, "Individual Admin")
			},
			column: func(method *contract.Method) bool { return method.Verified },
			want:   func(*contract.Method) codes.Code { return codes.FailedPrecondition },
			cases:  18,
		},
		{
			name: "an API user without a client, in a verified group",
			ctx: func(t *testing.T, m accessTable, _ *contract.Method) context.Context {
				return m.as(t, "Root Admin", m.owner)
			},
			column: func(method *contract.Method) bool { return method.Verified },
			want:   func(*contract.Method) codes.Code { return codes.FailedPrecondition },
			cases:  18,
		},
		{
			name: "an API user of a verified client, in a group that is not verified",
			ctx: func(t *testing.T, m accessTable, _ *contract.Method) context.Context {
				return m.as(t, "Broker Admin", m.seeded["Individual Admin"].Group)
			},
			column: func(method *contract.Method) bool { return method.Verified },
			want: func(method *contract.Method) codes.Code {
				switch about(method) {
				case one:
					return codes.NotFound
				case creation:
					return codes.PermissionDenied
				}
				return codes.OK
			},
			cases: 18,
		},
		{
			name: "a public method with a group that is none",
			ctx: func(t *testing.T, m accessTable, _ *contract.Method) context.Context {
				return m.as(t, "Roleless", "junk")
			},
			column: func(method *contract.Method) bool { return method.Public },
			want:   func(*contract.Method) codes.Code { return codes.OK },
			cases:  3,
		},
		{
			name: "a public method with an unknown key",
			ctx: func(t *testing.T, _ accessTable, _ *contract.Method) context.Context {
				return metadata.AppendToOutgoingContext(t.Context(), "x-api-key", strings.Repeat("k", 43))
			},
			column: func(method *contract.Method) bool { return method.Public },
			want:   func(*contract.Method) codes.Code { return codes.Unauthenticated },
			cases:  3,
		},
		{
			name: "READ by the owner",
			ctx: func(t *testing.T, m accessTable, _ *contract.Method) context.Context {
				return m.as(t, "Corporate Admin")
			},
			column: func(method *contract.Method) bool { return !method.Write && !method.Public },
			want:   func(*contract.Method) codes.Code { return codes.OK },
			cases:  39,
			sees:   true,
		},
		{
			name:   "READ up the tree",
			ctx:    func(t *testing.T, m accessTable, _ *contract.Method) context.Context { return m.as(t, "Broker Admin") },
			column: func(method *contract.Method) bool { return !method.Write && !method.Public },
			want:   func(*contract.Method) codes.Code { return codes.OK },
			cases:  39,
			sees:   true,
		},
		{
			name: "READ beside",
			ctx: func(t *testing.T, m accessTable, _ *contract.Method) context.Context {
				return m.as(t, "Broker Admin", m.sibling)
			},
			column: func(method *contract.Method) bool { return !method.Write && !method.Public },
			want: func(method *contract.Method) codes.Code {
				if about(method) == one {
					return codes.NotFound
				}
				return codes.OK
			},
			cases: 39,
		},
		{
			name: "WRITE down the tree",
			ctx: func(t *testing.T, m accessTable, method *contract.Method) context.Context {
				// The broker is the verification authority of the client, and may.
				if strings.Contains(method.Name(), "ClientService") {
					return m.as(t, "Root Admin")
				}
				return m.as(t, "Broker Admin")
			},
			column: func(method *contract.Method) bool { return method.Write && !method.Public },
			want:   func(*contract.Method) codes.Code { return codes.PermissionDenied },
			cases:  27,
		},
		{
			name: "WRITE beside",
			ctx: func(t *testing.T, m accessTable, _ *contract.Method) context.Context {
				return m.as(t, "Broker Admin", m.sibling)
			},
			column: func(method *contract.Method) bool { return method.Write && !method.Public },
			want: func(method *contract.Method) codes.Code {
				if about(method) == creation {
					return codes.PermissionDenied
				}
				return codes.NotFound
			},
			cases: 27,
		},
	}
	for _, column := range columns {
		t.Run(column.name, func(t *testing.T) {
			m, cases := newAccessTable(t), 0
			for _, method := range methods {
				if !column.column(method) {
					continue
				}
				cases++
				t.Run(string(method.Descriptor.Name()), func(t *testing.T) {
					answer, err := m.call(column.ctx(t, m, method), method, m.request(t, method))
					wantCode(t, err, column.want(method))
					if about(method) == several && !method.Public && err == nil {
						// What can be seen is in the list, and nothing else is.
						if shown, want := strings.Contains(answer, m.resourceOf(method)), column.sees; shown != want {
							t.Errorf("%s is in the list: %t, want %t", m.resourceOf(method), shown, want)
						}
					}
				})
			}
			if cases != column.cases {
				t.Errorf("%d methods belong to the column, want %d", cases, column.cases)
			}
		})
	}
}

// resourceOf is the resource that a list of the method holds.
func (m accessTable) resourceOf(method *contract.Method) string {
	path := strings.TrimPrefix(method.Bindings[0].Template, "/v1/")
	path, _, _ = strings.Cut(path, ":")
	return m.names[path]
}
