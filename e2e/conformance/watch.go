// Package conformance holds what a gateway does against the OpenAPI document
// that it serves. A test's client is wrapped; each of its calls is then held
// against the document: path, status, headers and body, of errors and streams
// too, and whether the document would have taken the request as the gateway did.
package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	"github.com/pb33f/libopenapi-validator/content"
	"github.com/pb33f/libopenapi-validator/errors"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/docs/examples"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Operation is an operation of the document.
type Operation struct {
	ID, Verb, Template string
	// Answers are the media types by documented status.
	Answers map[string][]string
	// wordy is set where the request has rules that JSON Schema has no words for.
	wordy bool
}

// Watch counts what was called and keeps what does not match.
type Watch struct {
	operations []Operation
	// lenient judges what was accepted, and strict what was refused and what comes
	// back, so that what is not described is found.
	lenient, strict validator.Validator

	mu                  sync.Mutex
	seen                map[string]map[string]bool // statuses by operation
	requested, answered int
	mismatches          []string
}

// New reads a document in JSON.
func New(document []byte) (*Watch, error) {
	w := &Watch{seen: make(map[string]map[string]bool)}
	var read struct {
		Paths map[string]map[string]struct {
			OperationID string
			Parameters  json.RawMessage
			Rules       json.RawMessage `json:"x-mesh-rules"`
			RequestBody struct {
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					}
				}
			}
			Responses map[string]struct {
				Ref     string `json:"$ref"`
				Content map[string]any
			}
		}
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(document, &read); err != nil {
		return nil, err
	}
	for template, item := range read.Paths {
		for verb, described := range item {
			op := Operation{ID: described.OperationID, Verb: strings.ToUpper(verb), Template: template, Answers: make(map[string][]string), wordy: described.Rules != nil}
			body := strings.TrimPrefix(described.RequestBody.Content[wire.JSON].Schema.Ref, "#/components/schemas/")
			for _, part := range []json.RawMessage{described.Parameters, read.Components.Schemas[body]} {
				op.wordy = op.wordy || bytes.Contains(part, []byte(`"x-mesh-rules"`))
			}
			for status, answer := range described.Responses {
				op.Answers[status] = []string{wire.JSON} // what components hold
				if answer.Ref == "" {
					op.Answers[status] = nil
					for media := range answer.Content {
						op.Answers[status] = append(op.Answers[status], media)
					}
				}
				slices.Sort(op.Answers[status])
			}
			w.operations = append(w.operations, op)
		}
	}
	slices.SortFunc(w.operations, func(a, b Operation) int { return strings.Compare(a.ID, b.ID) })

	readable, err := digestible(document)
	if err != nil {
		return nil, err
	}
	parsed, err := libopenapi.NewDocument(readable)
	if err != nil {
		return nil, err
	}
	both := []config.Option{config.WithFormatAssertions(), config.WithoutSecurityValidation(), config.WithBodyDecoder(wire.NDJSON, content.JSONDecoder())}
	var errs []error
	if w.lenient, errs = validator.NewValidator(parsed, both...); len(errs) > 0 {
		return nil, errs[0]
	}
	if w.strict, errs = validator.NewValidator(parsed, append(both, config.WithStrictMode(), config.WithRejectUndeclaredRequestBody(), config.WithStrictIgnoredHeaders(anyHeader()...))...); len(errs) > 0 {
		return nil, errs[0]
	}
	return w, nil
}

// digestible is the document as the validator can read it. It takes what follows
// a parameter for a part of it, as in {account}:open, and sees {account}/:open
// instead, of document and requests; and it does not look through a reference
// that has something beside it.
func digestible(document []byte) ([]byte, error) {
	var root map[string]any
	if err := json.Unmarshal(document, &root); err != nil {
		return nil, err
	}
	paths, _ := root["paths"].(map[string]any)
	for template, item := range paths {
		delete(paths, template)
		paths[strings.Replace(template, "}:", "}/:", 1)] = item
	}
	bareReferences(root)
	return json.Marshal(root)
}

