// Package conformance compares the behaviour of a gateway with its OpenAPI document. It wraps the
// HTTP client of a test and checks each call against the document: path, status, headers and body,
// including errors and streams, and whether the document accepts the same requests as the gateway.
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
	// wordy is set if the request has rules that JSON Schema cannot express.
	wordy bool
}

// Watch counts calls and collects mismatches.
type Watch struct {
	operations []Operation
	// lenient checks accepted requests. strict checks rejected requests and responses, and also
	// finds undocumented fields.
	lenient, strict validator.Validator

	mu                  sync.Mutex
	seen                map[string]map[string]bool // statuses by operation
	requested, answered int
	mismatches          []string
}

// New returns a Watch for a document in JSON.
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
				op.Answers[status] = []string{wire.JSON} // the media type of shared responses
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

// digestible rewrites the document for two limitations of the validator. The validator treats the
// text after a parameter as a part of it, as in {account}:open, so paths are rewritten to
// {account}/:open, in requests too. And it does not resolve a reference that has other keywords
// next to it.
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

// bareReferences removes the keywords next to a reference. Keywords that restrict values are moved
// to an allOf with the reference.
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

// anyHeader returns the headers of HTTP, CORS and caching that the document does not describe.
func anyHeader() []string {
	return []string{
		"Content-Type", "Content-Length", "Content-Encoding", "Date", "Vary", "Cache-Control", "Connection", "Transfer-Encoding", "X-Accel-Buffering", "X-Content-Type-Options",
		"Access-Control-Allow-Origin", "Access-Control-Expose-Headers",
	}
}

// Operations returns the operations of the document, sorted by ID.
func (w *Watch) Operations() []Operation { return w.operations }

// Transport returns a RoundTripper that checks all calls through next.
func (w *Watch) Transport(next http.RoundTripper) http.RoundTripper {
	return transport{w, next}
}

type transport struct {
	watch *Watch
	next  http.RoundTripper
}

// CloseIdleConnections makes http.Client.CloseIdleConnections work.
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
		call.judge(true) // WebSocket frames follow
		return response, nil
	}
	response.Body = &tee{ReadCloser: response.Body, call: call}
	return response, nil
}

// find returns the operation of a request.
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

// tee records the body of a response and checks the exchange at its end.
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

// exchange is a request and its response.
type exchange struct {
	watch        *Watch
	op           Operation
	request      *http.Request
	body, answer []byte
	status       int
	header       http.Header
}

// judge checks the exchange against the document. If the response was not read to its end, only the
// part that was read is checked.
func (e *exchange) judge(whole bool) {
	var problems []string
	status := fmt.Sprint(e.status)
	media, documented := e.op.Answers[status]
	if !documented && !e.mayBeDefault() {
		problems = append(problems, "the status is not documented")
	}
	given, _, _ := strings.Cut(e.header.Get("Content-Type"), ";")
	if documented && len(media) > 0 && !slices.Contains(media, given) {
		problems = append(problems, fmt.Sprintf("the media type %q is not documented; want one of %s", given, media))
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

// mayBeDefault reports whether the document describes the status only as "default": statuses of
// requests that do not reach an operation, and all statuses of an upstream other than the sandbox.
func (e *exchange) mayBeDefault() bool {
	return slices.Contains([]int{http.StatusRequestTimeout, http.StatusMisdirectedRequest, http.StatusRequestHeaderFieldsTooLarge}, e.status) ||
		!e.fromSandbox()
}

// fromSandbox reports whether the response is from the sandbox. Test upstreams return arbitrary
// messages.
func (e *exchange) fromSandbox() bool { return e.header.Get("X-Mesh-Environment") == "sandbox" }

// judgeRequest returns the violations of the document in a request that the gateway accepted.
func (e *exchange) judgeRequest() []string {
	request := e.sent()
	_, found := e.watch.lenient.ValidateHttpRequestSync(request)
	return told("accepted: ", found)
}

// refusedInvalid reports whether the gateway rejected the request as invalid.
func (e *exchange) refusedInvalid() bool {
	return e.status == http.StatusBadRequest && bytes.Contains(e.answer, []byte(`"`+apierror.InvalidRequest+`"`))
}

// judgeRefusal returns a problem if the document allows a request that the gateway rejected. The
// validator does not detect repeated parameters.
func (e *exchange) judgeRefusal() []string {
	for _, values := range e.request.URL.Query() {
		if len(values) > 1 {
			return nil
		}
	}
	if ok, _ := e.watch.strict.ValidateHttpRequestSync(e.sent()); ok && !e.op.wordy {
		return []string{fmt.Sprintf("rejected, but valid according to the document: %.300s", e.answer)}
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
	case e.status == http.StatusRequestHeaderFieldsTooLarge: // a plain-text response from net/http
	case len(e.op.Answers[fmt.Sprint(e.status)]) == 0 && len(e.answer) > 0:
		return []string{"the response has a body, but none is documented"}
	}
	return nil
}

// judgeLines checks each line of a stream against the schema of its messages.
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

// judgeEvents checks the data of server-sent events in the same way.
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

// judgeError checks an error in a stream against the schema of errors.
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

// Unseen returns the documented statuses that no response had.
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

// Mismatches returns the differences between the gateway and the document.
func (w *Watch) Mismatches() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.mismatches)
}

// Report returns a summary in one line.
func (w *Watch) Report() string {
	unseen := w.Unseen()
	w.mu.Lock()
	defer w.mu.Unlock()
	// Operations that differ only in their suffix are one RPC: MonitorLimitOrder and
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
