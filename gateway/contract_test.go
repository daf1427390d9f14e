package gateway_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"

	"github.com/meshtrade/mesh-gateway/gateway"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

const (
	testKey   = "a-key-of-43-characters-for-tests-0000000000"
	testGroup = "groups/01ARZ3NDEKTSV4RRFFQ69G5FAV"
)

// TestEveryRoute sends random valid messages through each route of the contract and
// compares what arrives at the upstream, and what comes back, with them.
func TestEveryRoute(t *testing.T) {
	methods := contract.Methods()
	if len(methods) != 69 {
		t.Fatalf("the contract has %d methods, want 69", len(methods))
	}
	upstream := meshtest.NewUpstream(t)
	handler, err := gateway.New(upstream.Dial(t))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)

	for _, method := range methods {
		for _, binding := range method.Bindings {
			t.Run(binding.Verb+" "+binding.Template, func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					request := requestFor(t, method, binding)
					replies := []proto.Message{meshtest.Valid(t, method.Descriptor.Output())}
					if method.Streams() {
						replies = append(replies, meshtest.Valid(t, method.Descriptor.Output()))
					}
					upstream.Answer(func(protoreflect.MethodDescriptor) ([]proto.Message, error) { return replies, nil })

					response, body := send(t, server, httpRequest(t, server.URL, method, binding, request))
					if response.StatusCode != http.StatusOK {
						t.Fatalf("%s: %s", response.Status, body)
					}

					calls := upstream.Calls()
					if len(calls) != 1 {
						t.Fatalf("the upstream saw %d calls, want 1", len(calls))
					}
					if calls[0].Method != method.Name() {
						t.Fatalf("reached %s, want %s", calls[0].Method, method.Name())
					}
					if diff := cmp.Diff(proto.Message(request), calls[0].Request, protocmp.Transform()); diff != "" {
						t.Fatalf("request changed on its way (-sent +received):\n%s", diff)
					}
					if diff := cmp.Diff(wantMetadata(), visible(calls[0].Metadata)); diff != "" {
						t.Fatalf("metadata (-want +got):\n%s", diff)
					}

					lines := bufio.NewScanner(bytes.NewReader(body))
					lines.Buffer(nil, 16<<20)
					for i, reply := range replies {
						if !lines.Scan() {
							t.Fatalf("answer ends after %d of %d messages", i, len(replies))
						}
						got := dynamicpb.NewMessage(method.Descriptor.Output())
						if err := protojson.Unmarshal(lines.Bytes(), got); err != nil {
							t.Fatalf("answer %s: %v", lines.Bytes(), err)
						}
						if diff := cmp.Diff(reply, proto.Message(got), protocmp.Transform()); diff != "" {
							t.Fatalf("reply changed on its way (-sent +received):\n%s", diff)
						}
					}
				})
			})
		}
	}
}

// requestFor draws a request that the route can carry: its path fields are
// set, and messages in its query are not empty.
func requestFor(t *rapid.T, method *contract.Method, binding *contract.Binding) *dynamicpb.Message {
	request := meshtest.Valid(t, method.Descriptor.Input())
	for _, path := range pathFields(binding) {
		if !strings.Contains(path, ".") {
			for !request.Has(method.Descriptor.Input().Fields().ByTextName(path)) {
				request = meshtest.Valid(t, method.Descriptor.Input())
			}
			continue
		}
		// A resource that is updated has its name, which the rules leave open.
		outer, inner, _ := strings.Cut(path, ".")
		resource := request.Get(method.Descriptor.Input().Fields().ByTextName(outer)).Message()
		prefix := strings.TrimSuffix(binding.PathValue("*"), "*")
		resource.Set(resource.Descriptor().Fields().ByTextName(inner),
			protoreflect.ValueOfString(prefix+rapid.StringMatching("[0-9A-HJKMNP-TV-Z]{26}").Draw(t, "ulid")))
	}
	if binding.Body == "" {
		prune(request)
	}
	if err := protovalidate.Validate(request); err != nil {
		t.Fatalf("the drawn request is invalid, which is a fault of the test: %v\n%s", err, request)
	}
	return request
}

// prune clears empty messages, which a query cannot express.
func prune(message protoreflect.Message) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Message() != nil && !field.IsList() && field.Message().FullName() != "google.protobuf.Timestamp" {
			prune(value.Message())
			empty := true
			value.Message().Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool { empty = false; return false })
			if empty {
				if requiredToken(field) {
					inner := value.Message()
					inner.Set(inner.Descriptor().Fields().ByName("code"), protoreflect.ValueOfString("XLM"))
				} else {
					message.Clear(field)
				}
			}
		}
		return true
	})
}

