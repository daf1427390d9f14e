package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/idempotency/memstore"
	"github.com/meshtrade/mesh-gateway/internal/middleware"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/ratelimit"
)

// withChain puts the middleware of mesh-gateway in front of a peer, in the same order:
// request ids, access log, CORS, limits on bodies, credentials, rates and streams,
// deadlines, compression. The validation of requests, which mesh-gateway does too, is not
// middleware and is left out.
func withChain(peer http.Handler) (http.Handler, error) {
	plenty := ratelimit.Rate{Requests: 1_000_000, Period: time.Second}
	admission := policy.New(policy.Limits{
		Read: plenty, Write: plenty, Streams: policy.StreamLimits{PerKey: 100, All: 5000}, Timeout: 30 * time.Second,
	})
	keys := policy.NewKeys()
	failures := middleware.Failures(policy.NewFailures(plenty, ratelimit.NewLimiter(nil), keys), keys)
	compressor, err := middleware.NewCompressor()
	if err != nil {
		return nil, err
	}
	tickets := middleware.NewTickets(middleware.NewSealedTickets(memstore.New(memstore.DefaultLimits())),
		func(context.Context, http.Header) error { return nil })
	methods := make(map[*contract.Method]http.Handler)
	for _, method := range contract.Methods() {
		handler := compressor.Reads(method)(peer)
		handler = middleware.Admit(admission, policy.RulesOf(method))(handler)
		handler = tickets.Redeem(method)(handler)
		methods[method] = failures(middleware.Method(method)(handler))
	}

	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	r := chi.NewRouter()
	r.Use(
		middleware.RequestID(),
		middleware.ClientIP(nil),
		middleware.Observe(middleware.AccessLog(logger, 1)),
		middleware.Recover(logger),
		middleware.CORS(nil),
		middleware.BodyLimit(1<<20),
	)
	r.HandleFunc("/v1/*", func(w http.ResponseWriter, r *http.Request) {
		route, _ := contract.Match(r.URL.Path)
		if route == nil || route.Binding(r.Method) == nil {
			http.NotFound(w, r)
			return
		}
		binding := route.Binding(r.Method)
		r.Pattern = binding.Verb + " " + binding.Template
		methods[binding.Method].ServeHTTP(w, r)
	})
	return r, nil
}
