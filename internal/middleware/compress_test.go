package middleware

import (
	"bytes"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/budget"
	"github.com/meshtrade/mesh-gateway/internal/contract"
)

const (
	readMethod   = "/meshtrade.iam.group.v1.GroupService/GetGroup"
	writeMethod  = "/meshtrade.iam.group.v1.GroupService/CreateGroup"
	streamMethod = "/meshtrade.trading.limit_order.v1.LimitOrderService/MonitorLimitOrder"
)

// compressing starts a server with [Recover], the compressor for a read, and the handler.
func compressing(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	compressor, err := NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	s := httptest.NewServer(Observe()(Recover(logger)(compressor.Reads(contract.ByName(readMethod))(handler))))
	t.Cleanup(s.Close)
	return s
}

// fetch returns the response to a request that accepts the encoding, without decoding it. It returns
// an error if the connection was aborted.
func fetch(t *testing.T, s *httptest.Server, encoding string) (*http.Response, []byte, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", encoding)
	response, err := s.Client().Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

// complete reports whether the body is a complete gzip or zstd stream.
func complete(encoding string, body []byte) bool {
	if encoding == "zstd" {
		reader, err := zstd.NewReader(nil)
		if err != nil {
			return false
		}
		defer reader.Close()
		_, err = reader.DecodeAll(body, nil)
		return err == nil
	}
	reader, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, reader)
	return err == nil
}

// noise returns incompressible data, so that a compressor does not buffer all of it.
func noise(n int) []byte {
	text, source := make([]byte, n), rand.NewChaCha8([32]byte{})
	_, _ = source.Read(text)
	return text
}

// TestPanicDoesNotTerminateCompressedResponse panics in the middle of a response. The client must
// not receive a partial response that looks complete.
func TestPanicDoesNotTerminateCompressedResponse(t *testing.T) {
	for _, encoding := range []string{"gzip", "zstd", "identity"} {
		for _, test := range []struct {
			name  string
			size  int
			flush bool
			value any // of the panic
			want  int // the status, or 0 if the connection is aborted
		}{
			{"before anything was written", 0, false, "boom", http.StatusInternalServerError},
			{"in a large response", 1 << 20, false, "boom", 0},
			{"after a flush", 2 * compressAbove, true, "boom", 0},
			{"abort before anything was written", 0, false, http.ErrAbortHandler, 0},
			{"abort in a small response", compressAbove - 1, false, http.ErrAbortHandler, 0},
			{"abort in a large response", 1 << 20, false, http.ErrAbortHandler, 0},
		} {
			t.Run(encoding+" "+test.name, func(t *testing.T) {
				s := compressing(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					if test.size > 0 {
						w.Header().Set("Etag", `"of-the-response"`)
						_, _ = w.Write(noise(test.size))
					}
					if test.flush {
						_ = http.NewResponseController(w).Flush()
					}
					panic(test.value)
				})
				wantAborted(t, s, encoding, test.want)
			})
		}
		if encoding == "identity" {
			continue // nothing is buffered
		}
		// The compressor buffers responses below its minimum size, so none of them was sent.
		for name, size := range map[string]int{"in one byte": 1, "in a small response": compressAbove - 1} {
			t.Run(encoding+" "+name, func(t *testing.T) {
				s := compressing(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					w.Header().Set("Etag", `"of-the-response"`)
					w.WriteHeader(http.StatusCreated)
					_, _ = w.Write(noise(size))
					panic("boom")
				})
				wantAborted(t, s, encoding, http.StatusInternalServerError)
			})
		}
	}
}

