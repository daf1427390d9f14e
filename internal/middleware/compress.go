package middleware

import (
	"net/http"

	"github.com/klauspost/compress/gzhttp"

	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// compressAbove is the minimum size of a compressed response, in bytes. Compressing smaller ones
// saves nothing.
const compressAbove = 1024

// encoderMemory returns the memory that an encoder takes while it compresses a response, in bytes.
func encoderMemory(coding string) int64 {
	switch coding {
	case "gzip":
		return 1 << 20
	case "zstd":
		return 512 << 10
	}
	return 0
}

// Compressor compresses responses according to Accept-Encoding (RFC 9110, section 12.5.3). It
// prefers zstd to gzip.
type Compressor struct {
	wrap func(http.Handler) http.HandlerFunc
}

// NewCompressor returns a compressor for JSON. Excel workbooks are already compressed.
func NewCompressor() (*Compressor, error) {
	wrap, err := gzhttp.NewWrapper(
		gzhttp.MinSize(compressAbove),
		gzhttp.EnableZstd(true),
		gzhttp.PreferZstd(true),
		gzhttp.ContentTypes([]string{wire.JSON}),
	)
	if err != nil {
		return nil, err
	}
	return &Compressor{wrap}, nil
}

// Reads compresses the responses of unary methods that read. It does not compress streams, since
// buffering would delay events. Nor does it compress the responses to writes: they are small, and
// one of them contains an API key, which the length of a compressed response could reveal.
//
// When the handler panics, the buffered part of the response is dropped and a compressed stream is
// not terminated, so that [Recover] works as it does without compression.
func (c *Compressor) Reads(method *contract.Method) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if method.Write || method.Streams() {
			return next
		}
		compressed := c.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			returned := false
			// This runs before the deferred Close of gzhttp, which flushes the buffer and
			// terminates the gzip or zstd stream even after a panic.
			defer func() {
				if returned {
					return
				}
				// gzhttp does not close a response that it does not compress.
				if d, ok := find[*detachable](w); ok {
					d.detached = true
				}
			}()
			next.ServeHTTP(w, r)
			returned = true
		}))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if len(r.Header["Accept-Encoding"]) == 0 {
				// gzhttp would not compress either, at the cost of three more writers.
				w.Header().Add("Vary", "Accept-Encoding")
				next.ServeHTTP(w, r)
				return
			}
			compressed(&detachable{ResponseWriter: w, lease: budget.Of(r.Context())}, r)
		})
	}
}

// detachable is an http.ResponseWriter that can be detached from the response. It then discards
// everything that is written to it.
type detachable struct {
	http.ResponseWriter
	detached bool
	// lease is what the call holds of the memory budget, nil once the encoder is counted.
	lease *budget.Lease
}

func (d *detachable) Unwrap() http.ResponseWriter { return d.ResponseWriter }

func (d *detachable) WriteHeader(status int) {
	if !d.detached {
		d.ResponseWriter.WriteHeader(status)
	}
}

func (d *detachable) Write(data []byte) (int, error) {
	if d.detached {
		return len(data), nil
	}
	if d.lease != nil {
		d.lease.Add(encoderMemory(d.Header().Get("Content-Encoding")))
		d.lease = nil
	}
	return d.ResponseWriter.Write(data)
}

// Flush implements [http.Flusher], which gzhttp requires.
func (d *detachable) Flush() {
	if !d.detached {
		_ = http.NewResponseController(d.ResponseWriter).Flush() // the next write fails as well
	}
}
