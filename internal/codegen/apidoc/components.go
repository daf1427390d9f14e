package apidoc

import (
	"fmt"
	"strings"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

const (
	gatewayTag = "Streams from a browser"
	sandboxTag = "Sandbox"

	fieldsParameter    = "Fields"
	altParameter       = "Alt"
	timeoutParameter   = "RequestTimeout"
	lastEventParameter = "LastEventID"
	faultParameter     = "SandboxFault"
)

// anyOperation are the errors that any operation can answer with.
var anyOperation = map[string]string{
	"400": "BadRequest", "401": "Unauthenticated", "406": "NotAcceptable", "429": "TooManyRequests",
	"500": "InternalError", "503": "Unavailable", "504": "Timeout", "default": "Error",
}

// answerHeaders are on every answer of an operation.
var answerHeaders = []string{"RequestID", "RateLimit", "RateLimitPolicy", "Environment"}

func parameterRef(name string) object { return object{"$ref": "#/components/parameters/" + name} }

func headerRefs(names ...string) object {
	headers := make(object)
	for _, name := range names {
		headers[headerNames[name]] = object{"$ref": "#/components/headers/" + name}
	}
	return headers
}

// headerNames are the headers by the names of their components, in the spelling of
// their specifications.
var headerNames = map[string]string{
	"RequestID": wire.RequestIDHeader, "RateLimit": "RateLimit", "RateLimitPolicy": "RateLimit-Policy", "Environment": wire.EnvironmentHeader,
	"RetryAfter": wire.RetryAfterHeader, "Challenge": "WWW-Authenticate", "ContentDisposition": wire.ContentDispositionHeader,
}

// addComponents adds what the operations refer to.
func (d *document) addComponents() {
	schemas, _ := d.Components["schemas"].(object)
	for name, schema := range errorSchemas() {
		schemas[name] = schema
	}
	d.Components["responses"] = errorResponses()
	d.Components["securitySchemes"] = securitySchemes()
	d.Components["parameters"] = parameters()
	text := func(description, example string) object {
		return object{"description": description, "schema": object{"type": "string"}, "example": example}
	}
	d.Components["headers"] = object{
		"RequestID":          text("The name of the request: the caller's own from the request, or one that the gateway made.", "01JDFB3X9T0000000000000000"),
		"RateLimit":          text("What is left of each budget, `r`, and the seconds until it is full again, `t` (IETF draft-ietf-httpapi-ratelimit-headers).", `"read";r=599;t=1`),
		"RateLimitPolicy":    text("The budgets: `q` requests in `w` seconds each.", `"read";q=600;w=60`),
		"Environment":        text("`sandbox` where play money answers; absent from the live API.", "sandbox"),
		"RetryAfter":         object{"description": "The seconds to wait. It is absent where the call may have been carried out: look before you repeat it.", "schema": object{"type": "integer", "minimum": 1}, "example": 1},
		"Challenge":          text("How to authenticate (RFC 9110, section 11.6.1).", `Bearer realm="mesh"`),
		"ContentDisposition": text("The name to save the file under, where the file is the answer (RFC 6266).", `attachment; filename="account-report-1000000.xlsx"`),
	}
}

func parameters() object {
	return object{
		fieldsParameter: object{
			"name": wire.FieldsParameter, "in": "query", "schema": object{"type": "string"},
			"description": "The fields of the answer to send, with commas between them; paths go through lists: `accounts.name,accounts.number` (AIP-157). Without it, all of it.",
		},
		altParameter: object{
			"name": wire.AltParameter, "in": "query", "schema": object{"type": "string", "enum": []string{wire.AltMedia}},
			"description": "`media` answers with the workbook itself, as Accept does, for links that cannot set a header.",
		},
		timeoutParameter: object{
			"name": wire.RequestTimeoutHeader, "in": "header", "schema": object{"type": "number", "exclusiveMinimum": 0},
			"description": "The seconds that an answer is worth waiting for. The gateway gives up then, and tells Mesh to; it never waits longer than it is set to.",
		},
		lastEventParameter: object{
			"name": "Last-Event-ID", "in": "header", "schema": object{"type": "string"},
			"description": "The `id` of the last event that was seen, which browsers send when they connect again: the first event is then left out if it is no news.",
		},
		faultParameter: object{
			"name": wire.SandboxFaultHeader, "in": "header",
			"description": "The sandbox only: makes the call fail, so that a client can be tested. `unavailable` and `exhausted` do nothing and fail; `slow=2s` takes so much longer; `deadline` does not answer in time; `drop-after-send` carries the call out and loses the answer. No other upstream ever sees it.",
			"schema":      object{"type": "string", "pattern": "^(unavailable|exhausted|slow=[0-9a-z.µ]+|deadline|drop-after-send)$"},
		},
	}
}

// errorResponses are the errors that operations refer to.
func errorResponses() object {
	response := func(description string, headers ...string) object {
		return object{
			"description": description,
			"headers":     headerRefs(append(headers, answerHeaders...)...),
			"content":     object{wire.JSON: object{"schema": ref(statusSchema)}},
		}
	}
	return object{
		"BadRequest":           response("The request is invalid, or cannot be met in the state that things are in. INVALID_ARGUMENT comes with every field at fault in a BadRequest detail; FAILED_PRECONDITION and OUT_OF_RANGE with what is the matter."),
		"Unauthenticated":      response("There is no key, or it is not good.", "Challenge"),
		"PermissionDenied":     response("The API user lacks the role, or what it asks for belongs to another group."),
		"NotFound":             response("There is no such resource, or the caller may not see it."),
		"NotAcceptable":        response("`Accept` leaves out all that can be answered here."),
		"Conflict":             response("It exists already."),
		"BodyTooLarge":         response("The body is larger than the gateway takes."),
		"UnsupportedMediaType": response("The body is not JSON."),
		"TooManyRequests":      response("Over the rate. Nothing was done; repeat it after `Retry-After`.", "RetryAfter"),
		"InternalError":        response("A defect, of the gateway or of Mesh. `X-Request-Id` is what its people will ask for."),
		"Unavailable":          response("Mesh cannot be reached, or did not answer a write, whose outcome is then unknown: see the reason.", "RetryAfter"),
		"Timeout":              response("Mesh did not answer in time. The outcome of a write is unknown: look before you repeat it."),
		"Error":                response("Any other error, in the same shape."),
	}
}

// statusSchema is the shape of every error.
const statusSchema = "Status"

func errorSchemas() object {
	text := func(description string) object { return object{"type": "string", "description": description} }
	detail := func(message, description string, properties object) object {
		properties["@type"] = object{"type": "string", "const": "type.googleapis.com/google.rpc." + message}
		return object{"type": "object", "description": description, "required": []string{"@type"}, "properties": properties}
	}
	var reasons strings.Builder
	for _, reason := range apierror.Reasons() {
		fmt.Fprintf(&reasons, "\n- `%s`: %s", reason, reason.Meaning())
	}
	return object{
		statusSchema: object{
			"type":        "object",
			"description": "What went wrong (AIP-193).",
			"required":    []string{"code", "message"},
			"properties": object{
				"code":    object{"type": "integer", "format": "int32", "description": "The gRPC status code, a number of google.rpc.Code: finer than the HTTP status."},
				"message": text("What went wrong, in English and for developers."),
				"details": object{
					"type":        "array",
					"description": "What programs can read.",
					"items":       object{"anyOf": []object{ref("ErrorInfo"), ref("BadRequest"), ref("RequestInfo"), ref("RetryInfo"), ref("ErrorDetail")}},
				},
			},
		},
		"ErrorInfo": detail("ErrorInfo", "Why, in a word that programs can compare.", object{
			"reason":   text("The reason. Those of the domain `" + apierror.Domain + "` are the gateway's own:\n" + reasons.String()),
			"domain":   text("Whose word the reason is: `" + apierror.Domain + "` where the gateway itself refused."),
			"metadata": object{"type": "object", "additionalProperties": object{"type": "string"}, "description": "More about it."},
		}),
		"BadRequest": detail("BadRequest", "Each fault of the request.", object{
			"fieldViolations": object{"type": "array", "description": "The faults, all of them.", "items": object{
				"type": "object",
				"properties": object{
					"field":       text("The path of the field, in JSON spelling from the request message on, or the parameter."),
					"description": text("What is wrong with it."),
					"reason":      text("The rule that it breaks, for programs."),
				},
			}},
		}),
		"RequestInfo": detail("RequestInfo", "The request, as logs name it.", object{
			"requestId": text("The same as `X-Request-Id`."),
		}),
		"RetryInfo": detail("RetryInfo", "When to repeat the call.", object{
			"retryDelay": object{"type": "string", "pattern": `^[0-9]+(\.[0-9]+)?s$`, "description": "How long to wait, in seconds, as in 1.5s."},
		}),
		"ErrorDetail": object{
			"type": "object", "description": "A detail of another type.", "required": []string{"@type"}, "additionalProperties": true,
			"properties": object{"@type": object{"type": "string", "description": "The type, type.googleapis.com/ before the message's name."}},
		},
	}
}

func securitySchemes() object {
	return object{
		"apiKey": object{
			"type":        "apiKey",
			"in":          "header",
			"name":        wire.APIKeyHeader,
			"description": "The API key of an API user, 43 characters.",
		},
		"bearer": object{
			"type":        "http",
			"scheme":      "bearer",
			"description": "The API key, for clients that can send Authorization but not X-Api-Key.",
		},
		"group": object{
			"type":        "apiKey",
			"in":          "header",
			"name":        wire.GroupHeader,
			"description": "The group to act for, as groups/{ULID}.",
		},
		"ticket": object{
			"type":        "apiKey",
			"in":          "query",
			"name":        wire.TicketParameter,
			"description": "A ticket of `POST /stream_tickets`, which opens one stream, once, within 30 seconds: for EventSource and WebSocket, which cannot set headers.",
		},
	}
}

// addGatewayPaths describes what the gateway has beside the API of Mesh.
func (d *document) addGatewayPaths() {
	errorRefs := func(names map[string]string) object {
		responses := make(object)
		for status, name := range names {
			responses[status] = object{"$ref": "#/components/responses/" + name}
		}
		return responses
	}
	tickets := errorRefs(map[string]string{"400": "BadRequest", "401": "Unauthenticated", "429": "TooManyRequests", "default": "Error"})
	tickets["200"] = object{
		"description": "The ticket.", "headers": headerRefs(answerHeaders...),
		"content": object{wire.JSON: object{"schema": ref("StreamTicket")}},
	}
	d.Paths[wire.TicketsPath] = object{"post": object{
		"operationId": "CreateStreamTicket", "tags": []string{gatewayTag},
		"summary":     "Gives a ticket for one stream",
		"description": "For EventSource and WebSocket, which cannot set headers: the stream is opened as `{path}?ticket={ticket}`, so that no key stands in a URL. It opens that path, once, within 30 seconds. What the ticket's owner may see is asked when the stream opens.",
		"security":    keyAndGroup(),
		"requestBody": object{"required": true, "content": object{wire.JSON: object{"schema": ref("StreamTicketRequest")}}},
		"responses":   tickets,
	}}
	schemas, _ := d.Components["schemas"].(object)
	schemas["StreamTicketRequest"] = object{
		"type": "object", "description": "The stream that a ticket is asked for.", "required": []string{"path"}, "additionalProperties": false,
		"properties": object{"path": object{"type": "string", "pattern": "^/v1/.*:monitor$", "description": "The path of the stream, without a query."}},
	}
	schemas["StreamTicket"] = object{
		"type": "object", "description": "A ticket for a stream.", "required": []string{"ticket", "expireTime"},
		"properties": object{
			"ticket":     object{"type": "string", "description": "The ticket."},
			"expireTime": object{"type": "string", "format": "date-time", "description": "When it expires."},
		},
	}

	done := object{"description": "Done.", "headers": headerRefs("RequestID", "Environment")}
	reset := errorRefs(map[string]string{"403": "PermissionDenied", "default": "Error"})
	reset["204"] = done
	d.Paths[wire.ResetPath] = object{"post": object{
		"operationId": "ResetSandbox", "tags": []string{sandboxTag}, "security": []object{},
		"summary":     "Takes the sandbox back to its start",
		"description": "What was made is gone, and so are streams. A page of another site may not do it.",
		"responses":   reset,
	}}
	advance := errorRefs(map[string]string{"400": "BadRequest", "403": "PermissionDenied", "default": "Error"})
	advance["204"] = done
	d.Paths[wire.AdvancePath] = object{"post": object{
		"operationId": "AdvanceSandbox", "tags": []string{sandboxTag}, "security": []object{},
		"summary":     "Moves the sandbox's time on",
		"description": "For a sandbox whose clock is `manual`: all that would have happened in the meantime happens.",
		"parameters": []object{{
			"name": wire.AdvanceParameter, "in": "query", "required": true, "example": "5s",
			"schema": object{
				"type": "string", "pattern": `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`,
				"x-mesh-rules": []rule{{"this > duration('0s') && this <= duration('1h')", "must be more than 0 and at most 1h"}},
			},
			"description": "How far: a number and a unit, such as 1.5s or 10m; more than 0 and at most 1h.",
		}},
		"responses": advance,
	}}
}
