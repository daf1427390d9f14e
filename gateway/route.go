package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wirejson"
)

// route is what serves one route of the contract.
type route struct {
	*contract.Binding
	handle  runtime.HandlerFunc
	options *options
	rules   *rules
	codecs  *codecs
	headers headerList
	// input is the request message. bodyField is the field of it that the body
	// fills, nil where that is all of it or nothing.
	input     protoreflect.MessageDescriptor
	bodyField protoreflect.FieldDescriptor
	// pathInBody is the field that the path sets, where a body could set it too: a
	// field of the message that the body holds.
	pathInBody protoreflect.FieldDescriptor
	// parameters are those of the query, by both of their spellings.
	parameters map[string]parameter
	// enums are the enums in the message that the body holds.
	enums *enums
	// reply is the type of the answer, as it is written from its wire form.
	reply *wirejson.Type
	// workbook is the field of the reply that holds a file, nil on most routes.
	workbook protoreflect.FieldDescriptor
}

func newRoute(binding *contract.Binding, handle runtime.HandlerFunc, o *options, rules *rules, codecs *codecs, headers headerList, types *wirejson.Types) *route {
	input := binding.Method.Descriptor.Input()
	rt := &route{
		Binding: binding, handle: handle, options: o, rules: rules, codecs: codecs, headers: headers, input: input,
		reply:      types.Of(binding.Method.Descriptor.Output()),
		workbook:   binding.Method.Descriptor.Output().Fields().ByName(workbookField),
		parameters: make(map[string]parameter),
	}
	rt.walkQuery(func(json, proto string, field protoreflect.FieldDescriptor) {
		rt.parameters[json], rt.parameters[proto] = parameter{json, field}, parameter{json, field}
	})
	body := input
	switch binding.Body {
	case "":
	case "*":
		rt.pathInBody = input.Fields().ByTextName(binding.PathField)
	default:
		rt.bodyField = input.Fields().ByTextName(binding.Body)
		body = rt.bodyField.Message()
		if outer, inner, nested := strings.Cut(binding.PathField, "."); nested && outer == binding.Body {
			rt.pathInBody = body.Fields().ByTextName(inner)
		}
	}
	rt.enums = enumsIn(body, make(map[protoreflect.FullName]*enums))
	return rt
}

// request is a request on its way through the generated handler. The handler gets it as
// the body, which it hands to the decoder (body.go) and to the error writer (errors.go),
// and in its context, which it hands to the connection (conn.go).
type request struct {
	route *route
	ctx   context.Context
	// response is what the answer is written to.
	response http.ResponseWriter
	// metadata is what the upstream is sent with the call, and codec the codec of the call.
	metadata metadata.MD
	codec    wireCodec
	// replyMetadata is the metadata of the reply to a WRITE with an Idempotency-Key.
	replyMetadata metadata.MD
	// sent is the request message of the call, nil until it has passed the check.
	sent proto.Message
	// receiving is the goroutine that receives the messages of a stream, and more reports
	// whether it has another one after that in codec.
	receiving sync.WaitGroup
	more      bool
	// path is the value that the path sets.
	path string
	// query holds the parameters that fit the request message.
	query url.Values
	// mask is the part of the answer that was asked for, and kept the same for the type of
	// the reply.
	mask mask
	kept *wirejson.Mask
	// problems are the faults found so far.
	problems faults
	body     io.ReadCloser
	length   int64
	// lease is what the request holds of the memory budget, nil if there is none.
	lease *budget.Lease
	// refusal is why the body was refused. The generated code passes errors of the
	// decoder on as text only.
	refusal error
}

// handlerContext is the context of a generated handler, in which the connection finds the request.
// It is never done, so that the context that the handler derives from it costs next to nothing: the
// connection calls the upstream with the context of the request instead.
type handlerContext struct{ request *request }

type requestKey struct{}

