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
	keyParameter       = "IdempotencyKey"
	lastEventParameter = "LastEventID"
	faultParameter     = "SandboxFault"
)

// anyOperation are the errors that any operation can return.
var anyOperation = map[string]string{
	"400": "BadRequest", "401": "Unauthenticated", "403": "PermissionDenied", "406": "NotAcceptable", "429": "TooManyRequests",
	"500": "InternalError", "503": "Unavailable", "504": "Timeout", "default": "Error",
}

// answerHeaders are the headers of every response of an operation.
var answerHeaders = []string{"RequestID", "RateLimit", "RateLimitPolicy", "Environment"}

func parameterRef(name string) object { return object{"$ref": "#/components/parameters/" + name} }

func headerRefs(names ...string) object {
	headers := make(object)
	for _, name := range names {
		headers[headerNames[name]] = object{"$ref": "#/components/headers/" + name}
	}
	return headers
}

// headerNames maps the names of header components to header names, in the spelling of their
// specifications.
var headerNames = map[string]string{
	"RequestID": wire.RequestIDHeader, "RateLimit": "RateLimit", "RateLimitPolicy": "RateLimit-Policy", "Environment": wire.EnvironmentHeader,
	"RetryAfter": wire.RetryAfterHeader, "Replayed": wire.ReplayedHeader, "Challenge": "WWW-Authenticate", "ContentDisposition": wire.ContentDispositionHeader,
}

// addComponents adds the components that the operations refer to.
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
		"RequestID":          text("The ID of the request: the `X-Request-Id` that the client sent, or one that the gateway generated.", "01JDFB3X9T0000000000000000"),
		"RateLimit":          text("What is left of each quota (`r`) and the seconds until it is full again (`t`), as in draft-ietf-httpapi-ratelimit-headers.", `"read";r=599;t=1`),
		"RateLimitPolicy":    text("The quotas: `q` requests in `w` seconds.", `"read";q=600;w=60`),
		"Environment":        text("`sandbox` in responses of the sandbox, which uses play money. The live API does not send this header.", "sandbox"),
		"RetryAfter":         object{"description": "The number of seconds to wait before you repeat the call. The header is absent if the call may have been carried out. In that case, check whether it took effect before you repeat it.", "schema": object{"type": "integer", "minimum": 1}, "example": 1},
		"Replayed":           object{"description": "`true` if this is the response to an earlier request with the same `Idempotency-Key`. Other responses do not have this header.", "schema": object{"type": "string", "enum": []string{"true"}}, "example": "true"},
		"Challenge":          text("How to authenticate (RFC 9110, section 11.6.1).", `Bearer realm="mesh"`),
		"ContentDisposition": text("The file name, if the response is a file (RFC 6266).", `attachment; filename="account-report-1000000.xlsx"`),
	}
}

func parameters() object {
	return object{
		fieldsParameter: object{
			"name": wire.FieldsParameter, "in": "query", "schema": object{"type": "string"},
			"description": "The fields to return, separated by commas (AIP-157). A path applies to each item of a list, as in `accounts.name,accounts.number`. The default is all fields.",
		},
		altParameter: object{
			"name": wire.AltParameter, "in": "query", "schema": object{"type": "string", "enum": []string{wire.AltMedia}},
			"description": "`media` returns the workbook as a file. This is for links, which cannot set the `Accept` header.",
		},
		timeoutParameter: object{
			"name": wire.RequestTimeoutHeader, "in": "header", "schema": object{"type": "number", "exclusiveMinimum": 0},
			"description": "The timeout of the call, in seconds. After that, the gateway gives up and cancels the call to Mesh. The gateway may be configured with a lower limit.",
		},
		keyParameter: object{
			"name": wire.IdempotencyKeyHeader, "in": "header", "schema": object{"type": "string", "minLength": 1, "maxLength": 255}, "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
			"description": "A key that makes this write safe to repeat: at most 255 visible ASCII characters, such as a UUID, with or without quotes. The gateway sends the request to Mesh at most once for each key. A repeated request gets the first response for 24 hours. Use a new key for each new request (draft-ietf-httpapi-idempotency-key-header-07). An API key is required. The gateway may be configured to require a key.",
		},
		lastEventParameter: object{
			"name": "Last-Event-ID", "in": "header", "schema": object{"type": "string"},
			"description": "The `id` of the last event that the client received. Browsers send it when they reconnect. If the state has not changed since that event, the stream does not send it again.",
		},
		faultParameter: object{
			"name": wire.SandboxFaultHeader, "in": "header",
			"description": "Sandbox only: makes the call fail, so that you can test your client. `unavailable` and `exhausted`: the call fails and nothing is done. `slow=2s`: the call takes two seconds longer. `deadline`: there is no response in time. `drop-after-send`: the call is carried out, but its response is lost. The header is never sent to any other upstream.",
			"schema":      object{"type": "string", "pattern": "^(unavailable|exhausted|slow=[0-9a-z.µ]+|deadline|drop-after-send)$"},
		},
	}
}

