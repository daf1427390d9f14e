package e2e

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestCompression(t *testing.T) {
	p := start(t, "--sandbox", "--sandbox-clock", "manual")
	broker := credential(t, "Broker Admin")
	plain := p.call(t, "GET", "/v1/iam/api_users", as(broker), "").body
	for _, test := range []struct {
		name, method, path, body, accept, want string
	}{
		{"gzip", "GET", "/v1/iam/api_users", "", "gzip", "gzip"},
		{"zstd before gzip", "GET", "/v1/iam/api_users", "", "gzip, deflate, br, zstd", "zstd"},
		{"by the weights of the client", "GET", "/v1/iam/api_users", "", "gzip;q=1, zstd;q=0", "gzip"},
		{"neither", "GET", "/v1/iam/api_users", "", "br", ""},
		{"small responses are not compressed", "GET", "/v1/iam/api_users:search?displayName=nobody", "", "gzip", ""},
		{"responses to writes are not compressed", "POST", "/v1/groups", `{"owner":"` + broker.Group + `","displayName":"` + string(bytes.Repeat([]byte("n"), 255)) + `","description":"` + string(bytes.Repeat([]byte("d"), 1000)) + `"}`, "gzip", ""},
		{"streams are not compressed", "GET", "/v1/limit_orders/00000000000000000000000001:monitor", "", "gzip", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := as(broker)
			header.Set("Accept-Encoding", test.accept)
			a := p.call(t, test.method, test.path, header, test.body)
			if a.status != http.StatusOK {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			if got := a.header.Get("Content-Encoding"); got != test.want {
				t.Fatalf("Content-Encoding is %q, want %q", got, test.want)
			}
			if test.want == "" {
				return
			}
			if a.header.Get("Vary") == "" {
				t.Error("Vary does not contain Accept-Encoding")
			}
			var reader io.Reader
			var err error
			if test.want == "gzip" {
				reader, err = gzip.NewReader(bytes.NewReader(a.body))
			} else {
				reader, err = zstd.NewReader(bytes.NewReader(a.body))
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(reader)
			if err != nil || !bytes.Equal(body, plain) {
				t.Errorf("%d bytes of %d, %v", len(body), len(plain), err)
			}
		})
	}
}
