package middleware

import (
	"crypto/sha256"
	"net/http"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// Admit passes on the calls that the policy admits ([policy.Policy.Admit]) and responds to the
// others with its error. It makes the [telemetry.Call], which is the context of the request from here
// on. It requires [ClientIP].
func Admit(admission *policy.Policy, rules policy.Rules) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			call := telemetry.NewCall(r.Context())
			call.Client = ClientIPOf(r)
			if observed := responseOf(w); observed != nil {
				observed.call, call.Span = call, observed.span
			}
			ctx, release, err := admission.Admit(call, policy.Call{
				Rules: rules, Header: r.Header, ResponseHeader: w.Header(), Address: call.Client, Body: r.ContentLength,
				Caller: (*[sha256.Size]byte)(&call.Caller),
			})
			if err != nil {
				apierror.Write(w, err)
				return
			}
			defer release()
			r = r.WithContext(ctx)
			if lease := budget.Of(ctx); lease != nil && r.ContentLength < 0 {
				r.Body = lease.Body(r.Body)
			}
			next.ServeHTTP(w, r)
		})
	}
}
