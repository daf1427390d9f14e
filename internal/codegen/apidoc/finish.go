package apidoc

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// finish adds the rules of the contract to the description of the operation by the plugin. A body
// that the plugin describes inline becomes a schema in requests, under the name of the request
// message.
func (op operation) finish(content, requests object) error {
	op.describe(content)
	content["operationId"] = op.id
	content["tags"] = []string{op.tag()}
	content["x-mesh-type"] = "READ"
	if op.Method.Write {
		content["x-mesh-type"] = "WRITE"
	}
	roles := []string{} // [] rather than null
	for _, role := range op.Method.Roles {
		roles = append(roles, role.String())
	}
	content["x-mesh-roles"] = roles
	if op.Method.Verified {
		content["x-mesh-verification"] = "VERIFIED"
	}
	content["security"] = op.security()
	if err := op.finishParameters(content); err != nil {
		return err
	}
	if err := op.finishBody(content, requests); err != nil {
		return err
	}
	if op.Body != "*" || content["requestBody"] == nil {
		// No schema describes the whole request, so its rules are added to the operation.
		rules, err := messageRules(op.request())
		if err != nil {
			return err
		}
		tellRules(content, "The request", rules)
	}
	return op.finishResponses(content)
}

// describe makes the first sentence the summary, and adds to the description who may call the
// operation.
func (op operation) describe(content object) {
	text, _ := content["summary"].(string)
	if more, ok := content["description"].(string); ok {
		text += "\n\n" + more
	}
	end := strings.Index(text+" ", ". ")
	if paragraph := strings.Index(text, ".\n\n"); paragraph >= 0 && paragraph < end {
		end = paragraph
	}
	summary, rest := text, ""
	if end >= 0 {
		summary, rest = text[:end], strings.TrimSpace(text[min(end+1, len(text)):])
	}
	content["summary"] = strings.TrimSuffix(summary, ".")

	access := "Public: neither a key nor a group is needed."
	if !op.Method.Public {
		var roles []string
		for _, role := range op.Method.Roles {
			roles = append(roles, "`"+role.String()+"`")
		}
		access = "Requires one of the roles " + strings.Join(roles, ", ") + " in the executing group or in a group above it."
	}
	if op.Method.Verified {
		access += " The client of the API user must be VERIFIED."
	}
	if op.Method.Write {
		access += " The gateway never sends this call twice."
	}
	content["description"] = strings.TrimSpace(rest + "\n\n" + access)
}

// security lists the alternative ways to authenticate.
func (op operation) security() []object {
	switch {
	case op.Method.Public:
		return []object{}
	case op.Method.Streams():
		return append(keyAndGroup(), object{"ticket": []string{}})
	}
	return keyAndGroup()
}

// keyAndGroup lists the two headers for the key, each with the header for the group.
func keyAndGroup() []object {
	return []object{
		{"apiKey": []string{}, "group": []string{}},
		{"bearer": []string{}, "group": []string{}},
	}
}

func (op operation) finishParameters(content object) error {
	given, _ := content["parameters"].([]any)
	for _, value := range given {
		parameter, _ := value.(object)
		if parameter["in"] == "path" {
			if err := op.finishPathParameter(parameter); err != nil {
				return err
			}
			continue
		}
		if err := op.finishQueryParameter(parameter); err != nil {
			return fmt.Errorf("parameter %v: %w", parameter["name"], err)
		}
	}
	if !op.Method.Write {
		given = append(given, parameterRef(fieldsParameter))
	}
	if op.workbook() {
		given = append(given, parameterRef(altParameter))
	}
	if op.Method.Streams() {
		given = append(given, parameterRef(lastEventParameter))
	} else {
		given = append(given, parameterRef(timeoutParameter))
		if op.Method.Write {
			given = append(given, parameterRef(keyParameter))
		}
	}
	content["parameters"] = append(given, parameterRef(faultParameter))
	return nil
}

// finishPathParameter renames the path parameter. The plugin names it after the request field,
// but the parameter is only the last part of that field, after the collection.
func (op operation) finishPathParameter(parameter object) error {
	name, _ := parameter["name"].(string)
	field, err := fieldByPath(op.request(), name)
	if err != nil {
		return err
	}
	schema := object{"type": "string"}
	if _, err := constrain(field, schema); err != nil {
		return err
	}
	if op.route.parameter == "" {
		schema["minLength"] = 1
		parameter["schema"] = schema
		return nil
	}
	if name != op.PathField {
		return fmt.Errorf("path parameter %s, want %s", name, op.PathField)
	}
	whole, _ := schema["pattern"].(string)
	_, id, found := strings.Cut(whole, op.route.collection)
	if !found {
		return fmt.Errorf("path parameter %s: pattern %q is of another collection than %s", name, whole, op.route.collection)
	}
	parameter["name"] = op.route.parameter
	parameter["description"] = fmt.Sprintf("The ULID of the %s: the part of its resource name after `%s`.",
		strings.Replace(strings.ReplaceAll(op.route.parameter, "_", " "), "api ", "API ", 1), op.route.collection)
	parameter["schema"] = object{"type": "string", "pattern": "^" + strings.TrimSuffix(strings.TrimSuffix(id, "$"), ")?") + "$"}
	return nil
}