// Deadline implements [context.Context].
func (c handlerContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements [context.Context].
func (c handlerContext) Done() <-chan struct{} { return nil }

// Err implements [context.Context].
func (c handlerContext) Err() error { return nil }

// Value implements [context.Context].
func (c handlerContext) Value(key any) any {
	if key == (requestKey{}) {
		return c.request
	}
	return c.request.ctx.Value(key)
}

// requestOf returns the request whose generated handler runs in the context.
func requestOf(ctx context.Context) (*request, error) {
	q, ok := ctx.Value(requestKey{}).(*request)
	if !ok {
		return nil, errors.New("gateway: the generated handler's context has no request")
	}
	return q, nil
}

// Read implements [io.Reader], so that the generated code can drain the body.
func (q *request) Read(p []byte) (int, error) { return q.body.Read(p) }

// Close implements [io.Closer].
func (q *request) Close() error { return q.body.Close() }

// hold counts the memory of a reply, in bytes, in place of what was counted before.
func (q *request) hold(size int) {
	if q.lease != nil {
		q.lease.Hold(int64(size))
	}
}

func (rt *route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	format, refusal := rt.negotiate(r, values)
	if refusal != nil {
		apierror.Write(w, refusal)
		return
	}
	header := w.Header()
	header["Cache-Control"] = noStore
	header["X-Content-Type-Options"] = noSniff

	q := &request{
		route: rt, ctx: r.Context(), response: w, metadata: rt.headers.metadata(r.Header),
		codec: rt.codecs.ofCall(), path: rt.pathValue(r), body: r.Body, length: r.ContentLength,
		lease: budget.Of(r.Context()),
	}
	if q.body == nil {
		q.body = http.NoBody
	}
	q.readQuery(values, err, format)
	if hasBody(r) && rt.Body == "" {
		q.problems.Add("", "this method takes no body; send fields as query parameters")
	}
	if !q.problems.Empty() {
		apierror.Write(w, q.refuseQuery())
		return
	}

	defer q.codec.release()
	if !rt.Method.Streams() {
		rt.call(&reply{ResponseWriter: w, request: q, workbook: format == asWorkbook, head: r.Method == http.MethodHead}, r, q)
		return
	}
	var leave context.CancelCauseFunc
	q.ctx, leave = context.WithCancelCause(q.ctx)
	defer q.receiving.Wait()
	defer leave(nil)
	s := newStream(w, r, q, format, leave)
	defer s.close()
	rt.call(s, r, q)
}

// The values of headers that are always the same. They are never appended to in place,
// since they have no capacity for it.
var noStore, noSniff = []string{"no-store"}, []string{"nosniff"}

// pathValue returns the value that the path sets, or "" if it sets none.
func (rt *route) pathValue(r *http.Request) string {
	if rt.PathField == "" {
		return ""
	}
	path, escaped := matchedPath(r.URL)
	_, segment := contract.Match(path)
	if escaped {
		segment = unescape(segment)
	}
	return rt.PathValue(segment)
}

// call calls the generated handler.
func (rt *route) call(w receiver, r *http.Request, q *request) {
	r = r.WithContext(handlerContext{q})
	r.Body = q
	r.Form, r.PostForm = q.query, url.Values{} // as ParseForm leaves them
	// The runtime would make metadata and a deadline of these. The metadata of the call is
	// that of q, and the policy alone sets deadlines.
	r.Header, r.Host, r.RemoteAddr = nil, "", ""
	var params map[string]string
	if rt.PathField != "" {
		params = map[string]string{rt.PathField: q.path}
	}
	rt.handle(w, r, params)
}

// refuseQuery lists what is wrong with the query and, so that a client learns of all
// faults at once, with the rest of the request.
func (q *request) refuseQuery() error {
	if q.route.Body == "" || q.length == 0 {
		return q.explain(nil)
	}
	body, err := q.readBody()
	if err != nil {
		return err
	}
	return q.explain(body)
}

// readBody reads the body whole. Its error is the refusal to answer with.
func (q *request) readBody() ([]byte, error) {
	body := make([]byte, 0, max(512, min(q.length+1, 64<<10)))
	for {
		n, err := q.body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, unreadable(err)
		}
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
	}
}

// unreadable is the refusal of a body that did not arrive.
func unreadable(err error) error {
	if refused, ok := errors.AsType[*apierror.Error](err); ok {
		return refused // there is no memory for it
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return apierror.New(codes.ResourceExhausted, apierror.BodyTooLarge,
			"The body is larger than the maximum of "+strconv.FormatInt(tooLarge.Limit, 10)+" bytes. Nothing was sent to the Mesh API.").
			WithHTTPStatus(http.StatusRequestEntityTooLarge)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return apierror.New(codes.DeadlineExceeded, apierror.RequestTimeout,
			"The body did not arrive in time. Nothing was sent to the Mesh API.").WithHTTPStatus(http.StatusRequestTimeout)
	}
	return apierror.New(codes.Canceled, apierror.ClientClosedRequest,
		"The body ended early. Nothing was sent to the Mesh API.").WithCause(err)
}
