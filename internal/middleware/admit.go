package middleware

import (
	"net/http"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/policy"
)

// Admit passes on the calls that the policy admits ([policy.Policy.Admit]) and responds to the
// others with its error. It requires [ClientIP].
func Admit(admission *policy.Policy, rules policy.Rules) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, release, err := admission.Admit(r.Context(), policy.Call{
				Rules: rules, Header: r.Header, ResponseHeader: w.Header(), Address: ClientIPOf(r), Body: r.ContentLength,
			})
			if err != nil {
				apierror.Write(w, err)
				return
			}
			defer release()
			if ctx != r.Context() {
				r = r.WithContext(ctx)
			}
			if lease := budget.Of(ctx); lease != nil && r.ContentLength < 0 {
				r.Body = lease.Body(r.Body)
			}
			next.ServeHTTP(w, r)
		})
	}
}
