package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	faultAPIKey = "fault-suite-key-000000000000000000000000000"
	faultGroup  = "groups/00000000000000000000FAV1TS"
	// faultClients is the number of requests that are in flight at a time.
	faultClients = 16
	// patience is how long a client waits for an answer, with a paused gateway for example.
	patience = 5 * time.Second
)

// kind is a kind of answer to a write with an Idempotency-Key.
type kind string

const (
	first       kind = "first"       // carried out for this request
	replayed    kind = "replayed"    // carried out for an earlier one
	refused     kind = "refused"     // by Mesh, for this request or an earlier one
	unknown     kind = "unknown"     // OUTCOME_UNKNOWN
	inUse       kind = "in flight"   // IDEMPOTENCY_KEY_IN_USE
	unavailable kind = "unavailable" // the store or the upstream; nothing was sent
	none        kind = "no answer"   // the gateway or the client was gone
	other       kind = "other"       // none of these
)

// kinds returns all kinds in the order in which they are printed.
func kinds() []kind {
	return []kind{first, replayed, inUse, unknown, unavailable, refused, none, other}
}

// final reports whether the client stops with the answer. After "unknown" it would look, or ask.
func (k kind) final() bool {
	return k == first || k == replayed || k == refused || k == unknown || k == other
}

// heard is what a client heard in answer to one request.
type heard struct {
	key, requestID string
	kind           kind
	name           string // of the API user, if the write was carried out
	notSent        bool   // the answer says that nothing was sent
	retryAfter     time.Duration
	text           string // of an answer of another kind
}

// faultyClients send writes to gateways that fail, each again and again with the same key, to any
// gateway, until the answer is final.
type faultyClients struct {
	seed     uint64
	replicas []*replica
	http     *http.Client

	mu    sync.Mutex
	heard []heard
	// pending are the writes without a final answer.
	pending map[string]bool
}

// replica is a gateway that may be replaced.
type replica struct {
	base atomic.Pointer[string]
}

func newFaultyClients(t *testing.T, seed uint64, replicas []*replica) *faultyClients {
	transport := &http.Transport{MaxIdleConnsPerHost: faultClients}
	t.Cleanup(transport.CloseIdleConnections)
	return &faultyClients{
		seed: seed, replicas: replicas, pending: make(map[string]bool),
		http: &http.Client{Transport: transport},
	}
}

// run sends the writes and returns when all have a final answer, or when ctx is done.
func (c *faultyClients) run(ctx context.Context, writes int) {
	slots := make(chan struct{}, faultClients)
	var running sync.WaitGroup
	defer running.Wait()
	for i := range writes {
		key := fmt.Sprintf("write-%05d", i)
		c.mu.Lock()
		c.pending[key] = true
		c.mu.Unlock()
		senders := 1
		if i%10 == 0 {
			senders = 2 // at the same time
		}
		for sender := range senders {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			running.Go(func() { c.write(ctx, key, i, sender, slots) })
		}
	}
}

// write repeats a write until the answer is final. It begins with a slot, and holds one during each
// request.
func (c *faultyClients) write(ctx context.Context, key string, number, sender int, slots chan struct{}) {
	random := rand.New(rand.NewPCG(c.seed, uint64(2*number+sender)))
	for attempt := 0; ; attempt++ {
		h := c.attempt(ctx, key, sender, attempt, random)
		if ctx.Err() != nil {
			<-slots
			return
		}
		c.mu.Lock()
		c.heard = append(c.heard, h)
		if h.kind.final() {
			delete(c.pending, key)
		}
		c.mu.Unlock()
		delay := max(h.retryAfter, time.Duration(20+random.IntN(100))*time.Millisecond)
		if h.kind == none {
			// No other write takes its place, or all would begin while there is no gateway.
			wait(ctx, delay)
			continue
		}
		<-slots
		if h.kind.final() {
			return
		}
		wait(ctx, delay)
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}

// attempt sends the request once, to any replica.
func (c *faultyClients) attempt(ctx context.Context, key string, sender, attempt int, random *rand.Rand) heard {
	at := random.IntN(len(c.replicas))
	limit := patience
	if random.IntN(20) == 0 { // a client that goes away
		limit = time.Duration(1+random.IntN(20)) * time.Millisecond
	}
	h := heard{key: key, requestID: fmt.Sprintf("%s.%d.%d.%d", key, sender, attempt, at), kind: none}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body := fmt.Sprintf(`{"owner": %q, "displayName": %q}`, faultGroup, key)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, *c.replicas[at].base.Load()+"/v1/iam/api_users", strings.NewReader(body))
	if err != nil {
		h.kind, h.text = other, err.Error()
		return h
	}
	// net/http repeats a request with an Idempotency-Key by itself when a connection was lost, if it
	// can get the body again. The request id would then be that of two requests.
	request.GetBody = nil
	request.Header = http.Header{
		"X-Api-Key": {faultAPIKey}, "X-Group": {faultGroup}, "Content-Type": {"application/json"},
		"Idempotency-Key": {key}, "X-Request-Id": {h.requestID},
	}
	response, err := c.http.Do(request)
	if err != nil {
		return h
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return h
	}
	h.read(response, content)
	return h
}

// read classifies an answer.
func (h *heard) read(response *http.Response, body []byte) {
	var content struct {
		Name, Message string
		Details       []struct {
			Reason   string
			Metadata map[string]string
		}
	}
	if err := json.Unmarshal(body, &content); err != nil {
		h.kind, h.text = other, fmt.Sprintf("%d %s", response.StatusCode, body)
		return
	}
	reason := ""
	for _, detail := range content.Details {
		if detail.Reason != "" {
			reason, h.notSent = detail.Reason, detail.Metadata["sent"] == "false"
		}
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	h.retryAfter = time.Duration(seconds) * time.Second
	again := response.Header.Get("Idempotent-Replayed") == "true"
	switch {
	case response.StatusCode == http.StatusOK && again:
		h.kind, h.name = replayed, content.Name
	case response.StatusCode == http.StatusOK:
		h.kind, h.name = first, content.Name
	case response.StatusCode == http.StatusBadRequest && reason == "":
		h.kind = refused
	case reason == "OUTCOME_UNKNOWN":
		h.kind = unknown
	case response.StatusCode == http.StatusConflict && reason == "IDEMPOTENCY_KEY_IN_USE":
		h.kind = inUse
	case response.StatusCode == http.StatusServiceUnavailable && (reason == "IDEMPOTENCY_UNAVAILABLE" || reason == "UPSTREAM_UNREACHABLE" || reason == "OVERLOADED"):
		h.kind = unavailable
	default:
		h.kind, h.text = other, fmt.Sprintf("%d %s", response.StatusCode, body)
	}
}
