// Package examples contains example calls of the API: for each operation a call that succeeds on a
// new sandbox, and for some operations calls that fail. The OpenAPI document shows them with the
// responses of the sandbox, the guide shows them as snippets, and tests use them.
package examples

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// The credentials of the seeded API user that makes the calls.
const (
	Key   = "sandbox-broker-admin-key-000000000000000000"
	Group = "groups/00000000000000000000BR0KER"
)

// Call is an example call.
type Call struct {
	// Title describes a call that fails. It is empty for a call that succeeds.
	Title string
	// Method and Path are the request line. Path includes the query.
	Method, Path string
	// Body is JSON, or "" for none.
	Body string
	// Header is sent in addition to the credentials, and may replace them. A header with an empty
	// value is not sent.
	Header map[string]string
	// Before are calls that must be made first.
	Before []Call
	// Status is the HTTP status of the response.
	Status int
	// Anywhere is set if every operation can fail in this way.
	Anywhere bool
}

// Public reports whether the call is made without credentials.
func (c Call) Public() bool {
	key, named := c.Header[wire.APIKeyHeader]
	return named && key == ""
}

// Recording is a call and its response.
type Recording struct {
	Call
	ContentType string
	Answer      string
}

// Do makes the call on the gateway at base, without the calls before it.
func (c Call) Do(ctx context.Context, client *http.Client, base string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, c.Method, base+c.Path, strings.NewReader(c.Body))
	if err != nil {
		return nil, err
	}
	if c.Body == "" {
		request.Body = http.NoBody
	} else {
		request.Header.Set("Content-Type", wire.JSON)
	}
	request.Header.Set(wire.APIKeyHeader, Key)
	request.Header.Set(wire.GroupHeader, Group)
	for name, value := range c.Header {
		if request.Header.Del(name); value != "" {
			request.Header.Set(name, value)
		}
	}
	return client.Do(request)
}

// Record makes the calls in Before, then the call itself, and returns its response.
func (c Call) Record(ctx context.Context, client *http.Client, base string) (r Recording, status int, err error) {
	for _, before := range c.Before {
		recording, status, err := before.Record(ctx, client, base)
		if err != nil {
			return Recording{}, 0, err
		}
		if status != before.Status {
			return Recording{}, 0, fmt.Errorf("the call before it, %s %s: %d %s, want %d", before.Method, before.Path, status, recording.Answer, before.Status)
		}
	}
	response, err := c.Do(ctx, client, base)
	if err != nil {
		return Recording{}, 0, err
	}
	defer response.Body.Close()
	var answer bytes.Buffer
	if _, err := io.Copy(&answer, response.Body); err != nil {
		return Recording{}, 0, err
	}
	contentType := response.Header.Get("Content-Type")
	if contentType == wire.JSON {
		// The whitespace of protojson is deliberately unstable.
		var compact bytes.Buffer
		if err := json.Compact(&compact, answer.Bytes()); err != nil {
			return Recording{}, 0, err
		}
		answer = compact
	}
	return Recording{c, contentType, answer.String()}, response.StatusCode, nil
}

// Match reports whether a path matches an OpenAPI path template with at most one parameter, and
// returns the value of the parameter by its name.
func Match(template, path string) (map[string]string, bool) {
	before, rest, found := strings.Cut(template, "{")
	if !found {
		return map[string]string{}, path == template
	}
	name, after, _ := strings.Cut(rest, "}")
	value, starts := strings.CutPrefix(path, before)
	value, ends := strings.CutSuffix(value, after)
	if !starts || !ends || value == "" || strings.ContainsAny(value, "/:") {
		return nil, false
	}
	return map[string]string{name: value}, true
}
