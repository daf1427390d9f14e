package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// file is a file that is served. Clients may cache it, but must revalidate it with its ETag.
type file struct {
	mediaType  string
	content    []byte
	compressed bool // content is gzip
	// plain returns the content of a compressed file. All clients that do not accept gzip share
	// it, and few of them exist, so it is decompressed for the first.
	plain  func() ([]byte, error)
	digest string
}

// newFile derives the media type, and whether the content is compressed, from the name.
func newFile(name string, content []byte) *file {
	name, compressed := strings.CutSuffix(name, ".gz")
	digest := sha256.Sum256(content)
	return &file{
		mediaType:  mediaType(path.Ext(name)),
		content:    content,
		compressed: compressed,
		plain:      sync.OnceValues(func() ([]byte, error) { return decompress(content) }),
		digest:     hex.EncodeToString(digest[:]),
	}
}

// mediaType does not use package mime, because its results depend on files of the host.
func mediaType(extension string) string {
	switch extension {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".json":
		return wire.JSON
	case ".yaml":
		return "application/yaml" // RFC 9512
	case ".png":
		return "image/png"
	}
	return "application/octet-stream"
}

// ServeHTTP implements http.Handler.
func (f *file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, tag := f.content, f.digest
	header := w.Header()
	header.Set("Content-Type", f.mediaType)
	header.Set("Cache-Control", "no-cache")
	if f.compressed {
		header.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Values("Accept-Encoding")) {
			header.Set("Content-Encoding", "gzip")
		} else {
			plain, err := f.plain()
			if err != nil {
				apierror.Write(w, err)
				return
			}
			content, tag = plain, tag+"-plain"
		}
	}
	// A strong ETag identifies the bytes, which depend on the encoding.
	header.Set("ETag", `"`+tag+`"`)
	http.ServeContent(contentWriter{w, content}, r, "", time.Time{}, bytes.NewReader(content))
}

// contentWriter writes content that is in memory without a buffer, which a client that reads slowly
// would hold.
type contentWriter struct {
	http.ResponseWriter
	content []byte
}

// Unwrap is for [http.ResponseController].
func (w contentWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ReadFrom implements [io.ReaderFrom]. The source is what [http.ServeContent] copies: a part of the
// content.
func (w contentWriter) ReadFrom(source io.Reader) (int64, error) {
	part, limited := source.(*io.LimitedReader)
	if !limited {
		return io.Copy(struct{ io.Writer }{w.ResponseWriter}, source)
	}
	reader, ok := part.R.(*bytes.Reader)
	if !ok || int64(reader.Len()) < part.N {
		return io.Copy(struct{ io.Writer }{w.ResponseWriter}, source)
	}
	begin := len(w.content) - reader.Len()
	n, err := w.Write(w.content[begin : begin+int(part.N)])
	return int64(n), err
}

func compress(content []byte) ([]byte, error) {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	if _, err := writer.Write(content); err != nil {
		return nil, err
	}
	err := writer.Close()
	return out.Bytes(), err
}

func decompress(content []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}

// acceptsGzip reports whether Accept-Encoding allows gzip (RFC 9110, section 12.5.3).
func acceptsGzip(accept []string) bool {
	for item := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		coding, parameter, _ := strings.Cut(item, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		weight, given := strings.CutPrefix(strings.TrimSpace(parameter), "q=")
		if !given {
			return true
		}
		q, err := strconv.ParseFloat(weight, 64)
		return err == nil && q > 0
	}
	return false
}
