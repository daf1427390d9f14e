package middleware

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// RequestTimeoutHeader is the time a client gives its call, in seconds; a
// fraction is understood. It can shorten the gateway's limit, not lengthen it.
const RequestTimeoutHeader = "Request-Timeout"

// Deadline ends a unary call after limit, or sooner if the client asks for it.
// Streams live until one side ends them.
func Deadline(method *contract.Method, limit time.Duration) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			timeout, given, err := requestTimeout(r.Header.Get(RequestTimeoutHeader))
			if err != nil {
				apierror.Write(w, r, err)
				return
			}
			switch {
			case method.Streams() && !given:
				next.ServeHTTP(w, r)
				return
			case !given, !method.Streams() && timeout > limit:
				timeout = limit
			}
			ctx, cancel := context.WithTimeout(r.Context(), timeout)
			defer cancel()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

func requestTimeout(value string) (timeout time.Duration, given bool, err error) {
	if value == "" {
		return 0, false, nil
	}
	seconds, parseErr := strconv.ParseFloat(value, 64)
	// The bound keeps the product within a Duration; NaN fails both.
	if parseErr != nil || !(seconds > 0 && seconds <= 86400) {
		return 0, false, apierror.New(codes.InvalidArgument, apierror.InvalidRequest,
			RequestTimeoutHeader+" must be a number of seconds above 0 and up to 86400, such as 5 or 0.5.")
	}
	return time.Duration(seconds * float64(time.Second)), true, nil
}