// errorResponses are the error responses that operations refer to.
// errorResponses returns the responses that are errors. Those that Mesh refuses a write with can be
// replayed.
func errorResponses() object {
	response := func(description string, headers ...string) object {
		return object{
			"description": description,
			"headers":     headerRefs(append(headers, answerHeaders...)...),
			"content":     object{wire.JSON: object{"schema": ref(statusSchema)}},
		}
	}
	return object{
		"BadRequest":           response("The request is invalid (INVALID_ARGUMENT), or it is not allowed in the current state (FAILED_PRECONDITION, OUT_OF_RANGE). For INVALID_ARGUMENT, a BadRequest detail lists every invalid field; for the others, the message says what is wrong.", "Replayed"),
		"Unauthenticated":      response("The API key or the group is missing, malformed, unknown or inactive.", "Challenge"),
		"PermissionDenied":     response("The API user does not have a required role, or the resource belongs to another group. Or the gateway does not serve the operation, or not to this API key or address: see the reason, and nothing was sent to Mesh.", "Replayed"),
		"NotFound":             response("The resource does not exist, or the API user is not allowed to see it.", "Replayed"),
		"NotAcceptable":        response("No available response format matches `Accept`."),
		"Conflict":             response("The resource already exists, or a request with the same `Idempotency-Key` is in flight, has an unknown outcome, or has been answered more than 24 hours ago. See the reason.", "RetryAfter", "Replayed"),
		"KeyReused":            response("The `Idempotency-Key` was used for another request. Nothing was sent to Mesh."),
		"BodyTooLarge":         response("The body is larger than the gateway accepts."),
		"UnsupportedMediaType": response("The body is not JSON."),
		"TooManyRequests":      response("A limit was exceeded. Nothing was done. Repeat the request after `Retry-After`.", "RetryAfter"),
		"InternalError":        response("A defect of the gateway or of Mesh. Quote the `X-Request-Id` when you report it. The reason for a write is OUTCOME_UNKNOWN: it may or may not have been carried out."),
		"BadGateway":           response("The response of Mesh cannot be used. The reason for a write is OUTCOME_UNKNOWN: it may or may not have been carried out."),
		"Unavailable":          response("Mesh cannot be reached, or it did not respond to a write. See the reason: after OUTCOME_UNKNOWN, the write may or may not have been carried out.", "RetryAfter"),
		"Timeout":              response("Mesh did not respond in time. A write may or may not have been carried out. The message says how to check whether it took effect before you repeat it."),
		"Error":                response("Any other error, in the same format.", "Replayed"),
	}
}

// statusSchema is the schema of every error.
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
			"description": "An error (AIP-193).",
			"required":    []string{"code", "message"},
			"properties": object{
				"code":    object{"type": "integer", "format": "int32", "description": "The gRPC status code, a value of google.rpc.Code. It is more specific than the HTTP status."},
				"message": text("The error message, in English, for developers."),
				"details": object{
					"type":        "array",
					"description": "Details for programs.",
					"items":       object{"anyOf": []object{ref("ErrorInfo"), ref("BadRequest"), ref("RequestInfo"), ref("RetryInfo"), ref("ErrorDetail")}},
				},
			},
		},
		"ErrorInfo": detail("ErrorInfo", "The reason of the error, for programs.", object{
			"reason": text("The reason. The gateway itself reports these, in the domain `" + apierror.Domain + "`:\n" + reasons.String()),
			"domain": text("The system that defines the reason: `" + apierror.Domain + "` if the gateway itself reported the error."),
			"metadata": object{
				"type": "object", "additionalProperties": object{"type": "string"},
				"description": "More information. Errors of the gateway have these properties; those of Mesh may have others.",
				"properties": object{
					"sent":        object{"type": "string", "enum": []string{"true", "false"}, "description": "Whether Mesh may have received the call."},
					"lookup_rpc":  object{"type": "string", "description": "For OUTCOME_UNKNOWN: the RPC that shows whether the write took effect."},
					"lookup_path": object{"type": "string", "description": "For OUTCOME_UNKNOWN: the path of a GET request for that RPC."},
				},
			},
		}),
		"BadRequest": detail("BadRequest", "The violations in the request.", object{
			"fieldViolations": object{"type": "array", "description": "All violations.", "items": object{
				"type": "object",
				"properties": object{
					"field":       text("The path of the field within the body, or the name of the parameter, spelt as in the request."),
					"description": text("What is wrong with the field."),
					"reason":      text("The rule that the field violates, for programs."),
				},
			}},
		}),
		"RequestInfo": detail("RequestInfo", "The request, as logs identify it.", object{
			"requestId": text("The same value as in `X-Request-Id`."),
		}),
		"RetryInfo": detail("RetryInfo", "When to repeat the call.", object{
			"retryDelay": object{"type": "string", "pattern": `^[0-9]+(\.[0-9]+)?s$`, "description": "How long to wait, in seconds, such as 1.5s."},
		}),
		"ErrorDetail": object{
			"type": "object", "description": "A detail of another type.", "required": []string{"@type"}, "additionalProperties": true,
			"properties": object{"@type": object{"type": "string", "description": "The type: type.googleapis.com/ followed by the full name of the message."}},
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
			"description": "The API key, for clients that can send the Authorization header but not X-Api-Key.",
		},
		"group": object{
			"type":        "apiKey",
			"in":          "header",
			"name":        wire.GroupHeader,
			"description": "The group to act in, as groups/{ULID}.",
		},
		"ticket": object{
			"type":        "apiKey",
			"in":          "query",
			"name":        wire.TicketParameter,
			"description": "A ticket from `POST /stream_tickets`, for EventSource and WebSocket, which cannot set headers. A ticket opens one stream, once, within 30 seconds.",
		},
	}
}
