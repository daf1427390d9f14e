package ui_test

import (
	"html"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/credentials"
	"github.com/meshtrade/mesh-gateway/internal/docs/ui"
	"github.com/meshtrade/mesh-gateway/openapi"
	rolev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/iam/role/v1"
	typev1 "github.com/meshtrade/mesh-gateway/proto/meshtrade/type/v1"
)

// guide returns the guide of a sandbox, as HTML.
func guide(t *testing.T) string {
	t.Helper()
	return body(t, get(t, sandbox(t), "/docs/guide"))
}

// section returns a section of the guide, as HTML.
func section(t *testing.T, guide, id string) string {
	t.Helper()
	_, rest, found := strings.Cut(guide, `<section id="`+id+`"`)
	if !found {
		t.Fatalf("the guide has no section %s", id)
	}
	section, _, _ := strings.Cut(rest, "</section>")
	return section
}

// example returns the text of the example with a label.
func example(t *testing.T, guide, label string) string {
	t.Helper()
	_, rest, found := strings.Cut(guide, `aria-label="`+label+`"><code>`)
	if !found {
		t.Fatalf("the guide has no example %q", label)
	}
	code, _, _ := strings.Cut(rest, "</code>")
	return html.UnescapeString(code)
}

// linked returns the names of the operations that a part of the guide links to, sorted.
func linked(part string) []string {
	var names []string
	for _, link := range regexp.MustCompile(`href="#([A-Z]\w+)"`).FindAllStringSubmatch(part, -1) {
		names = append(names, link[1])
	}
	slices.Sort(names)
	return names
}

// selected returns the names of methods of the contract, sorted.
func selected(is func(*contract.Method) bool) []string {
	var names []string
	for _, method := range contract.Methods() {
		if is(method) {
			names = append(names, string(method.Descriptor.Name()))
		}
	}
	slices.Sort(names)
	return names
}

// TestTheGuideHasEveryRole compares the table of roles with the contract.
func TestTheGuideHasEveryRole(t *testing.T) {
	roles := section(t, guide(t), "roles")
	rows := regexp.MustCompile(`(?s)<td><code>(\w+)</code> (\d+)</td>(.*?)</tr>`).FindAllStringSubmatch(roles, -1)
	if want := len(rolev1.Role_name) - 1; len(rows) != want {
		t.Errorf("%d rows, want %d", len(rows), want)
	}
	for _, row := range rows {
		name, number := row[1], row[2]
		if strconv.Itoa(int(rolev1.Role_value[name])) != number {
			t.Errorf("%s is %d, not %s", name, rolev1.Role_value[name], number)
		}
		reads, writes, _ := strings.Cut(row[3], "Writes: ")
		if !strings.Contains(row[3], "Reads: ") {
			reads, writes = "", row[3]
		}
		for part, write := range map[string]bool{reads: false, writes: true} {
			want := selected(func(m *contract.Method) bool {
				return m.Write == write && slices.Contains(m.Roles, rolev1.Role(rolev1.Role_value[name]))
			})
			if got := linked(part); !slices.Equal(got, want) {
				t.Errorf("%s (writes: %t): %v, want %v", name, write, got, want)
			}
		}
	}
}

// TestWiderRolesMayDoWhatNarrowerRolesMay checks what the guide says of roles against the contract.
func TestWiderRolesMayDoWhatNarrowerRolesMay(t *testing.T) {
	for _, method := range contract.Methods() {
		for _, role := range method.Roles {
			name := role.String()
			var wider []string
			if of, viewer := strings.CutSuffix(name, "_VIEWER"); viewer {
				wider = append(wider, of+"_ADMIN")
			}
			for domain := range rolev1.Role_value {
				// ROLE_IAM_ADMIN is wider than ROLE_IAM_GROUP_ADMIN.
				stem, admin := strings.CutSuffix(domain, "_ADMIN")
				if admin && strings.Count(stem, "_") == 1 && strings.HasPrefix(name, stem+"_") {
					wider = append(wider, domain)
				}
			}
			for _, other := range wider {
				if !slices.Contains(method.Roles, rolev1.Role(rolev1.Role_value[other])) {
					t.Errorf("%s: %s may call it, and %s may not", method.Descriptor.Name(), name, other)
				}
			}
		}
	}
}

