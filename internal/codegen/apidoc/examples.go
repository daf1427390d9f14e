package apidoc

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/meshtrade/mesh-gateway/internal/apierror"
	"github.com/meshtrade/mesh-gateway/internal/docs/examples"
	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// longest is the maximum length of a string in an example. A workbook in base64 is longer.
const longest = 400

// addExamples adds a successful request and its response to each operation, and examples to the
// errors.
func (d *document) addExamples(recorded []examples.Recording) error {
	shown := make(map[string]bool)
	for _, r := range recorded {
		content, parameters, err := d.find(r)
		if err != nil {
			return err
		}
		id := fmt.Sprint(content["operationId"])
		if r.Status >= 400 {
			err = d.addRefusal(content, r)
		} else {
			err = addAnswer(content, r)
			if err == nil && !shown[id] {
				shown[id] = true
				err = addRequest(content, parameters, r)
			}
		}
		if err != nil {
			return fmt.Errorf("example of %s: %w", id, err)
		}
	}
	for _, item := range d.Paths {
		for _, value := range item {
			content, _ := value.(object)
			if id := fmt.Sprint(content["operationId"]); !shown[id] && content["x-mesh-type"] != nil {
				return fmt.Errorf("internal/docs/examples has no call of %s that succeeds; add one", id)
			}
		}
	}
	d.showDefect()
	d.dropUnused()
	return nil
}

// showDefect adds the response to a call that met a defect, which no example call can produce.
func (d *document) showDefect() {
	components, _ := d.Components["responses"].(object)
	shared, _ := components["InternalError"].(object)
	showIn(shared, "a-defect", object{"summary": "A defect of the gateway", "value": json.RawMessage(apierror.Defect("01JDFB3X9T0000000000000000"))})
}

// dropUnused removes the shared responses that no operation refers to, because each operation has
// its own.
func (d *document) dropUnused() {
	used := make(map[any]bool)
	for _, item := range d.Paths {
		eachObject(item, func(o object) { used[o["$ref"]] = true })
	}
	responses, _ := d.Components["responses"].(object)
	for name := range responses {
		if !used["#/components/responses/"+name] {
			delete(responses, name)
		}
	}
}

// find returns the operation that was called, and the path parameters by name.
func (d *document) find(r examples.Recording) (object, map[string]string, error) {
	path, _, _ := strings.Cut(r.Path, "?")
	for template, item := range d.Paths {
		content, ok := item[strings.ToLower(r.Method)].(object)
		if !ok {
			continue
		}
		if parameters, ok := examples.Match(template, path); ok {
			return content, parameters, nil
		}
	}
	return nil, nil, fmt.Errorf("no operation is %s %s", r.Method, path)
}

// addRequest adds the parameters and the body of the request as examples.
func addRequest(content object, inPath map[string]string, r examples.Recording) error {
	_, query, _ := strings.Cut(r.Path, "?")
	given, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	list, _ := content["parameters"].([]any)
	for _, value := range list {
		parameter, _ := value.(object)
		name := fmt.Sprint(parameter["name"])
		switch sent, inQuery := given[name]; {
		case parameter["in"] == "path":
			parameter["example"] = inPath[name]
		case inQuery:
			schema, _ := parameter["schema"].(object)
			parameter["example"] = typed(schema, sent)
			delete(given, name)
		}
	}
	for name := range given {
		return fmt.Errorf("the call sends a parameter %s that is not described", name)
	}
	if r.Body == "" {
		return nil
	}
	body, _ := content["requestBody"].(object)
	media, _ := body["content"].(object)
	entry, _ := media[wire.JSON].(object)
	if entry == nil {
		return fmt.Errorf("the call sends a body that is not described")
	}
	entry["example"] = json.RawMessage(r.Body)
	return nil
}

// typed converts a query parameter to the JSON type in its schema.
func typed(schema object, sent []string) any {
	switch schema["type"] {
	case "boolean":
		value, _ := strconv.ParseBool(sent[0])
		return value
	case "array":
		return sent
	}
	return sent[0]
}

func addAnswer(content object, r examples.Recording) error {
	responses, _ := content["responses"].(object)
	response, _ := responses[strconv.Itoa(r.Status)].(object)
	media, _ := response["content"].(object)
	entry, _ := media[r.ContentType].(object)
	if entry == nil {
		return fmt.Errorf("answers %d with %s, which is not described", r.Status, r.ContentType)
	}
	switch r.ContentType {
	case wire.JSON:
		entry["example"] = shorten(r.Answer)
	case wire.NDJSON:
		line, _, _ := strings.Cut(r.Answer, "\n")
		entry["example"] = json.RawMessage(line)
	default:
		entry["example"] = r.Answer
	}
	return nil
}

var long = regexp.MustCompile(`"[A-Za-z0-9+/=]{` + strconv.Itoa(longest) + `,}"`)

func shorten(answer string) json.RawMessage {
	return json.RawMessage(long.ReplaceAllStringFunc(answer, func(text string) string {
		return text[:longest/8] + `…"`
	}))
}

// errorNames returns the names of the error responses by status.
func errorNames() map[string]string {
	names := map[string]string{"422": "KeyReused", "502": "BadGateway", "404": "NotFound", "409": "Conflict", "413": "BodyTooLarge", "415": "UnsupportedMediaType"}
	for status, name := range anyOperation {
		names[status] = name
	}
	return names
}

// addRefusal adds an error as an example: to the shared response if every operation can return it,
// and otherwise to the operation.
func (d *document) addRefusal(content object, r examples.Recording) error {
	status := strconv.Itoa(r.Status)
	components, _ := d.Components["responses"].(object)
	shared, _ := components[errorNames()[status]].(object)
	if shared == nil {
		return fmt.Errorf("no error response is for %s", status)
	}
	example := object{"summary": r.Title, "value": json.RawMessage(r.Answer)}
	name := strings.ReplaceAll(strings.ToLower(strings.ReplaceAll(r.Title, ",", "")), " ", "-")
	if r.Anywhere {
		showIn(shared, name, example)
		return nil
	}
	responses, _ := content["responses"].(object)
	own, _ := responses[status].(object)
	if own == nil || own["$ref"] != nil {
		own = object{"description": shared["description"], "headers": shared["headers"], "content": object{wire.JSON: object{"schema": ref(statusSchema)}}}
		responses[status] = own
	}
	showIn(own, name, example)
	return nil
}

func showIn(response object, name string, example object) {
	media, _ := response["content"].(object)
	entry, _ := media[wire.JSON].(object)
	examples, _ := entry["examples"].(object)
	if examples == nil {
		examples = make(object)
		entry["examples"] = examples
	}
	examples[name] = example
}
