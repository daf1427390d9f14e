package e2e

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// openStream opens a stream of an open order and reads its first line. The returned function closes
// the stream.
func openStream(t *testing.T, p *program, caller string) (status int, leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/v1/limit_orders/00000000000000000000000006:monitor", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = as(credential(t, caller))
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(response.Body).ReadString('}'); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, func() { cancel(); response.Body.Close() }
}

func TestTooManyStreams(t *testing.T) {
	p := start(t, "--sandbox", "--sandbox-clock", "manual", "--max-streams", "3", "--max-key-streams", "2")
	var open []func()
	for _, step := range []struct {
		name, caller string
		want         int
	}{
		{"the first stream of a key", "Broker Admin", 200},
		{"the second stream of a key", "Broker Admin", 200},
		{"the third stream of a key", "Broker Admin", 429},
		{"the first stream of another key", "Corporate Admin", 200},
		{"the fourth stream in total", "Corporate Admin", 429},
	} {
		status, leave := openStream(t, p, step.caller)
		if status != step.want {
			t.Errorf("%s: status %d, want %d", step.name, status, step.want)
		}
		open = append(open, leave)
	}
	for _, leave := range open {
		leave()
	}
	// A closed stream no longer counts, as soon as the gateway has noticed its end.
	deadline := time.Now().Add(10 * time.Second)
	for {
		status, leave := openStream(t, p, "Broker Admin")
		leave()
		if status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("closed streams still count")
		}
	}
}

// TestDrainEndsStreams ends the program while a stream is open.
func TestDrainEndsStreams(t *testing.T) {
	lines := make(chan string, 1)
	t.Run("a program", func(t *testing.T) {
		p := start(t, "--sandbox", "--sandbox-clock", "manual")
		request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, p.base+"/v1/limit_orders/00000000000000000000000006:monitor", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = as(credential(t, "Broker Admin"))
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		reader := bufio.NewReader(response.Body)
		if _, err := reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		go func() {
			defer response.Body.Close()
			last, _ := reader.ReadString('\n')
			lines <- last
		}()
	})
	if last := <-lines; !strings.HasPrefix(last, `{"error":{"code":14,`) || !strings.Contains(last, "DRAINING") {
		t.Errorf("the last line is %q", last)
	}
}

// TestWebSocketThroughTheProgram opens a WebSocket through all of the middleware and closes it. After
// that, the stream no longer counts.
func TestWebSocketThroughTheProgram(t *testing.T) {
	p := start(t, "--sandbox", "--sandbox-clock", "manual", "--max-streams", "1")
	open := func() (*websocket.Conn, error) {
		conn, response, err := websocket.Dial(t.Context(), p.base+"/v1/limit_orders/00000000000000000000000006:monitor",
			&websocket.DialOptions{HTTPClient: client, HTTPHeader: as(credential(t, "Broker Admin"))})
		if err != nil && (response == nil || response.StatusCode != http.StatusTooManyRequests) {
			t.Fatalf("%v: %v", response, err)
		}
		return conn, err
	}
	conn, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if _, message, err := conn.Read(t.Context()); err != nil || !strings.Contains(string(message), "LIMIT_ORDER_STATE_OPEN") {
		t.Fatalf("%s %v", message, err)
	}
	if _, err := open(); err == nil {
		t.Error("a second WebSocket was opened")
	}
	if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		again, err := open()
		if err == nil {
			_ = again.CloseNow()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a closed WebSocket still counts")
		}
	}
}

func TestStreamTickets(t *testing.T) {
	const path, other = "/v1/limit_orders/00000000000000000000000001:monitor", "/v1/limit_orders/00000000000000000000000004:monitor"
	p := start(t, "--sandbox", "--sandbox-clock", "manual")
	broker := credential(t, "Broker Admin")
	ticketFor := func(query string) string {
		return p.call(t, "POST", "/stream_tickets", as(broker), `{"path":"`+path+`","query":"`+query+`"}`).object(t)["ticket"].(string)
	}
	ticket := func() string { return ticketFor("") }

	once := ticket()
	for _, test := range []struct {
		name, method, url string
		want              int
	}{
		{"the first use of a ticket", "GET", path + "?ticket=" + once, 200},
		{"the second use of a ticket", "GET", path + "?ticket=" + once, 401},
		{"the query of the ticket", "GET", path + "?liveLedgerData=true&ticket=" + ticketFor("liveLedgerData=true"), 200},
		{"another query", "GET", path + "?liveLedgerData=true&ticket=" + ticketFor("liveLedgerData=false"), 401},
		{"a query that the ticket does not have", "GET", path + "?liveLedgerData=true&ticket=" + ticket(), 401},
		{"another stream", "GET", other + "?ticket=" + ticket(), 401},
		{"another method", "POST", "/v1/limit_orders/00000000000000000000000001:cancel?ticket=" + ticket(), 401},
		{"an unknown ticket", "GET", path + "?ticket=GUESSED", 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			if a := p.call(t, test.method, test.url, nil, ""); a.status != test.want {
				t.Errorf("status %d, want %d: %s", a.status, test.want, a.body)
			}
		})
	}
	for _, test := range []struct {
		name, path string
		header     http.Header
		want       int
	}{
		{"a ticket without a key", path, nil, 401},
		{"a ticket for a path that is not a stream", "/v1/groups", as(broker), 400},
		{"a ticket for an empty path", "", as(broker), 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			if a := p.call(t, "POST", "/stream_tickets", test.header, `{"path":"`+test.path+`"}`); a.status != test.want {
				t.Errorf("status %d, want %d: %s", a.status, test.want, a.body)
			}
		})
	}
	if strings.Contains(p.stderr.String(), once) {
		t.Error("a ticket is in the log")
	}
}