// wantAborted checks that the response is complete and has the status, or for status 0 that the
// connection was aborted and the compressed stream not terminated.
func wantAborted(t *testing.T, s *httptest.Server, encoding string, status int) {
	t.Helper()
	response, body, err := fetch(t, s, encoding)
	if status == 0 {
		if err == nil {
			t.Fatalf("got a complete response: %s with %d bytes", response.Status, len(body))
		}
		if len(body) > 0 && encoding != "identity" && complete(encoding, body) {
			t.Errorf("%d bytes are a complete %s stream", len(body), encoding)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	w.Code, w.Body = response.StatusCode, bytes.NewBuffer(body)
	wantError(t, w, status, apierror.Internal)
	if response.Header.Get("Content-Encoding") != "" || response.Header.Get("Etag") != "" {
		t.Errorf("headers of the response that was not sent: %v", response.Header)
	}
}

// TestNothingIsWrittenAfterAPanic checks the writes of the compressor, since net/http may drop the
// end of an aborted response.
func TestNothingIsWrittenAfterAPanic(t *testing.T) {
	compressor, err := NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	for _, encoding := range []string{"gzip", "zstd"} {
		for name, size := range map[string]int{"small": compressAbove - 1, "at the minimum size": compressAbove, "large": 1 << 20} {
			t.Run(encoding+" "+name, func(t *testing.T) {
				w, before := httptest.NewRecorder(), 0
				handler := compressor.Reads(contract.ByName(readMethod))(http.HandlerFunc(func(inner http.ResponseWriter, _ *http.Request) {
					inner.Header().Set("Content-Type", "application/json")
					_, _ = inner.Write(noise(size))
					before = w.Body.Len()
					panic(http.ErrAbortHandler)
				}))
				func() {
					defer func() { _ = recover() }()
					handler.ServeHTTP(w, headers(httptest.NewRequest(http.MethodGet, "/", nil), "Accept-Encoding", encoding))
				}()
				if after := w.Body.Len(); after != before {
					t.Errorf("%d bytes were written after the panic", after-before)
				}
			})
		}
	}
}

func TestCompressedResponsesAreComplete(t *testing.T) {
	content := bytes.Repeat([]byte("content "), compressAbove)
	for _, encoding := range []string{"gzip", "zstd"} {
		t.Run(encoding, func(t *testing.T) {
			s := compressing(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(content[:compressAbove])
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				_, _ = w.Write(content[compressAbove:])
			})
			response, body, err := fetch(t, s, encoding)
			if err != nil || response.Header.Get("Content-Encoding") != encoding || !complete(encoding, body) || len(body) > len(content)/2 {
				t.Errorf("%v, %d bytes of %d, %v", err, len(body), len(content), response)
			}
		})
	}
}

func TestOnlyReadsAreCompressed(t *testing.T) {
	compressor, err := NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{readMethod: "gzip", writeMethod: "", streamMethod: ""} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			compressor.Reads(contract.ByName(name))(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write(make([]byte, 2*compressAbove))
			})).ServeHTTP(w, headers(httptest.NewRequest(http.MethodGet, "/", nil), "Accept-Encoding", "gzip"))
			if got := w.Header().Get("Content-Encoding"); got != want {
				t.Errorf("Content-Encoding is %q, want %q", got, want)
			}
		})
	}
}

// TestEncodersAreCounted looks at the memory budget while a response is written.
func TestEncodersAreCounted(t *testing.T) {
	compressor, err := NewCompressor()
	if err != nil {
		t.Fatal(err)
	}
	for encoding, want := range map[string]int64{"gzip": 1 << 20, "zstd": 512 << 10, "identity": 0} {
		t.Run(encoding, func(t *testing.T) {
			memory := budget.New(budget.Options{Limit: budget.MinLimit})
			lease, err := memory.Admit(t.Context(), budget.Call{Caller: budget.Caller{'a'}})
			if err != nil {
				t.Fatal(err)
			}
			before := memory.Held()
			r := headers(httptest.NewRequestWithContext(lease, http.MethodGet, "/", nil), "Accept-Encoding", encoding)
			compressor.Reads(contract.ByName(readMethod))(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				for range 2 {
					_, _ = w.Write(noise(1 << 20))
				}
			})).ServeHTTP(httptest.NewRecorder(), r)
			if got := memory.Held() - before; got != want {
				t.Errorf("%d bytes are counted, want %d", got, want)
			}
			lease.Release()
			if memory.Held() != 0 {
				t.Errorf("held = %d after the release", memory.Held())
			}
		})
	}
}
