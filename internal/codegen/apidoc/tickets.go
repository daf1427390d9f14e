package apidoc

import "github.com/meshtrade/mesh-gateway/internal/wire"

// addTickets describes POST /stream_tickets.
func (d *document) addTickets() {
	tickets := errorRefs(map[string]string{"400": "BadRequest", "401": "Unauthenticated", "403": "PermissionDenied", "429": "TooManyRequests", "503": "Unavailable", "default": "Error"})
	tickets["200"] = object{
		"description": "The ticket.", "headers": headerRefs(answerHeaders...),
		"content": object{wire.JSON: object{"schema": ref("StreamTicket")}},
	}
	d.Paths[wire.TicketsPath] = object{"post": object{
		"operationId": "CreateStreamTicket", "tags": []string{gatewayTag},
		"summary":     "Creates a ticket for a stream",
		"description": "For EventSource and WebSocket, which cannot set headers. Open the stream as `{path}?ticket={ticket}`, or `{path}?{query}&ticket={ticket}`, so that the key is not in a URL. A ticket opens one stream, once, within 30 seconds, with the query that it was requested for. It is issued only for a key that Mesh accepts. Permissions are checked when the stream opens. A key can request 100 tickets in 30 seconds, and a client address 400.",
		"security":    keyAndGroup(),
		"requestBody": object{"required": true, "content": object{wire.JSON: object{"schema": ref("StreamTicketRequest")}}},
		"responses":   tickets,
	}}
	schemas, _ := d.Components["schemas"].(object)
	schemas["StreamTicketRequest"] = object{
		"type": "object", "description": "A request for a ticket.", "required": []string{"path"}, "additionalProperties": false,
		"properties": object{
			"path":  object{"type": "string", "pattern": "^/v1/.*:monitor$", "description": "The path of the stream, without the query."},
			"query": object{"type": "string", "pattern": "^([^?].*)?$", "description": "The query that the stream will be opened with, without `?` and without the ticket. Absent if there is none."},
		},
	}
	schemas["StreamTicket"] = object{
		"type": "object", "description": "A ticket for a stream.", "required": []string{"ticket", "expireTime"},
		"properties": object{
			"ticket":     object{"type": "string", "description": "The ticket."},
			"expireTime": object{"type": "string", "format": "date-time", "description": "When it expires."},
		},
	}
}

// errorRefs returns the error responses of an operation, by status.
func errorRefs(names map[string]string) object {
	responses := make(object)
	for status, name := range names {
		responses[status] = object{"$ref": "#/components/responses/" + name}
	}
	return responses
}