// TestTheGuideListsOperations compares each list of operations in the guide with the contract.
func TestTheGuideListsOperations(t *testing.T) {
	asks := func(field protoreflect.Name) func(*contract.Method) bool {
		return func(m *contract.Method) bool { return m.Descriptor.Input().Fields().ByName(field) != nil }
	}
	text := guide(t)
	for _, test := range []struct {
		name, section, begin, end string
		is                        func(*contract.Method) bool
	}{
		{"without a key", "access", "Public operations", "They ignore", func(m *contract.Method) bool { return m.Public }},
		{"for verified clients", "access", "These\n        operations require it", "</p>", func(m *contract.Method) bool { return m.Verified }},
		{"with a transaction", "states", "These operations return", "A transfer has", func(m *contract.Method) bool {
			return m.Descriptor.Output().Fields().ByName("ledger_transaction") != nil
		}},
		{"with live data of orders", "live", "<code>liveLedgerData</code>", "</tr>", asks("live_ledger_data")},
		{"with live data of accounts", "live", "<code>populateLedgerData</code>", "</tr>", asks("populate_ledger_data")},
		{"that sort", "sorting", "<tbody>", "</tbody>", asks("sorting")},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, part, found := strings.Cut(section(t, text, test.section), test.begin)
			if !found {
				t.Fatalf("%s has no %q", test.section, test.begin)
			}
			part, _, _ = strings.Cut(part, test.end)
			if got, want := linked(part), selected(test.is); len(want) == 0 || !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

// TestTheGuideNamesWhatExists looks up names in the text of the guide: values of enums, reasons and
// codes, and fields.
func TestTheGuideNamesWhatExists(t *testing.T) {
	values, fields := make(map[string]bool), make(map[string]bool)
	for i := codes.OK; i <= codes.Unauthenticated; i++ {
		values[strings.ToUpper(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(i.String(), "${1}_$2"))] = true
	}
	for _, reason := range apierror.Reasons() {
		values[string(reason)] = true
	}
	// Names of the program and of the SDKs.
	for _, name := range []string{credentials.Variable, "LEAKED_KEY", "MESH_URL", "MESH_API_KEY", "MESH_GROUP", "__LEDGER__"} {
		values[name] = true
	}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Enums().Len() {
			enum := file.Enums().Get(i)
			for j := range enum.Values().Len() {
				full := string(enum.Values().Get(j).Name())
				// OPEN is short for LIMIT_ORDER_STATE_OPEN.
				for at := range full {
					if at == 0 || full[at-1] == '_' {
						values[full[at:]] = true
					}
				}
			}
		}
		for i := range file.Messages().Len() {
			message := file.Messages().Get(i)
			for j := range message.Fields().Len() {
				fields[message.Fields().Get(j).JSONName()] = true
			}
		}
		return true
	})
	text, _, _ := strings.Cut(guide(t), `class="tag"`)
	_, text, _ = strings.Cut(text, "<main>")
	for _, name := range regexp.MustCompile(`\b_*[A-Z]{2,}(?:_+[A-Z]+)+_*\b`).FindAllString(text, -1) {
		if !values[name] {
			t.Errorf("%s does not exist", name)
		}
	}
	for _, code := range regexp.MustCompile(`<code>([a-z]+(?:[A-Z][a-z]+)+)</code>`).FindAllStringSubmatch(text, -1) {
		if !fields[code[1]] && code[1] != "fieldViolations" {
			t.Errorf("there is no field %s", code[1])
		}
	}
}

func TestTheGuidesAmountsAreAmounts(t *testing.T) {
	for label, want := range map[string]string{"Amount of a native asset": "__LEDGER__", "Amount of an issued token": "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN"} {
		amount := new(typev1.Amount)
		if err := protojson.Unmarshal([]byte(example(t, guide(t), label)), amount); err != nil || amount.GetToken().GetIssuer() != want || amount.GetValue().GetValue() == "" {
			t.Errorf("%s: %v, %v", label, amount, err)
		}
	}
}

// TestTheGuidesOutcomeUnknown reads the error as a client does.
func TestTheGuidesOutcomeUnknown(t *testing.T) {
	for _, want := range []string{"&#34;lookup_path&#34;: &#34;/v1/limit_orders&#34;", "LimitOrderService/ListLimitOrders&#34;", "&#34;sent&#34;: &#34;true&#34;"} {
		if !strings.Contains(section(t, guide(t), "repeating"), want) {
			t.Errorf("the error does not contain %s", html.UnescapeString(want))
		}
	}
}

