package e2e

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// deviation is a case of h2spec that net/http does not pass, and why that is good enough.
type deviation struct {
	reason string
	// h2c is set for a case that only applies without TLS.
	h2c bool
	// race is set for a case that sometimes passes.
	race bool
}

// deviations are all the cases that may fail, by their number.
func deviations() map[string]deviation {
	return map[string]deviation{
		"http2/3.5/2":     {h2c: true, reason: "The listener also serves HTTP/1.1, and so answers what is not the preface of HTTP/2 with a 400 of HTTP/1.1."},
		"http2/6.5.3/1":   {reason: "net/http closes connections with the same setting twice in a frame as suspicious."},
		"http2/8.1.2.2/1": {reason: "net/http answers a Connection header with a 400 in place of RST_STREAM, as RFC 9113, section 8.1.1, allows."},
		"http2/8.1.2.2/2": {reason: "net/http answers a TE header other than trailers with a 400, as above."},
		"http2/8.1.2.6/1": {race: true, reason: "The gateway refuses the request by its headers, and its answer may be complete before the body has come."},
		"http2/8.1.2.6/2": {race: true, reason: "As above, for a body of two frames."},
	}
}

// TestHTTP2Conforms runs the cases of h2spec against the program, with TLS and without.
func TestHTTP2Conforms(t *testing.T) {
	for _, h2c := range []bool{false, true} {
		name, flag := "TLS", "--tls-self-signed"
		if h2c {
			name, flag = "h2c", "--h2c"
		}
		t.Run(name, func(t *testing.T) {
			p := start(t, "--sandbox", flag)
			host, port, err := net.SplitHostPort(p.address())
			if err != nil {
				t.Fatal(err)
			}
			number, err := strconv.Atoi(port)
			if err != nil {
				t.Fatal(err)
			}
			results := conform(&config.Config{
				Host: host, Port: number, Path: "/healthz", TLS: !h2c, Insecure: true,
				Timeout: 10 * time.Second, MaxHeaderLen: 4000, Strict: true,
			})
			known, passed := deviations(), 0
			for number, err := range results {
				deviation, expected := known[number]
				expected = expected && (h2c || !deviation.h2c)
				switch {
				case err == nil && expected && !deviation.race:
					t.Errorf("%s passes; it can be removed from the deviations", number)
				case err != nil && !expected:
					t.Errorf("%s: %s", number, strings.ReplaceAll(err.Error(), "\n", "; "))
				case err == nil:
					passed++
				}
			}
			t.Logf("%d of %d cases passed", passed, len(results))
			if len(results) < 140 {
				t.Errorf("there are only %d cases", len(results))
			}
		})
	}
}

// conform runs all cases, several at a time because many wait for a second, and returns their errors
// by their number.
func conform(c *config.Config) map[string]error {
	const atATime = 16
	var mu sync.Mutex
	results := make(map[string]error)
	slots := make(chan struct{}, atATime)
	var running sync.WaitGroup
	var run func(group *spec.TestGroup)
	run = func(group *spec.TestGroup) {
		for i, test := range append(group.Tests, group.StrictTests...) {
			slots <- struct{}{}
			running.Go(func() {
				defer func() { <-slots }()
				err := runCase(c, test)
				mu.Lock()
				defer mu.Unlock()
				results[group.ID()+"/"+strconv.Itoa(i+1)] = err
			})
		}
		for _, inner := range group.Groups {
			run(inner)
		}
	}
	for _, root := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		run(root)
	}
	running.Wait()
	return results
}

func runCase(c *config.Config, test *spec.TestCase) error {
	conn, err := spec.Dial(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	return test.Run(c, conn)
}
