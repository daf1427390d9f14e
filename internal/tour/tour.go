// Package tour is a round of the API: for each operation a call that works on a
// sandbox as it starts, and for some the refusals that are their own. The
// OpenAPI document takes its examples from what the sandbox answers to it, the
// guide its snippets, and tests the first of their calls.
package tour

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// The seeded API user that makes the calls.
const (
	Key   = "sandbox-broker-admin-key-000000000000000000"
	Group = "groups/00000000000000000000BR0KER"
)

// Stop is one call.
type Stop struct {
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
	Before []Stop
	// Status is what is answered.
	Status int
	// Anywhere is set on a refusal that every operation has in this way.
	Anywhere bool
}

// Public reports whether the call is made without credentials.
func (s Stop) Public() bool {
	key, named := s.Header["X-Api-Key"]
	return named && key == ""
}

// Recording is a call and its answer.
type Recording struct {
	Stop
	ContentType string
	Answer      string
}

// Make makes the call on the gateway at base, without those before it.
func (s Stop) Make(ctx context.Context, client *http.Client, base string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, s.Method, base+s.Path, strings.NewReader(s.Body))
	if err != nil {
		return nil, err
	}
	if s.Body == "" {
		request.Body = http.NoBody
	} else {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("X-Api-Key", Key)
	request.Header.Set("X-Group", Group)
	for name, value := range s.Header {
		if request.Header.Del(name); value != "" {
			request.Header.Set(name, value)
		}
	}
	return client.Do(request)
}

// Record makes the call, after those before it, and keeps the answer.
func (s Stop) Record(ctx context.Context, client *http.Client, base string) (r Recording, status int, err error) {
	for _, before := range s.Before {
		recording, status, err := before.Record(ctx, client, base)
		if err != nil {
			return Recording{}, 0, err
		}
		if status != before.Status {
			return Recording{}, 0, fmt.Errorf("before it, %s %s: %d %s, want %d", before.Method, before.Path, status, recording.Answer, before.Status)
		}
	}
	response, err := s.Make(ctx, client, base)
	if err != nil {
		return Recording{}, 0, err
	}
	defer response.Body.Close()
	var answer bytes.Buffer
	if _, err := io.Copy(&answer, response.Body); err != nil {
		return Recording{}, 0, err
	}
	contentType := response.Header.Get("Content-Type")
	if contentType == "application/json" {
		// ProtoJSON puts spaces where it likes, so that nobody counts on them.
		var compact bytes.Buffer
		if err := json.Compact(&compact, answer.Bytes()); err != nil {
			return Recording{}, 0, err
		}
		answer = compact
	}
	return Recording{s, contentType, answer.String()}, response.StatusCode, nil
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
