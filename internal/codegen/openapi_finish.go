package main

import (
	"fmt"
	"strings"
)

// object is a JSON object whose members encode in the order of their names.
type object = map[string]any

// openAPI is an OpenAPI document. Only its topmost members have types: of the
// rest, little is touched.
type openAPI struct {
	OpenAPI    string            `json:"openapi"`
	Info       object            `json:"info"`
	Servers    []object          `json:"servers"`
	Tags       []object          `json:"tags"`
	Paths      map[string]object `json:"paths"`
	Components object            `json:"components"`
}

// faultParameter is the header by which a call to the sandbox asks to fail.
const faultParameter = "SandboxFault"

// contractVersion is the release of the Mesh API that the contract is.
const contractVersion = "1.69.0"

const description = `The Mesh API, a gRPC API, as JSON over HTTP. Each operation is one RPC under the same name; its request and its answer are the RPC's messages as ProtoJSON: lowerCamelCase names, 64-bit integers as strings, enums by name, and fields at their default left out of answers.

Authenticate with an API key in ` + "`X-Api-Key`" + ` or the same key in ` + "`Authorization: Bearer`" + `, and name the group to act for in ` + "`X-Group`" + `, as ` + "`groups/{ULID}`" + `. The API user of the key needs one of the roles listed under ` + "`x-mesh-roles`" + ` in that group. Operations without security need neither.

Every error is a google.rpc.Status as JSON: a gRPC code, a message for developers, and details that programs can read. Streams answer with newline-delimited JSON, one message per line; should one fail under way, its last line is ` + "`{\"error\": Status}`" + `. With ` + "`Accept: text/event-stream`" + ` they answer with server-sent events: ` + "`message`" + `, and at last ` + "`error`" + ` or ` + "`end`" + `. A client that connects again with ` + "`Last-Event-ID`" + ` gets the current state if that is news to it; states in between are not replayed.`

// finish makes the plugin's merged document that of this gateway. The
// operations are by the operationId of the plugin; each must be there.
func (d *openAPI) finish(operations map[string]operation) error {
	d.OpenAPI = "3.1.0"
	d.Info = object{"title": "Mesh API over REST", "version": contractVersion, "description": description}
	d.Servers = []object{{"url": "/"}}
	for _, tag := range d.Tags {
		name, _ := tag["name"].(string)
		tag["name"] = tagName(name)
	}

	if d.Components == nil {
		d.Components = object{}
	}
	schemas, ok := d.Components["schemas"].(object)
	if !ok {
		return fmt.Errorf("no schemas")
	}
	schemas[statusSchema] = status()
	d.Components["responses"] = object{errorResponse: object{
		"description": "The error as google.rpc.Status.",
		"content":     jsonContent(object{"$ref": "#/components/schemas/" + statusSchema}),
	}}
	d.Components["securitySchemes"] = securitySchemes()
	d.Components["parameters"] = object{faultParameter: object{
		"name": "X-Sandbox-Fault", "in": "header",
		"description": "The sandbox only: makes the call fail, so that a client can be tested. `unavailable` and `exhausted` do nothing and fail; `slow=2s` takes so much longer; `deadline` does not answer in time; `drop-after-send` carries the call out and loses the answer. No other upstream ever sees it.",
		"schema":      object{"type": "string", "pattern": "^(unavailable|exhausted|slow=[0-9a-z.µ]+|deadline|drop-after-send)$"},
		"example":     "slow=2s",
	}}

	paths := make(map[string]object)
	seen := 0
	for path, item := range d.Paths {
		for verb, value := range item {
			content, _ := value.(object)
			key, _ := content["operationId"].(string)
			op, known := operations[key]
			if !known || op.verb != verb {
				return fmt.Errorf("%s %s: no route of the contract is %q", verb, path, key)
			}
			if err := op.finish(content); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			if paths[op.route.path] == nil {
				paths[op.route.path] = object{}
			}
			if _, taken := paths[op.route.path][verb]; taken {
				return fmt.Errorf("%s %s is bound twice", verb, op.route.path)
			}
			paths[op.route.path][verb] = content
			seen++
		}
	}
	if seen != len(operations) {
		return fmt.Errorf("%d operations described, %d in the contract", seen, len(operations))
	}
	d.Paths = paths
	return nil
}

