package gateway

import (
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// format is how an answer is written.
type format int

const (
	asJSON      format = iota
	asWorkbook         // the file that the reply holds
	asLines            // a stream, a JSON message a line
	asEvents           // a stream of server-sent events
	asWebSocket        // a stream over a WebSocket
)

// negotiate finds the format of the answer. It refuses a request whose answer the
// client would not accept (406), and one whose body is not JSON (415).
func (rt *route) negotiate(r *http.Request, query url.Values) (format, error) {
	chosen, offered := asJSON, []string{wire.JSON}
	accept := r.Header["Accept"]
	switch {
	case rt.Method.Streams() && wantsWebSocket(r):
		return asWebSocket, rt.options.checkHandshake(r)
	case rt.Method.Streams():
		chosen, offered = asLines, []string{wire.NDJSON, wire.JSON, wire.EventStream}
		if preferred(accept, offered) == wire.EventStream {
			chosen = asEvents
		}
	case rt.workbook != nil:
		offered = []string{wire.JSON, wire.Workbook}
		if query.Get(wire.AltParameter) == wire.AltMedia {
			return asWorkbook, notJSON(r)
		}
		if preferred(accept, offered) == wire.Workbook {
			chosen = asWorkbook
		}
	}
	if !acceptable(accept, offered) {
		return chosen, apierror.New(codes.InvalidArgument, apierror.NotAcceptable,
			"Accept matches none of the available media types: "+strings.Join(offered, ", ")+".").
			WithHTTPStatus(http.StatusNotAcceptable)
	}
	return chosen, notJSON(r)
}

// acceptsAnything reports whether Accept rules nothing out and prefers nothing
// (RFC 9110, section 12.5.1).
func acceptsAnything(accept []string) bool {
	return len(accept) == 0 || len(accept) == 1 && accept[0] == "*/*"
}

// acceptable reports whether Accept admits one of the media types.
func acceptable(accept, offered []string) bool {
	if acceptsAnything(accept) {
		return true
	}
	return slices.ContainsFunc(offered, func(media string) bool { return quality(accept, media) > 0 })
}

// preferred is the media type to which Accept gives the highest weight, the first of
// those that share it.
func preferred(accept, offered []string) string {
	best, weight := offered[0], 0.0
	if acceptsAnything(accept) {
		return best
	}
	for _, media := range offered {
		if q := quality(accept, media); q > weight {
			best, weight = media, q
		}
	}
	return best
}

// quality is the weight of a media type under Accept: that of the most specific
// range that covers it.
func quality(accept []string, media string) float64 {
	kind, _, _ := strings.Cut(media, "/")
	ranges := []string{"*/*", kind + "/*", media} // least specific first
	best, weight := -1, 0.0
	for item := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		name, parameters, err := mime.ParseMediaType(strings.TrimSpace(item))
		if err != nil {
			continue
		}
		specificity := slices.Index(ranges, name)
		if specificity <= best {
			continue
		}
		q := 1.0
		if given, ok := parameters["q"]; ok {
			if q, err = strconv.ParseFloat(given, 64); err != nil {
				continue
			}
		}
		best, weight = specificity, q
	}
	return weight
}

// hasBody reports whether a body was sent, of known length or chunked. The field
// Body does not say: middleware may have wrapped it.
func hasBody(r *http.Request) bool { return r.Body != nil && r.ContentLength != 0 }

// notJSON refuses a body that is not JSON.
func notJSON(r *http.Request) error {
	if !hasBody(r) {
		return nil
	}
	refuse := func(problem string) error {
		return apierror.New(codes.InvalidArgument, apierror.UnsupportedMediaType, problem).
			WithHTTPStatus(http.StatusUnsupportedMediaType)
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return refuse("Content-Encoding: " + encoding + " is not supported; send the body without an encoding.")
	}
	given := r.Header.Get("Content-Type")
	if given == wire.JSON {
		return nil
	}
	const add = ` Send it with the header "Content-Type: application/json".`
	if given == "" {
		return refuse("The body has no Content-Type." + add)
	}
	media, parameters, err := mime.ParseMediaType(given)
	if err != nil || media != wire.JSON {
		return refuse("The body is sent as " + given + "." + add)
	}
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return refuse("JSON must be encoded in UTF-8 (RFC 8259), not in " + charset + ".")
	}
	return nil
}
