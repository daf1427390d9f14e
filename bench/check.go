package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
)

// check fetches a row from a peer once and compares the answer, as JSON, with the replies
// of the upstream. It returns the size of the body in bytes, which is the same each time.
func check(ctx context.Context, p *process, r *row) (size int, err error) {
	status, body, err := fetch(ctx, p.address, r, p.keyed)
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, fmt.Errorf("status %d: %s", status, clip(body))
	}
	got, err := decodeAll(body)
	if err != nil {
		return 0, fmt.Errorf("%w in %s", err, clip(body))
	}
	if r.stream {
		got = unwrapResults(got)
	}
	replies, err := r.json()
	if err != nil {
		return 0, err
	}
	want, err := decodeAll(bytes.Join(replies, nil))
	if err != nil {
		return 0, err
	}
	if !equalJSON(got, want) {
		return 0, fmt.Errorf("the answer differs from the upstream's: %s", clip(body))
	}
	return len(body), nil
}

// decodeAll reads JSON values, one after the other. Numbers keep their digits.
func decodeAll(data []byte) ([]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var values []any
	for {
		var value any
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
}

// unwrapResults takes the messages of a stream out of {"result": …}, where grpc-gateway
// puts them. No message of the rows has a field of that name.
func unwrapResults(values []any) []any {
	unwrapped := make([]any, len(values))
	for i, value := range values {
		unwrapped[i] = value
		if object, ok := value.(map[string]any); ok && len(object) == 1 {
			if result, ok := object["result"]; ok {
				unwrapped[i] = result
			}
		}
	}
	return unwrapped
}

func clip(body []byte) string {
	const most = 500
	if len(body) <= most {
		return string(body)
	}
	return string(body[:most]) + "…"
}

func equalJSON(a, b []any) bool { return reflect.DeepEqual(a, b) }
