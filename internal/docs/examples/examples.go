// Package examples holds example calls of the API: for each operation one that
// succeeds on a new sandbox, and for some operations calls that are refused. The
// OpenAPI document shows the sandbox's answers to them, the guide has them as
// snippets, and tests start from them.
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

// The seeded API user that makes the calls.
const (
	Key   = "sandbox-broker-admin-key-000000000000000000"
	Group = "groups/00000000000000000000BR0KER"
)

// Call is one call.
type Call struct {
	// Title says what the call shows, where it is more than that it works.
	Title string
	// Method and Path are the request line; Path holds the query.
	Method, Path string
	// Body is JSON, or "" for none.
	Body string
	// Header is sent besides the credentials, and instead of them where it names
	// them; an empty value leaves one out.
	Header map[string]string
	// Before are calls that must have been made.
	Before []Call
	// Status is what is answered.
	Status int
	// Anywhere is set on a refusal that every operation has in this way.
	Anywhere bool
}

// Public reports whether the call is made without credentials.
func (c Call) Public() bool {
	key, named := c.Header[wire.APIKeyHeader]
	return named && key == ""
}

// Recording is a call and its answer.
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

// Record makes the call, after those before it, and keeps the answer.
func (c Call) Record(ctx context.Context, client *http.Client, base string) (r Recording, status int, err error) {
	for _, before := range c.Before {
		recording, status, err := before.Record(ctx, client, base)
		if err != nil {
			return Recording{}, 0, err
		}
		if status != before.Status {
			return Recording{}, 0, fmt.Errorf("before it, %s %s: %d %s, want %d", before.Method, before.Path, status, recording.Answer, before.Status)
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
		// ProtoJSON puts spaces where it likes, so that nobody counts on them.
		var compact bytes.Buffer
		if err := json.Compact(&compact, answer.Bytes()); err != nil {
			return Recording{}, 0, err
		}
		answer = compact
	}
	return Recording{c, contentType, answer.String()}, response.StatusCode, nil
}

// Match reports whether a path is of a template of OpenAPI with at most one
// parameter, and what it has for that.
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