// bareReferences takes what is beside a reference away, or puts it beside the
// reference in an allOf where it demands something.
func bareReferences(value any) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			bareReferences(item)
		}
	case map[string]any:
		if target, ok := value["$ref"]; ok {
			demands := make(map[string]any)
			for name, member := range value {
				if name != "$ref" && name != "description" && name != "readOnly" {
					demands[name] = member
				}
				delete(value, name)
			}
			value["$ref"] = target
			if len(demands) > 0 {
				delete(value, "$ref")
				value["allOf"] = []any{map[string]any{"$ref": target}, demands}
			}
		}
		for _, member := range value {
			bareReferences(member)
		}
	}
}

func (op Operation) separablePath(path string) string {
	if i := strings.LastIndex(path, ":"); strings.Contains(op.Template, "}:") {
		return path[:i] + "/" + path[i:]
	}
	return path
}

// anyHeader are the headers of HTTP itself, of CORS and of caching, which no
// operation describes.
func anyHeader() []string {
	return []string{
		"Content-Type", "Content-Length", "Content-Encoding", "Date", "Vary", "Cache-Control", "Connection", "Transfer-Encoding", "X-Accel-Buffering", "X-Content-Type-Options",
		"Access-Control-Allow-Origin", "Access-Control-Expose-Headers",
	}
}

// Operations are those of the document, by name.
func (w *Watch) Operations() []Operation { return w.operations }

// Transport watches what passes next.
func (w *Watch) Transport(next http.RoundTripper) http.RoundTripper {
	return transport{w, next}
}

