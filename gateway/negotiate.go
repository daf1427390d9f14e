package gateway

import (
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
)

const (
	mediaJSON   = "application/json"
	mediaNDJSON = "application/x-ndjson"
)

// negotiate refuses a request whose answer the client would not take (406),
// and one whose body is not JSON (415).
func negotiate(method *Method, next http.Handler) http.Handler {
	produced := []string{mediaJSON}
	if method.Streams() {
		produced = streamMedia()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !acceptable(r.Header.Values("Accept"), produced) {
			apierror.Write(w, r, apierror.New(codes.InvalidArgument, apierror.NotAcceptable,
				"Accept leaves out all that can be answered here: "+strings.Join(produced, ", ")+".").
				WithHTTPStatus(http.StatusNotAcceptable))
			return
		}
		if problem := notJSON(r); problem != "" {
			apierror.Write(w, r, apierror.New(codes.InvalidArgument, apierror.UnsupportedMediaType, problem).
				WithHTTPStatus(http.StatusUnsupportedMediaType))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// acceptable reports whether Accept admits one of the media types (RFC 9110,
// section 12.5.1). No Accept admits anything.
func acceptable(accept, produced []string) bool {
	if len(accept) == 0 {
		return true
	}
	for _, media := range produced {
		if quality(accept, media) > 0 {
			return true
		}
	}
	return false
}

// quality is the weight of a media type under Accept: that of the most
// specific range that covers it.
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

// hasBody reports whether a body was sent, of known length or chunked. Body
// itself does not tell: middleware may have wrapped it.
func hasBody(r *http.Request) bool { return r.Body != nil && r.ContentLength != 0 }

// notJSON says what keeps the body from being read as JSON; "" is nothing.
func notJSON(r *http.Request) string {
	if !hasBody(r) {
		return ""
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return "Content-Encoding: " + encoding + " is not understood; send the body as it is."
	}
	given := r.Header.Get("Content-Type")
	const add = ` Send it with the header "Content-Type: application/json".`
	if given == "" {
		return "The body has no Content-Type." + add
	}
	media, parameters, err := mime.ParseMediaType(given)
	if err != nil || media != mediaJSON {
		return "The body is sent as " + given + "." + add
	}
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return "JSON is UTF-8 (RFC 8259), not " + charset + "."
	}
	return ""
}
