package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// tryIt executes an operation in Swagger UI as a reader does, with the values that the page has
// filled in, or with another body.
const tryIt = `(async (tag, operation, body) => {
  const until = async (find) => {
    for (;;) {
      const found = find();
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const section = await until(() => document.getElementById('operations-tag-' + tag));
  if (section.dataset.isOpen !== 'true') section.click();
  const block = await until(() => document.getElementById('operations-' + tag + '-' + operation));
  if (!block.classList.contains('is-open')) block.querySelector('.opblock-summary-control').click();
  if (body !== null) {
    const area = await until(() => block.querySelector('textarea.body-param__text'));
    Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value').set.call(area, body);
    area.dispatchEvent(new Event('input', { bubbles: true }));
    await until(() => block.querySelector('textarea.body-param__text').value === body);
    block.querySelector('.btn-clear')?.click();
    await until(() => !block.querySelector('.live-responses-table'));
  }
  // The operation cannot be executed until it is resolved, which takes a moment.
  const { specSelectors } = ui.getSystem();
  const paths = Object.entries(specSelectors.specJson().get('paths').toJS());
  const [path, item] = paths.find(([, item]) => Object.values(item).some(({ operationId }) => operationId === operation));
  const verb = Object.keys(item).find((verb) => item[verb].operationId === operation);
  await until(() => specSelectors.specResolvedSubtree(['paths', path, verb]));
  (await until(() => block.querySelector('.execute'))).click();
  const answer = await until(() => block.querySelector('.live-responses-table tbody .response-col_status') && block.querySelector('.live-responses-table'));
  return {
    status: answer.querySelector('tbody .response-col_status').textContent.trim(),
    text: answer.textContent,
    curl: block.querySelector('.curl-command')?.textContent,
  };
})`

// TestTheDocsAreTriedInABrowser opens the reference, authorises with one click, and executes
// operations of each kind.
func TestTheDocsAreTriedInABrowser(t *testing.T) {
	p := start(t, "--sandbox", "--sandbox-seed", "1")
	ctx := browse(t, p.base+"/docs")
	type tried struct{ Status, Text, Curl string }
	execute := func(t *testing.T, tag, operation, body string) tried {
		t.Helper()
		argument := "null"
		if body != "" {
			content, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			argument = string(content)
		}
		return evaluate[tried](ctx, t, fmt.Sprintf("%s(%q, %q, %s)", tryIt, tag, operation, argument))
	}
	wants := func(t *testing.T, saw tried, status, part string) {
		t.Helper()
		if !strings.HasPrefix(saw.Status, status) || !strings.Contains(saw.Text, part) {
			t.Errorf("the page shows %s %.2000s, want %s and %s", saw.Status, saw.Text, status, part)
		}
	}

	t.Run("without a key", func(t *testing.T) {
		wants(t, execute(t, "API_users", "ListAPIUsers", ""), "401", "CREDENTIALS_MISSING")
	})
	t.Run("one click authorises", func(t *testing.T) {
		said := evaluate[string](ctx, t, `(() => { document.querySelector('#test-key button').click(); return document.getElementById('authorised').value; })()`)
		if !strings.Contains(said, "Broker Admin") {
			t.Errorf("the ribbon says %q", said)
		}
	})
	t.Run("the key is kept after a reload", func(t *testing.T) {
		if err := chromedp.Do(ctx, chromedp.Reload()); err != nil {
			t.Fatal(err)
		}
		saw := execute(t, "API_users", "ListAPIUsers", "")
		wants(t, saw, "200", "Broker Viewer")
		if !strings.Contains(saw.Curl, "X-Group: groups/00000000000000000000BR0KER") {
			t.Errorf("the page shows the command %s", saw.Curl)
		}
	})
	t.Run("GET with the example parameters", func(t *testing.T) {
		wants(t, execute(t, "API_users", "SearchAPIUsers", ""), "200", "Broker Admin")
	})
	t.Run("POST with the example body", func(t *testing.T) {
		wants(t, execute(t, "Limit_orders", "CreateLimitOrder", ""), "200", "order-1042")
	})
	t.Run("an invalid request", func(t *testing.T) {
		wants(t, execute(t, "API_users", "CreateAPIUser", `{"owner": "me", "displayName": ""}`), "400", "fieldViolations")
	})
	t.Run("a stream", func(t *testing.T) {
		wants(t, execute(t, "Limit_orders", "MonitorLimitOrder", ""), "200", "LIMIT_ORDER_STATE_COMPLETE")
	})
	t.Run("a deep link", func(t *testing.T) {
		if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
			t.Fatal(err)
		}
		if err := chromedp.Do(ctx, chromedp.Navigate(p.base+"/docs#/Limit%20orders/CancelLimitOrder")); err != nil {
			t.Fatal(err)
		}
		if open := evaluate[bool](ctx, t, `(async () => { for (;;) { if (document.querySelector('#operations-Limit_orders-CancelLimitOrder.is-open')) return true; await new Promise((r) => setTimeout(r, 20)); } })()`); !open {
			t.Error("the operation is not open")
		}
	})
}

// TestTheGuideInABrowser uses the guide with the keyboard.
func TestTheGuideInABrowser(t *testing.T) {
	p := start(t, "--sandbox")
	ctx := browse(t, p.base+"/docs/guide")
	shown := func() []string {
		return evaluate[[]string](ctx, t, `[...document.querySelectorAll('#CreateLimitOrder .snippet')].filter((s) => s.checkVisibility()).map((s) => s.className)`)
	}
	if got := strings.Join(shown(), ", "); got != "snippet curl" {
		t.Errorf("at first, the page shows %s", got)
	}
	// From the curl radio button, the arrow keys reach the others.
	if err := chromedp.Do(ctx, chromedp.Focus(`input[value="curl"]`)); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx, chromedp.KeyEvent(kb.ArrowRight)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(shown(), ", "); got != "snippet javascript" {
		t.Errorf("after an arrow key, the page shows %s", got)
	}
	if err := chromedp.Do(ctx, chromedp.Reload()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(shown(), ", "); got != "snippet javascript" {
		t.Errorf("after a reload, the page shows %s", got)
	}
	if address := evaluate[string](ctx, t, `document.querySelector('[data-address]').textContent`); address != p.base {
		t.Errorf("the address in the snippets is %s, want %s", address, p.base)
	}
}
