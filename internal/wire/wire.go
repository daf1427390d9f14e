// Package wire holds the names of the HTTP API that are not in the contract:
// headers, media types, query parameters and paths. Each is spelt here and nowhere
// else in the program, since clients depend on them.
package wire

// Request headers, in the form of net/http.
const (
	APIKeyHeader         = "X-Api-Key" //nolint:gosec // the name of a header
	GroupHeader          = "X-Group"
	AuthorizationHeader  = "Authorization"   // RFC 9110, section 11.6.2
	RequestTimeoutHeader = "Request-Timeout" // in seconds
	IdempotencyKeyHeader = "Idempotency-Key" // draft-ietf-httpapi-idempotency-key-header-07 (expired)
	LastEventIDHeader    = "Last-Event-Id"   // HTML, section 9.2.4
	SandboxFaultHeader   = "X-Sandbox-Fault" // the sandbox only
	TraceparentHeader    = "Traceparent"     // W3C Trace Context
	TracestateHeader     = "Tracestate"      // W3C Trace Context
)

// Response headers, in the form of net/http. A client may send RequestIDHeader too.
const (
	RequestIDHeader          = "X-Request-Id"
	RateLimitHeader          = "Ratelimit"          // draft-ietf-httpapi-ratelimit-headers
	RateLimitPolicyHeader    = "Ratelimit-Policy"   // draft-ietf-httpapi-ratelimit-headers
	RetryAfterHeader         = "Retry-After"        // RFC 9110, section 10.2.3
	EnvironmentHeader        = "X-Mesh-Environment" // "sandbox", absent on the live API
	AuthenticateHeader       = "Www-Authenticate"   // RFC 9110, section 11.6.1
	ContentDispositionHeader = "Content-Disposition"
	ReplayedHeader           = "Idempotent-Replayed" // "true", absent on other answers
)

// Media types.
const (
	JSON        = "application/json"
	NDJSON      = "application/x-ndjson" // a JSON message per line
	EventStream = "text/event-stream"    // server-sent events
	Workbook    = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
)

// Query parameters.
const (
	FieldsParameter  = "fields" // AIP-157
	AltParameter     = "alt"
	AltMedia         = "media" // the only value of AltParameter
	TicketParameter  = "ticket"
	AdvanceParameter = "by" // of AdvancePath
)

// Paths that are not in the contract.
const (
	TicketsPath = "/stream_tickets"
	ResetPath   = "/sandbox:reset"   // the sandbox only
	AdvancePath = "/sandbox:advance" // the sandbox only
	OpenAPIPath = "/openapi.json"
	YAMLPath    = "/openapi.yaml"
	SwaggerPath = "/swagger.json"
)