// finish adds to the plugin's description of the operation what the contract
// says of it.
func (op operation) finish(content object) error {
	content["operationId"] = op.id
	content["tags"] = []string{op.tag}
	content["x-mesh-type"] = op.kind
	content["x-mesh-roles"] = append([]string{}, op.roles...) // [] rather than null
	content["security"] = op.security()

	given, _ := content["parameters"].([]any)
	content["parameters"] = append(given, object{"$ref": "#/components/parameters/" + faultParameter})
	if op.route.parameter != "" {
		if err := op.nameParameter(content); err != nil {
			return err
		}
	}
	if !op.hasFields(content) {
		// The gateway takes no body for an empty one.
		delete(content, "requestBody")
	}
	responses, ok := content["responses"].(object)
	if !ok {
		return fmt.Errorf("no responses")
	}
	responses["default"] = object{"$ref": "#/components/responses/" + errorResponse}
	if op.workbook {
		op.addWorkbook(content, responses)
	}
	if op.streams {
		return op.unwrapStream(responses)
	}
	return nil
}

// security is the alternatives by which a caller may authenticate.
func (op operation) security() []object {
	if op.public {
		return []object{}
	}
	return []object{
		{"apiKey": []string{}, "group": []string{}},
		{"bearer": []string{}, "group": []string{}},
	}
}

// nameParameter renames the path parameter: the plugin calls it by the request
// field, which it fills only together with the collection before it.
func (op operation) nameParameter(content object) error {
	parameters, _ := content["parameters"].([]any)
	for _, value := range parameters {
		parameter, _ := value.(object)
		if parameter["in"] != "path" {
			continue
		}
		if parameter["name"] != op.route.field {
			return fmt.Errorf("path parameter %v, want %s", parameter["name"], op.route.field)
		}
		parameter["name"] = op.route.parameter
		parameter["description"] = fmt.Sprintf("The ULID of the %s: the part of its resource name after `%s`.",
			strings.ReplaceAll(op.route.parameter, "_", " "), op.route.collection)
		parameter["schema"] = object{"type": "string"}
		return nil
	}
	return fmt.Errorf("no path parameter")
}

// hasFields reports whether the body, if any, has something to say.
func (op operation) hasFields(content object) bool {
	body, _ := content["requestBody"].(object)
	media, _ := body["content"].(object)
	entry, _ := media["application/json"].(object)
	schema, _ := entry["schema"].(object)
	return schema["$ref"] != nil || schema["properties"] != nil
}

// addWorkbook describes the file that the gateway decodes for who asks for it.
func (op operation) addWorkbook(content, responses object) {
	parameters, _ := content["parameters"].([]any)
	content["parameters"] = append(parameters, object{
		"name": "alt", "in": "query", "schema": object{"type": "string", "enum": []string{"media"}},
		"description": "`media` answers with the workbook itself, as Accept does, for links that cannot set a header.",
	})
	response, _ := responses["200"].(object)
	media, _ := response["content"].(object)
	media["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"] = object{"schema": object{"type": "string", "format": "binary"}}
}

// unwrapStream describes the stream as the gateway sends it: the messages
// bare, where the plugin has each in an envelope.
func (op operation) unwrapStream(responses object) error {
	response, _ := responses["200"].(object)
	content, _ := response["content"].(object)
	media, _ := content["application/json"].(object)
	schema, _ := media["schema"].(object)
	properties, _ := schema["properties"].(object)
	message, ok := properties["result"]
	if !ok {
		return fmt.Errorf("no stream to unwrap")
	}
	response["content"] = object{
		"application/x-ndjson": object{"schema": message},
		"text/event-stream":    object{"schema": object{"type": "string", "description": "Server-sent events: `message`, whose data is such a message; `error`, a google.rpc.Status; `end`."}},
	}
	response["description"] = fmt.Sprintf("A stream of %s, one per line.", op.response)
	return nil
}
