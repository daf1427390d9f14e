package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// browse opens a page in a real Chromium. A missing Chromium is a failure.
func browse(t *testing.T, url string) context.Context {
	t.Helper()
	allocator, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // CI may be root, whom Chromium gives no sandbox
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
	)...)
	t.Cleanup(stop)
	browser, end := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		if err := chromedp.Cancel(browser); err != nil {
			t.Error(err)
		}
		end()
	})
	// The browser lives as long as the context of the first step; a deadline on
	// that would be its own.
	if err := chromedp.Do(browser, chromedp.Navigate(url)); err != nil {
		t.Fatalf("chromium: %v; is Debian's package chromium installed?", err)
	}
	ctx, cancel := context.WithTimeout(browser, 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// evaluate runs an expression in the page and waits for what it promises.
func evaluate[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	result, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return result
}

// TestAPageOfAnotherOriginWatchesAnOrder is what a front-end engineer does: a page
// that is served elsewhere, and the three ways in which a browser reads a stream.
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
				t.Errorf("the page saw %+v, want an order that moves to COMPLETE and then %s", saw, last)
			}
		})
	}
	t.Run("an injected error", func(t *testing.T) {
		saw := evaluate[watched](ctx, t, `watchFault("browser-fault")`)
		if saw.Last != "error" || !strings.Contains(saw.Data, `"code":14`) {
			t.Errorf("the page saw %+v, want an error with code 14", saw)
		}
	})
}
