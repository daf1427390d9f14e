package middleware

import (
	"net/http"

	"github.com/klauspost/compress/gzhttp"

	"github.com/meshtrade/mesh-gateway/internal/contract"
	"github.com/meshtrade/mesh-gateway/internal/wire"
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
		gzhttp.ContentTypes([]string{wire.JSON}),
	)
	if err != nil {
		return nil, err
	}
	return &Compressor{wrap}, nil
}

// Reads compresses the answers of methods that read. Streams are left as they are,
// so that no event waits for the next. So are answers to writes: they are small, and
// one of them has a key, which the length of a compressed answer could give away.
//
// A panic reaches [Recover] as if there were no compression: what was buffered is
// dropped, and what was begun is never given a valid end.
func (c *Compressor) Reads(method *contract.Method) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		if method.Write || method.Streams() {
			return next
		}
		compressed := c.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			returned := false
			// Before gzhttp's own deferred Close, which sends what is buffered and
			// ends the gzip or zstd stream, after a panic too.
			defer func() {
				if !returned {
					severAnswer(w)
				}
			}()
			next.ServeHTTP(w, r)
			returned = true
		}))
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			compressed(&severable{ResponseWriter: w}, r)
		})
	}
}

// severAnswer severs the answer beneath the writer of gzhttp.
func severAnswer(w http.ResponseWriter) {
	for {
		if s, ok := w.(*severable); ok {
			s.severed = true
			return
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return // gzhttp does not compress this one, and so closes nothing
		}
		w = wrapper.Unwrap()
	}
}

// severable is a writer that can be cut off from the answer. What is written to it
// then goes nowhere.
type severable struct {
	http.ResponseWriter
	severed bool
}

func (s *severable) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *severable) WriteHeader(status int) {
	if !s.severed {
		s.ResponseWriter.WriteHeader(status)
	}
}

func (s *severable) Write(data []byte) (int, error) {
	if s.severed {
		return len(data), nil
	}
	return s.ResponseWriter.Write(data)
}

// Flush is what gzhttp looks for.
func (s *severable) Flush() {
	if !s.severed {
		_ = http.NewResponseController(s.ResponseWriter).Flush() // the next write fails as well
	}
}
