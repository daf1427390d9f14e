package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/meshtrade/mesh-gateway/internal/meshtest"
)

// browserTimeout is the time limit for Chromium to start and to load the first page.
const browserTimeout = time.Minute

// browse opens a page in Chromium. The test fails if Chromium is missing or does not start.
func browse(t *testing.T, url string) context.Context {
	t.Helper()
	path, err := findChromium()
	if err != nil {
		t.Fatal(err)
	}
	output := meshtest.NewTranscript()
	allocator, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.CombinedOutput(output),
		chromedp.NoSandbox, // Chromium has no sandbox for root, which CI may run as
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
	)...)
	t.Cleanup(stop)
	browser, end := chromedp.NewContext(allocator)

	// The browser lives as long as the context of the first step. A deadline on that context
	// would also end the browser, so the first step has a separate timeout.
	started := make(chan error, 1)
	go func() { started <- chromedp.Do(browser, chromedp.Navigate(url)) }()
	select {
	case err = <-started:
	case <-time.After(browserTimeout):
		err = fmt.Errorf("no page after %s", browserTimeout)
	}
	if err != nil {
		end()
		t.Fatalf("%s did not start: %v\n%s", path, err, output)
	}
	t.Cleanup(func() {
		if err := chromedp.Cancel(browser); err != nil {
			t.Error(err)
		}
		end()
	})
	ctx, cancel := context.WithTimeout(browser, 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// findChromium returns the path of the browser: CHROMIUM if it is set, or an installed one.
func findChromium() (string, error) {
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path, nil
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("Chromium is not installed: install Debian's package chromium, or name a browser in CHROMIUM")
}

// evaluate evaluates an expression in the page and awaits the result.
func evaluate[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	result, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return result
}

// TestAPageOfAnotherOriginWatchesAnOrder opens a page from another origin, which reads a stream in
// the three ways that browsers support.
func TestAPageOfAnotherOriginWatchesAnOrder(t *testing.T) {
	site := httptest.NewServer(http.FileServer(http.Dir("testdata")))
	t.Cleanup(site.Close)
	p := start(t, "--sandbox", "--sandbox-seed", "1", "--cors-origin", site.URL)
	caller := credential(t, "Broker Admin")
	setup, err := json.Marshal(map[string]string{"base": p.base, "key": caller.APIKey, "group": caller.Group})
	if err != nil {
		t.Fatal(err)
	}
	ctx := browse(t, site.URL+"/watch.html#"+url.PathEscape(string(setup)))

	type watched struct {
		States []string
		Last   string
		Data   string
	}
	for framing, last := range map[string]string{"eventSource": "end", "webSocket": "1000", "fetch": "end"} {
		t.Run(framing, func(t *testing.T) {
			saw := evaluate[watched](ctx, t, `watch("`+framing+`", "browser-`+framing+`")`)
			if len(saw.States) < 2 || saw.States[len(saw.States)-1] != "LIMIT_ORDER_STATE_COMPLETE" || saw.Last != last {
				t.Errorf("the page received %+v, want an order that becomes COMPLETE and then %s", saw, last)
			}
		})
	}
	t.Run("an injected error", func(t *testing.T) {
		saw := evaluate[watched](ctx, t, `watchFault("browser-fault")`)
		if saw.Last != "error" || !strings.Contains(saw.Data, `"code":14`) {
			t.Errorf("the page received %+v, want an error with code 14", saw)
		}
	})
}
