package policy

import (
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// deadline returns the timeout of a call: the limit, or that of the client if it is shorter. A
// stream has only the timeout of the client, if any.
func deadline(header http.Header, stream bool, limit time.Duration) (timeout time.Duration, limited bool, err error) {
	timeout, given, err := requestTimeout(header.Get(wire.RequestTimeoutHeader))
	switch {
	case err != nil:
		return 0, false, err
	case stream:
		return timeout, given, nil
	case !given || timeout > limit:
		return limit, true, nil
	default:
		return timeout, true, nil
	}
}

func requestTimeout(value string) (timeout time.Duration, given bool, err error) {
	if value == "" {
		return 0, false, nil
	}
	seconds, parseErr := strconv.ParseFloat(value, 64)
	// The upper bound prevents an overflow of Duration. NaN fails both comparisons.
	if parseErr != nil || !(seconds > 0 && seconds <= 86400) {
		return 0, false, apierror.New(codes.InvalidArgument, apierror.InvalidRequest,
			wire.RequestTimeoutHeader+" must be a number of seconds above 0 and at most 86400, such as 5 or 0.5. Nothing was sent to the Mesh API.")
	}
	return time.Duration(seconds * float64(time.Second)), true, nil
}