type transport struct {
	watch *Watch
	next  http.RoundTripper
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (t transport) CloseIdleConnections() {
	if closer, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(request *http.Request) (*http.Response, error) {
	var body []byte
	if request.Body != nil && request.Body != http.NoBody {
		var err error
		if body, err = io.ReadAll(request.Body); err != nil {
			return nil, err
		}
		sent := *request
		sent.Body = io.NopCloser(bytes.NewReader(body))
		request = &sent
	}
	response, err := t.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	op, ok := t.watch.find(request)
	if !ok {
		return response, nil
	}
	call := &exchange{watch: t.watch, op: op, request: request, body: body, status: response.StatusCode, header: response.Header.Clone()}
	if response.StatusCode == http.StatusSwitchingProtocols {
		call.judge(true) // what follows is no HTTP
		return response, nil
	}
	response.Body = &tee{ReadCloser: response.Body, call: call}
	return response, nil
}

// find returns the operation that a request is for.
func (w *Watch) find(request *http.Request) (Operation, bool) {
	for _, op := range w.operations {
		if op.Verb != request.Method {
			continue
		}
		if _, ok := examples.Match(op.Template, request.URL.Path); ok {
			return op, true
		}
	}
	return Operation{}, false
}

// tee keeps what is read of an answer, and has it judged at its end.
type tee struct {
	io.ReadCloser
	call *exchange
	once sync.Once
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	t.call.answer = append(t.call.answer, p[:n]...)
	if err == io.EOF {
		t.once.Do(func() { t.call.judge(true) })
	}
	return n, err
}

func (t *tee) Close() error {
	t.once.Do(func() { t.call.judge(false) })
	return t.ReadCloser.Close()
}

// exchange is a request and its answer.
type exchange struct {
	watch        *Watch
	op           Operation
	request      *http.Request
	body, answer []byte
	status       int
	header       http.Header
}

// judge holds the exchange against the document. An answer that was not read to
// its end is held against it as far as it goes.
func (e *exchange) judge(whole bool) {
	var problems []string
	status := fmt.Sprint(e.status)
	media, documented := e.op.Answers[status]
	if !documented && !e.mayBeDefault() {
		problems = append(problems, "the status is not documented")
	}
	given, _, _ := strings.Cut(e.header.Get("Content-Type"), ";")
	if documented && len(media) > 0 && !slices.Contains(media, given) {
		problems = append(problems, fmt.Sprintf("the media type %q is not documented; %s are", given, media))
	}
	if e.status < 400 {
		problems = append(problems, e.judgeRequest()...)
	}
	if whole && e.refusedInvalid() {
		problems = append(problems, e.judgeRefusal()...)
	}
	problems = append(problems, e.judgeAnswer(given, whole)...)

	w := e.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[e.op.ID] == nil {
		w.seen[e.op.ID] = make(map[string]bool)
	}
	w.seen[e.op.ID][status] = true
	w.answered++
	if e.status < 400 || e.refusedInvalid() {
		w.requested++
	}
	for _, problem := range problems {
		w.mismatches = append(w.mismatches, fmt.Sprintf("%s: %s %s, %d: %s", e.op.ID, e.request.Method, e.request.URL.RequestURI(), e.status, problem))
	}
}

// mayBeDefault reports whether the status is one that the document leaves to
// "default": what befalls any request before an operation sees it, and whatever
// an upstream that is not the sandbox comes up with.
func (e *exchange) mayBeDefault() bool {
	return slices.Contains([]int{http.StatusRequestTimeout, http.StatusMisdirectedRequest, http.StatusRequestHeaderFieldsTooLarge}, e.status) ||
		!e.fromSandbox()
}

// fromSandbox tells the sandbox from the upstreams of tests, whose messages are
// any.
func (e *exchange) fromSandbox() bool { return e.header.Get("X-Mesh-Environment") == "sandbox" }

// judgeRequest reports why the document would have refused what the gateway did
// not.
func (e *exchange) judgeRequest() []string {
	request := e.sent()
	_, found := e.watch.lenient.ValidateHttpRequestSync(request)
	return told("accepted: ", found)
}

// refusedInvalid reports whether the gateway found the request itself at fault.
func (e *exchange) refusedInvalid() bool {
	return e.status == http.StatusBadRequest && bytes.Contains(e.answer, []byte(`"`+apierror.InvalidRequest+`"`))
}

// judgeRefusal reports that the document has nothing against what the gateway
// refused. The validator cannot see a parameter that is given twice.
func (e *exchange) judgeRefusal() []string {
	for _, values := range e.request.URL.Query() {
		if len(values) > 1 {
			return nil
		}
	}
	if ok, _ := e.watch.strict.ValidateHttpRequestSync(e.sent()); ok && !e.op.wordy {
		return []string{fmt.Sprintf("refused, and the document has nothing against it: %.300s", e.answer)}
	}
	return nil
}

func (e *exchange) sent() *http.Request {
	request := e.request.Clone(e.request.Context())
	request.URL.Scheme, request.URL.Host, request.Host = "", "", ""
	request.URL.Path, request.URL.RawPath = e.op.separablePath(request.URL.Path), ""
	request.Body = io.NopCloser(bytes.NewReader(e.body))
	return request
}

func (e *exchange) judgeAnswer(media string, whole bool) []string {
	if e.header.Get("Content-Encoding") != "" || e.status == http.StatusSwitchingProtocols || e.status < 400 && !e.fromSandbox() {
		return nil
	}
	switch {
	case media == wire.NDJSON:
		return e.judgeLines(bytes.Split(e.answer, []byte("\n")), whole)
	case media == wire.EventStream:
		return e.judgeEvents(whole)
	case media == wire.JSON && !whole:
		return nil
	case media == wire.JSON:
		return e.judgeJSON(e.status, wire.JSON, e.answer)
	case e.status == http.StatusRequestHeaderFieldsTooLarge: // net/http's own words
	case len(e.op.Answers[fmt.Sprint(e.status)]) == 0 && len(e.answer) > 0:
		return []string{"there is a body, and none is documented"}
	}
	return nil
}

// judgeLines holds each line of a stream against the schema of its messages.
func (e *exchange) judgeLines(lines [][]byte, whole bool) (problems []string) {
	for i, line := range lines {
		switch {
		case len(line) == 0 || i == len(lines)-1 && !whole:
		case bytes.HasPrefix(line, []byte(`{"error":`)):
			var last struct{ Error json.RawMessage }
			if err := json.Unmarshal(line, &last); err != nil {
				problems = append(problems, err.Error())
			}
			problems = append(problems, e.judgeError(last.Error)...)
		default:
			problems = append(problems, e.judgeJSON(e.status, wire.NDJSON, line)...)
		}
	}
	return problems
}

// judgeEvents does the same for the data of server-sent events.
func (e *exchange) judgeEvents(whole bool) (problems []string) {
	events := strings.Split(string(e.answer), "\n\n")
	for i, event := range events {
		if i == len(events)-1 && !whole {
			break
		}
		name, data := "", ""
		for line := range strings.Lines(event) {
			field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			switch field {
			case "event":
				name = value
			case "data":
				data += value
			}
		}
		switch name {
		case "message":
			problems = append(problems, e.judgeJSON(e.status, wire.NDJSON, []byte(data))...)
		case "error":
			problems = append(problems, e.judgeError([]byte(data))...)
		case "", "end":
		default:
			problems = append(problems, fmt.Sprintf("the event %q is not documented", name))
		}
	}
	return problems
}

// judgeError holds an error within a stream against the shape of all errors.
func (e *exchange) judgeError(status []byte) []string {
	return e.judgeJSON(http.StatusInternalServerError, wire.JSON, status)
}

func (e *exchange) judgeJSON(status int, media string, body []byte) []string {
	header := e.header.Clone()
	header.Set("Content-Type", media)
	_, found := e.watch.strict.ValidateHttpResponse(e.sent(), &http.Response{
		StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader(body)), Request: e.request,
	})
	return told("", found)
}

func told(prefix string, found []*errors.ValidationError) (problems []string) {
	for _, problem := range found {
		text := prefix + problem.Message + ": " + problem.Reason
		for _, detail := range problem.SchemaValidationErrors {
			text += fmt.Sprintf("; %s: %s", detail.FieldPath, detail.Reason)
		}
		problems = append(problems, text)
	}
	return problems
}

// Unseen are the documented statuses that no call was answered with.
func (w *Watch) Unseen() (unseen []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, op := range w.operations {
		for status := range op.Answers {
			if status != "default" && !w.seen[op.ID][status] {
				unseen = append(unseen, op.ID+" "+status)
			}
		}
	}
	slices.Sort(unseen)
	return unseen
}

// Mismatches are where the gateway and the document differ.
func (w *Watch) Mismatches() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.mismatches)
}

// Report sums up, in a line.
func (w *Watch) Report() string {
	unseen := w.Unseen()
	w.mu.Lock()
	defer w.mu.Unlock()
	// An operation of several routes is one RPC: MonitorLimitOrder and
	// MonitorLimitOrder_2.
	rpcs, called := make(map[string]bool), make(map[string]bool)
	statuses := 0
	for _, op := range w.operations {
		statuses += len(op.Answers)
		if _, ok := op.Answers["default"]; ok {
			statuses--
		}
		if !strings.HasPrefix(op.Template, "/v1/") {
			continue
		}
		name, _, _ := strings.Cut(op.ID, "_")
		rpcs[name] = true
		if len(w.seen[op.ID]) > 0 {
			called[name] = true
		}
	}
	return fmt.Sprintf("operations %d/%d exercised, statuses %d/%d seen, requests validated %d, responses validated %d, %d mismatches",
		len(called), len(rpcs), statuses-len(unseen), statuses, w.requested, w.answered, len(w.mismatches))
}
