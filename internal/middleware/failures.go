package middleware

import (
	"net/http"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/policy"
	"github.com/meshtrade/mesh-gateway/internal/telemetry"
)

// Failures refuses the requests of addresses whose requests failed too often ([policy.Failures]), and
// counts those that fail: with 401, whether the gateway or Mesh refused the key or the ticket, and for
// routes that do not exist. It requires [ClientIP] and [Observe], and [Admit] within it.
//
// Other refusals are not counted. A request that is malformed or forbidden has a key with a rate
// limit, or spends that of its address.
func Failures(failures *policy.Failures, keys *policy.Keys) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			address := ClientIPOf(r)
			if err := failures.Check(address, func() string { return policy.KeyOf(r.Header) }); err != nil {
				apierror.Write(w, err)
				return
			}
			next.ServeHTTP(w, r)
			observed := responseOf(w)
			if observed == nil {
				return
			}
			method, caller := observed.method, telemetry.Caller{}
			if observed.call != nil {
				caller = observed.call.Caller
			}
			switch status, reason := observed.outcome(); {
			case status == http.StatusUnauthorized:
				if reason == "" { // from Mesh
					keys.Rejected(caller)
				}
				failures.Count(address)
			case reason == string(apierror.UnknownPath), reason == string(apierror.MethodNotAllowed):
				failures.Count(address)
			case status == http.StatusOK && method != nil && !method.Public && !method.Streams():
				// Mesh has carried out the call, so the key is valid. A stream can open before Mesh has
				// answered.
				keys.Accepted(caller)
			}
		})
	}
}