func TestTheGuideSaysWhereAnSDKConnects(t *testing.T) {
	for _, test := range []struct {
		name      string
		options   ui.Options
		want, not string
	}{
		{"a sandbox that serves gRPC", ui.Options{Deployment: openapi.Deployment{Sandbox: true}, ServesGRPC: true}, "This sandbox also serves gRPC", "mesh-gateway sandbox"},
		{"a sandbox that does not", ui.Options{Deployment: openapi.Deployment{Sandbox: true}}, "--sandbox-grpc-listen [::1]:50099", "This sandbox also"},
		{"the live API", ui.Options{}, "--sandbox-grpc-listen [::1]:50099", "This sandbox also"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.options.SandboxGRPC = "[::1]:50099"
			text := body(t, get(t, withOptions(t, test.options), "/docs/guide"))
			for label, want := range map[string]string{
				"Go SDK":         `WithAddress("::1", 50099)`,
				"Python SDK":     `port=50099`,
				"Java SDK":       `.port(50099)`,
				"TypeScript SDK": `'http://[::1]:50099'`,
			} {
				if got := example(t, text, label); !strings.Contains(got, want) {
					t.Errorf("%s: %s\nwant %s", label, got, want)
				}
			}
			if sdk := section(t, text, "sdk"); !strings.Contains(sdk, test.want) || strings.Contains(sdk, test.not) {
				t.Errorf("%s\nwant %q and not %q", sdk, test.want, test.not)
			}
		})
	}
	if response := get(t, withOptions(t, ui.Options{SandboxGRPC: "50051"}), "/docs/guide"); response.StatusCode != http.StatusInternalServerError {
		t.Errorf("an address without a host: %s", response.Status)
	}
}

// TestTheGuidesCredentialsFile puts the file of the guide where the guide says, and reads it.
func TestTheGuidesCredentialsFile(t *testing.T) {
	key, group := strings.Repeat("k", credentials.KeyLength), "groups/00000000000000000000BR0KER"
	text := body(t, get(t, docs(t, openapi.Deployment{Sandbox: true}, ui.TestKey{Name: "Admin", Key: key, Group: group}), "/docs/guide"))
	home := t.TempDir()
	folder := map[string]string{"darwin": "~/Library/Application Support", "windows": "%AppData%"}[runtime.GOOS]
	if folder == "" {
		folder = "~/.config"
	}
	found := section(t, text, "sdk")
	for _, place := range []string{folder, credentials.Variable, "mesh/credentials.json"} {
		if !strings.Contains(found, "<code>"+place+"</code>") {
			t.Errorf("the guide does not name %s", place)
		}
	}
	file := filepath.Join(home, strings.TrimPrefix(strings.TrimPrefix(folder, "%AppData%"), "~/"), "mesh", "credentials.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(example(t, text, "credentials.json")), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, environment := range map[string]map[string]string{
		"in the configuration directory": {"HOME": home, "AppData": home},
		"named by the variable":          {credentials.Variable: file},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := credentials.Find(credentials.Auto, func(name string) string { return environment[name] })
			if err != nil || got.APIKey != key || got.Group != group || got.Warning != "" {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// TestTheGuideShowsWhatIsServed reads the guide of a gateway in read-only mode that does not serve
// transfers.
func TestTheGuideShowsWhatIsServed(t *testing.T) {
	serves := func(rpc string) bool {
		return !contract.ByName(rpc).Write && contract.ByName(rpc).Descriptor.Parent().Name() != "TransferService"
	}
	text := body(t, get(t, docs(t, openapi.Deployment{Serves: serves}), "/docs/guide"))
	shown := make(map[string]bool)
	for _, article := range regexp.MustCompile(`<article id="(\w+)"`).FindAllStringSubmatch(text, -1) {
		shown[article[1]] = true
	}
	for _, method := range contract.Methods() {
		if name := string(method.Descriptor.Name()); shown[name] != serves(method.Name()) {
			t.Errorf("%s is shown: %t", name, shown[name])
		}
	}
	for _, link := range regexp.MustCompile(`href="#([A-Z]\w+)"`).FindAllStringSubmatch(text, -1) {
		if !shown[link[1]] {
			t.Errorf("there is a link to %s, which is not shown", link[1])
		}
	}
	for id, want := range map[string]string{"rotation": "Activate it.", "states": "If you cancel it,"} {
		if !strings.Contains(section(t, text, id), want) {
			t.Errorf("%s does not contain %q", id, want)
		}
	}
}

func TestTheGuideSaysThatAListIsEmpty(t *testing.T) {
	private := func(rpc string) bool { return !contract.ByName(rpc).Public }
	access := section(t, body(t, get(t, docs(t, openapi.Deployment{Serves: private}), "/docs/guide")), "access")
	if !strings.Contains(access, "Public operations need neither header: none on this gateway.") {
		t.Error("the guide does not say that there are no public operations")
	}
}
