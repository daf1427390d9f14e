package middleware

import (
	"net/http"

	"github.com/klauspost/compress/gzhttp"

	"github.com/meshtrade/mesh-gateway/internal/contract"
)

// compressAbove is the smallest answer that is compressed, in bytes: below it
// the headers outweigh the gain.
const compressAbove = 1024

// Compressor compresses answers as Accept-Encoding allows (RFC 9110, section
// 12.5.3): zstd before gzip.
type Compressor struct {
	wrap func(http.Handler) http.HandlerFunc
}

// NewCompressor returns a compressor for JSON. A workbook is a zip
// file already.
func NewCompressor() (*Compressor, error) {
	wrap, err := gzhttp.NewWrapper(
		gzhttp.MinSize(compressAbove),
		gzhttp.EnableZstd(true),
		gzhttp.PreferZstd(true),
		gzhttp.ContentTypes([]string{"application/json"}),
	)
	if err != nil {
		return nil, err
	}
	return &Compressor{wrap}, nil
}

// Reads compresses the answers of methods that read. Streams stay as they are,
// so that no event waits for the next; and so do answers to writes, which are
// small, and one of which holds a key that its length must not tell of.
func (c *Compressor) Reads(method *contract.Method) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if method.Write || method.Streams() {
			return next
		}
		return c.wrap(next)
	}
}
