package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

const (
	mediaWorkbook = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
	// workbookField is the reply field that makes a method answer with a file.
	workbookField = "excel_base64"
)

// download answers with the decoded workbook where the client asks for one: by
// Accept, or by alt=media in the query, which a link can hold. All else is
// answered as JSON, refusals too.
func download(method *Method, binding *contract.Binding, next http.Handler) http.Handler {
	field := method.Descriptor.Output().Fields().ByName(workbookField)
	if field == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		media := query.Get("alt") == "media"
		if !media && preferred(r.Header.Values("Accept"), []string{mediaJSON, mediaWorkbook}) != mediaWorkbook {
			next.ServeHTTP(w, r)
			return
		}
		if query.Has(fieldsParameter) {
			apierror.Write(w, r, apierror.Invalid(apierror.Violation{
				Field: fieldsParameter, Description: "a workbook has no fields; leave it out, or ask for JSON"}))
			return
		}
		asked := r.Clone(r.Context())
		asked.Header.Set("Accept", mediaJSON)
		if media {
			query.Del("alt")
			asked.URL.RawQuery = query.Encode()
		}
		answer := &captured{header: w.Header().Clone(), status: http.StatusOK}
		next.ServeHTTP(answer, asked)
		if answer.status != http.StatusOK {
			maps.Copy(w.Header(), answer.header)
			w.WriteHeader(answer.status)
			_, _ = w.Write(answer.body.Bytes()) // the client may be gone
			return
		}
		file, err := decoded(answer.body.Bytes(), field)
		if err != nil {
			apierror.Write(w, r, apierror.New(codes.Internal, apierror.UpstreamReply, "The Mesh API answered with a workbook that cannot be decoded."))
			return
		}
		w.Header().Set("Content-Type", mediaWorkbook)
		w.Header().Set("Content-Length", strconv.Itoa(len(file)))
		w.Header().Set("Content-Disposition", `attachment; filename="account-report-`+pathValue(r, binding)+`.xlsx"`)
		_, _ = w.Write(file) // the client may be gone
	})
}

func decoded(body []byte, field protoreflect.FieldDescriptor) ([]byte, error) {
	var reply map[string]string
	if err := json.Unmarshal(body, &reply); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(reply[field.JSONName()])
}

// captured keeps an answer instead of sending it. It is as large as the
// upstream's largest reply at most.
type captured struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (c *captured) Header() http.Header                  { return c.header }
func (c *captured) WriteHeader(status int)               { c.status = status }
func (c *captured) Write(data []byte) (n int, err error) { return c.body.Write(data) }
