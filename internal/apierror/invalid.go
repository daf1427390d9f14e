package apierror

import (
	"encoding/json"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
)

const (
	// maxViolations is the maximum number of violations in a response.
	maxViolations = 100
	// maxViolationBytes is the maximum size of all violations in a response, as JSON. It keeps
	// the response below 64 KiB.
	maxViolationBytes = 48 << 10
	// maxFieldBytes and maxDescriptionBytes limit each violation, since a field may have a name
	// that the client made up.
	maxFieldBytes       = 512
	maxDescriptionBytes = 4 << 10
)

// Violation describes an error in a field of a request.
type Violation struct {
	// Field is the path of a field of the body in JSON spelling ("displayName", "names[2]"), the
	// field that the URL path sets, or the query parameter. It is "" for the body as a whole.
	Field       string
	Description string
}

// Violations collects the violations of a request. It keeps the first 100 and counts the rest,
// which bounds the memory that a hostile request can use.
type Violations struct {
	list    []Violation
	more    int
	atLeast bool
}

// Add adds a violation.
func (v *Violations) Add(field, description string) {
	if v.Full() {
		v.more++
		return
	}
	v.list = append(v.list, Violation{Field: field, Description: description})
}

// Full reports whether further violations are only counted.
func (v *Violations) Full() bool { return len(v.list) >= maxViolations }

// AtLeast records that the request was not checked completely: there may be more violations than
// were added.
func (v *Violations) AtLeast() { v.atLeast = true }

// Empty reports whether there are no violations.
func (v *Violations) Empty() bool { return len(v.list) == 0 }

// List returns the violations that were kept.
func (v *Violations) List() []Violation { return v.list }

// Err returns an error that lists the violations, or nil if there are none. Its message is the
// first violation.
func (v *Violations) Err() error {
	if v.Empty() {
		return nil
	}
	return invalid(v.list, v.more, v.atLeast)
}

// Invalid returns an error with code INVALID_ARGUMENT that lists at most 100 violations in at most
// 64 KiB, and says how many more there are.
func Invalid(violations ...Violation) *Error {
	return invalid(violations, 0, false)
}

func invalid(violations []Violation, more int, atLeast bool) *Error {
	bad := &errdetails.BadRequest{}
	size := 0
	for i, v := range violations {
		field, description := clip(v.Field, maxFieldBytes), clip(v.Description, maxDescriptionBytes)
		if size += jsonSize(field) + jsonSize(description); size > maxViolationBytes || i == maxViolations {
			more += len(violations) - i
			break
		}
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: field, Description: description})
	}
	message := "The request is invalid."
	if len(bad.FieldViolations) > 0 {
		first := bad.FieldViolations[0]
		message = first.GetDescription()
		if first.GetField() != "" {
			message = first.GetField() + ": " + message
		}
		if others := len(bad.FieldViolations) - 1 + more; others > 0 || atLeast {
			message += " (and " + count(others, atLeast) + " more; see details)"
		}
	}
	return New(codes.InvalidArgument, InvalidRequest, message, bad)
}

func count(n int, atLeast bool) string {
	switch {
	case !atLeast:
		return strconv.Itoa(n)
	case n == 0:
		return "perhaps"
	}
	return "at least " + strconv.Itoa(n)
}

// clip truncates text to about limit bytes, between characters, and appends an ellipsis.
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}

// jsonSize returns an upper bound of the size of text in JSON, with the syntax around it.
func jsonSize(text string) int {
	const syntax = 20 // a name, quotes, a comma and braces
	encoded, err := json.Marshal(text)
	if err != nil {
		return len(text) + syntax
	}
	return len(encoded) + syntax
}