func (op operation) finishQueryParameter(parameter object) error {
	name, _ := parameter["name"].(string)
	field, err := fieldByPath(op.request(), name)
	if err != nil {
		return err
	}
	schema, _ := parameter["schema"].(object)
	required, err := constrain(field, schema)
	if err != nil {
		return err
	}
	// A nested field is required only if its parent is present.
	if required && !strings.Contains(name, ".") {
		parameter["required"] = true
	}
	if first, _, nested := strings.Cut(name, "."); nested {
		outer, err := fieldByPath(op.request(), first)
		if err != nil {
			return err
		}
		if must, err := constrain(outer, object{}); err != nil {
			return err
		} else if must {
			parameter["description"] = fmt.Sprintf("%v At least one part of `%s` must be given.", parameter["description"], first)
		}
	}
	if rules, _ := schema["x-mesh-rules"].([]rule); len(rules) > 0 {
		parameter["description"] = fmt.Sprintf("%v It %s.", parameter["description"], rules[0].Message)
	}
	delete(schema, "description")
	return nil
}

// fieldByPath finds a field by its path in JSON or proto spelling.
func fieldByPath(message protoreflect.MessageDescriptor, path string) (field protoreflect.FieldDescriptor, err error) {
	for name := range strings.SplitSeq(path, ".") {
		if message == nil {
			return nil, fmt.Errorf("%s goes too deep", path)
		}
		if field = message.Fields().ByJSONName(name); field == nil {
			field = message.Fields().ByTextName(name)
		}
		if field == nil {
			return nil, fmt.Errorf("%s: no field %s in %s", path, name, message.FullName())
		}
		message = field.Message()
	}
	return field, nil
}

// finishBody removes a body without fields, because the gateway accepts no body as an empty one,
// and turns an inline schema into a named one.
func (op operation) finishBody(content, requests object) error {
	body, _ := content["requestBody"].(object)
	if body == nil {
		return nil
	}
	media, _ := body["content"].(object)
	entry, _ := media[wire.JSON].(object)
	schema, _ := entry["schema"].(object)
	if schema["$ref"] != nil {
		return nil
	}
	properties, _ := schema["properties"].(object)
	if len(properties) == 0 {
		delete(content, "requestBody")
		return nil
	}
	name := string(op.request().FullName())
	if _, taken := requests[name]; taken {
		return fmt.Errorf("%s has two bodies", name)
	}
	schema["description"] = fmt.Sprintf("The body of `%s`.", op.id)
	requests[name] = schema
	entry["schema"] = ref(name)
	return nil
}

func (op operation) finishResponses(content object) error {
	responses, _ := content["responses"].(object)
	response, _ := responses["200"].(object)
	if response == nil {
		return fmt.Errorf("no response 200")
	}
	response["headers"] = headerRefs(answerHeaders...)
	if op.Method.Write {
		response["headers"] = headerRefs(append(slices.Clone(answerHeaders), "Replayed")...)
	}
	switch {
	case op.Method.Streams():
		if err := op.unwrapStream(response); err != nil {
			return err
		}
		responses["101"] = object{"description": "A WebSocket, if the request asks for an upgrade. Each " + op.response() + " is a text message. The close code is 1000 at the end, or 4000 plus the gRPC code for an error, with the error message as the reason."}
	case op.workbook():
		media, _ := response["content"].(object)
		media[wire.Workbook] = object{"schema": object{"type": "string", "format": "binary"}}
		response["headers"] = headerRefs(append(slices.Clone(answerHeaders), "ContentDisposition")...)
	}
	for status, name := range op.errors(content) {
		responses[status] = object{"$ref": "#/components/responses/" + name}
	}
	return nil
}

// errors returns the errors that any such operation can respond with. Other errors of an operation
// come from the example calls.
func (op operation) errors(content object) map[string]string {
	can := maps.Clone(anyOperation)
	if !op.Method.Streams() { // a stream has begun when its messages are read
		can["502"] = "BadGateway"
	}
	if strings.Contains(op.route.path, "{") {
		can["404"] = "NotFound"
	}
	if op.Method.Write {
		can["409"] = "Conflict"
		if op.Method.Descriptor.Input().Fields().Len() > 0 { // otherwise all requests are the same
			can["422"] = "KeyReused"
		}
	}
	if op.Verb != http.MethodGet {
		// A request without fields may still have a body: {}.
		can["413"], can["415"] = "BodyTooLarge", "UnsupportedMediaType"
	}
	return can
}

// unwrapStream describes the stream as the gateway sends it, with plain messages. The plugin
// describes each message in an envelope.
func (op operation) unwrapStream(response object) error {
	content, _ := response["content"].(object)
	media, _ := content[wire.JSON].(object)
	schema, _ := media["schema"].(object)
	properties, _ := schema["properties"].(object)
	message, ok := properties["result"]
	if !ok {
		return fmt.Errorf("no stream to unwrap")
	}
	response["content"] = object{
		wire.NDJSON:      object{"schema": message},
		wire.EventStream: object{"schema": object{"type": "string", "description": "Server-sent events: `message`, whose data is one message as JSON; `error`, whose data is a google.rpc.Status; `end`."}},
	}
	response["description"] = fmt.Sprintf("A stream of %s, one per line. If it fails after it has started, the last line is `{\"error\": Status}`.", op.response())
	return nil
}
