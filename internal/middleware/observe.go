package middleware

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
	"github.com/meshtrade/mesh-gateway/internal/tracing"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Observation is what is known about a request after its response.
type Observation struct {
	// Request is the request as it arrived. Handlers may have added headers to it.
	Request *http.Request
	// Header is the header of the response.
	Header http.Header
	// Path is the path of the request as it arrived.
	Path string
	// Method is the RPC method, or nil if the request is for none.
	Method *contract.Method
	// Binding is the route of the contract that the request is for, or nil.
	Binding *contract.Binding
	// Route is the pattern of the path, or "" if no route matched.
	Route string
	// Status is the HTTP status. It is 499 ([apierror.StatusClientClosedRequest]) if the client
	// disconnected before a response, and 500 if the response was aborted before its header.
	Status int
	// Bytes is the size of the response body.
	Bytes int64
	// Begin is when the request arrived, and Duration how long it was served.
	Begin    time.Time
	Duration time.Duration
	// Err is the last error that was written or that ended the stream, or nil. Code is its gRPC code,
	// or OK, and Reason its reason if it is one of the gateway.
	Err    error
	Code   codes.Code
	Reason apierror.Reason
	// TraceID is the id of the trace that the request belongs to, or "": that of its Traceparent, which
	// is the client's unless [Trace] has replaced it.
	TraceID string
	// Call is what was learned of the call. It is nil if the request did not reach [Admit].
	Call *telemetry.Call

	span *tracing.Request // nil if it is not sampled
}

// CodeName returns the name of the code (google/rpc/code.proto).
func (o *Observation) CodeName() string { return code.Code(o.Code).String() }

// Observe calls the observers with each request after its response, in their order, even if the
// handler panics. [Method] says which RPC method a request is for.
func Observe(observers ...func(*Observation)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			observed := &response{ResponseWriter: w}
			// Handlers may rewrite the path of the request.
			path, begin, returned := r.URL.Path, time.Now(), false
			// Deferred, so that requests that panic with http.ErrAbortHandler are observed.
			defer func() {
				o := observed.observation(r, returned)
				o.Path, o.Begin, o.Duration = path, begin, time.Since(begin)
				for _, observe := range observers {
					observe(&o)
				}
			}()
			next.ServeHTTP(observed, r)
			returned = true
		})
	}
}

// Method tells [Observe] the RPC method of a request and its route, by [http.Request.Pattern]. It is
// the outermost middleware of a method, so that rejected requests are attributed to their method
// too.
func Method(method *contract.Method) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if observed := responseOf(w); observed != nil {
				observed.method = method
				for _, binding := range method.Bindings {
					if binding.Route() == r.Pattern {
						observed.binding, observed.route = binding, binding.Template
					}
				}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Route tells [Observe] the route that a chi router finds for a request, unless [Method] has told
// it a more specific one. It is a middleware of that router.
func Route(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Deferred, because chi finds the route after its middleware has run.
		defer func() {
			if observed := responseOf(w); observed != nil && observed.route == "" {
				observed.route = chi.RouteContext(r.Context()).RoutePattern()
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// response records what becomes of a request while it is served. The middleware inside of [Observe]
// finds it with responseOf.
type response struct {
	http.ResponseWriter

	status  int
	bytes   int64
	method  *contract.Method
	binding *contract.Binding
	route   string
	call    *telemetry.Call
	span    *tracing.Request

	// Streams may fail in other goroutines than the handler's.
	mu  sync.Mutex
	err error
}

// responseOf returns the response that w is or wraps, or nil if there is none.
func responseOf(w http.ResponseWriter) *response {
	observed, _ := find[*response](w)
	return observed
}

// find returns the writer of a type that w is or wraps, as [http.ResponseController] unwraps it.
func find[W http.ResponseWriter](w http.ResponseWriter) (found W, ok bool) {
	for {
		if found, ok = w.(W); ok {
			return found, true
		}
		wrapper, wraps := w.(interface{ Unwrap() http.ResponseWriter })
		if !wraps {
			return found, false
		}
		w = wrapper.Unwrap()
	}
}

// begun reports whether the response has begun, so that its status cannot change any more.
func (w *response) begun() bool { return w.status != 0 }

// Unwrap is for [http.ResponseController].
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (w *response) WriteHeader(status int) {
	// An informational response is not the response, except for the one that ends HTTP.
	if !w.begun() && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [io.Writer].
func (w *response) Write(data []byte) (int, error) {
	w.implicit()
	n, err := w.ResponseWriter.Write(data)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom implements [io.ReaderFrom], which lets net/http send files without copying them.
func (w *response) ReadFrom(from io.Reader) (int64, error) {
	w.implicit()
	n, err := io.Copy(w.ResponseWriter, from)
	w.bytes += n
	return n, err
}

// Flush implements [http.Flusher] for handlers that do not use [http.ResponseController].
func (w *response) Flush() { _ = w.FlushError() } // the next write fails as well

// FlushError is for [http.ResponseController].
func (w *response) FlushError() error {
	w.implicit()
	if flusher, ok := w.ResponseWriter.(interface{ FlushError() error }); ok {
		return flusher.FlushError() // without the allocation of a controller
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// implicit records the status that net/http sends before a body without a status.
func (w *response) implicit() {
	if !w.begun() {
		w.status = http.StatusOK
	}
}

// ObserveError implements [apierror.Observer]. The last error wins, since a buffered response may
// be replaced by another.
func (w *response) ObserveError(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// outcome returns the status of the response, and the reason of the error if it is one of the
// gateway. The status is 0 if the response has not begun.
func (w *response) outcome() (status int, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		reason = apierror.ReasonOf(w.err)
	}
	return w.status, reason
}

// observation returns what is known after the handler has returned or panicked.
func (w *response) observation(r *http.Request, returned bool) Observation {
	o := Observation{
		Request: r, Header: w.Header(), Method: w.method, Binding: w.binding, Route: w.route,
		Status: w.status, Bytes: w.bytes, Call: w.call, span: w.span,
	}
	if values := r.Header[wire.TraceparentHeader]; len(values) == 1 {
		o.TraceID = wire.TraceID(values[0])
	}
	switch {
	case w.begun():
	case errors.Is(r.Context().Err(), context.Canceled):
		o.Status = apierror.StatusClientClosedRequest
	case returned:
		o.Status = http.StatusOK // net/http sends it if a handler writes nothing
	default:
		o.Status = http.StatusInternalServerError
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if o.Err = w.err; o.Err != nil {
		o.Code, o.Reason = apierror.CodeOf(o.Err), apierror.Reason(apierror.ReasonOf(o.Err))
	}
	return o
}