func requiredToken(field protoreflect.FieldDescriptor) bool {
	return field.Message().FullName() == "meshtrade.type.v1.Token"
}

func httpRequest(t *rapid.T, base string, method *contract.Method, binding *contract.Binding, message *dynamicpb.Message) *http.Request {
	input := method.Descriptor.Input()
	target := base + binding.Pattern("{}")
	for _, path := range pathFields(binding) {
		var value protoreflect.Value
		var at protoreflect.Message = message
		for name := range strings.SplitSeq(path, ".") {
			value = at.Get(at.Descriptor().Fields().ByTextName(name))
			if inner, ok := value.Interface().(protoreflect.Message); ok {
				at = inner
			}
		}
		prefix := strings.TrimSuffix(binding.PathValue("*"), "*")
		segment := strings.TrimPrefix(value.String(), prefix)
		target = strings.Replace(target, "{}", strings.ReplaceAll(url.QueryEscape(segment), "+", "%20"), 1)
	}

	var body io.Reader
	switch binding.Body {
	case "":
		query := url.Values{}
		flatten(query, "", message, pathFields(binding), rapid.Bool().Draw(t, "snake_case"))
		if len(query) > 0 {
			target += "?" + query.Encode()
		}
	case "*":
		body = bytes.NewReader(marshal(t, message))
	default:
		body = bytes.NewReader(marshal(t, message.Get(input.Fields().ByTextName(binding.Body)).Message().Interface()))
	}
	request, err := http.NewRequest(binding.Verb, target, body)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("X-Api-Key", testKey)
	request.Header.Set("X-Group", testGroup)
	// What a client could try to smuggle.
	request.Header.Set("Authorization", "Bearer other")
	request.Header.Set("Grpc-Metadata-X-Api-Key", "other")
	request.Header.Set("Grpc-Metadata-X-Group", "groups/other")
	request.Header.Set("Grpc-Timeout", "1n")
	request.Header.Set("X-Forwarded-For", "203.0.113.9")
	request.Header.Set("X-Forwarded-Host", "evil.example")
	request.Header.Set("X-Http-Method-Override", "DELETE")
	request.Header.Set("Cookie", "session=1")
	request.Header.Set("Grpc-Status", "0")
	return request
}

func marshal(t *rapid.T, message proto.Message) []byte {
	options := protojson.MarshalOptions{UseProtoNames: rapid.Bool().Draw(t, "snake_case")}
	body, err := options.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// flatten writes a message as query parameters.
func flatten(query url.Values, prefix string, message protoreflect.Message, skip []string, snake bool) {
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		for _, path := range skip {
			if prefix == "" && path == string(field.Name()) {
				return true
			}
		}
		name := field.JSONName()
		if snake {
			name = string(field.Name())
		}
		name = prefix + name
		switch {
		case field.IsList():
			for i := range value.List().Len() {
				query.Add(name, scalar(field, value.List().Get(i)))
			}
		case field.Message() != nil && field.Message().FullName() == "google.protobuf.Timestamp":
			text, _ := protojson.Marshal(value.Message().Interface())
			unquoted, _ := strconv.Unquote(string(text))
			query.Add(name, unquoted)
		case field.Message() != nil:
			flatten(query, name+".", value.Message(), nil, snake)
		default:
			query.Add(name, scalar(field, value))
		}
		return true
	})
}

func scalar(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	if field.Kind() == protoreflect.EnumKind {
		return string(field.Enum().Values().ByNumber(value.Enum()).Name())
	}
	return value.String()
}

type fataler interface{ Fatal(...any) }

func send(t fataler, server *httptest.Server, request *http.Request) (*http.Response, []byte) {
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, body
}

func wantMetadata() map[string][]string {
	return map[string][]string{"x-api-key": {testKey}, "x-group": {testGroup}}
}

// visible leaves out the metadata that gRPC itself sends with every call.
func visible(received map[string][]string) map[string][]string {
	rest := make(map[string][]string)
	for key, values := range received {
		switch key {
		case ":authority", "content-type", "user-agent", "grpc-accept-encoding":
		default:
			rest[key] = values
		}
	}
	return rest
}

func pathFields(binding *contract.Binding) []string {
	if binding.PathField == "" {
		return nil
	}
	return []string{binding.PathField}
}
