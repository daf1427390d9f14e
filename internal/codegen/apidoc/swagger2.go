package apidoc

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"

	"github.com/meshtrade/mesh-gateway/internal/wire"
)

// Swagger2 converts an OpenAPI document from Write to Swagger 2.0, for tools that do not support a
// newer version. It leaves out what Swagger 2.0 cannot express: alternative schemas, and more than
// one example of a response.
func Swagger2(openAPI []byte) ([]byte, error) {
	var tree object
	if err := json.Unmarshal(openAPI, &tree); err != nil {
		return nil, err
	}
	tree["openapi"] = "3.0.3"
	components, _ := tree["components"].(object)
	schemes, _ := components["securitySchemes"].(object)
	schemes["bearer"] = object{"type": "apiKey", "in": "header", "name": wire.AuthorizationHeader, "description": "`Bearer ` followed by the API key, for clients that can send the Authorization header but not X-Api-Key."}
	schemas, _ := components["schemas"].(object)
	eachObject(tree, older)
	eachObject(tree, func(o object) { inlineEnum(o, schemas) })

	plain, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	document, err := openapi3.NewLoader().LoadFromData(plain)
	if err != nil {
		return nil, err
	}
	converted, err := openapi2conv.FromV3(document)
	if err != nil {
		return nil, err
	}
	content, err := json.Marshal(converted)
	if err != nil {
		return nil, err
	}
	var swagger object
	if err := json.Unmarshal(content, &swagger); err != nil {
		return nil, err
	}
	addAnswers(swagger, tree)
	swagger["basePath"] = "/"
	return encode(swagger)
}

// older converts an object from OpenAPI 3.1 to 3.0.
func older(o object) {
	if value, ok := o["const"]; ok {
		o["enum"] = []any{value}
		delete(o, "const")
	}
	if least, ok := o["exclusiveMinimum"].(float64); ok {
		o["minimum"], o["exclusiveMinimum"] = least, true
	}
	// OpenAPI 3.0 ignores other keywords next to a reference.
	if target, ok := o["$ref"]; ok && len(o) > 1 {
		o["allOf"] = []any{object{"$ref": target}}
		delete(o, "$ref")
	}
	for _, choice := range []string{"anyOf", "not"} {
		delete(o, choice)
	}
	// Lists are sent as repeated parameters, which is not the default of the conversion.
	if schema, _ := o["schema"].(object); o["in"] == "query" && schema["type"] == "array" {
		o["style"], o["explode"] = "form", true
	}
	// Swagger 2.0 has no example keyword for parameters.
	if example, ok := o["example"]; ok && o["in"] != nil {
		o["x-example"] = example
		delete(o, "example")
	}
	if examples, ok := o["examples"].(object); ok {
		for _, name := range slices.Sorted(maps.Keys(examples))[:1] {
			one, _ := examples[name].(object)
			o["example"] = one["value"]
		}
		delete(o, "examples")
	}
}

// inlineEnum copies the values of an enum into a parameter, because parameters in Swagger 2.0
// cannot refer to a schema.
func inlineEnum(o object, schemas object) {
	if o["in"] == nil {
		return
	}
	schema, _ := o["schema"].(object)
	for _, place := range []object{schema, child(schema, "items")} {
		target, _ := place["$ref"].(string)
		if enum := child(schemas, strings.TrimPrefix(target, schemaRef)); target != "" {
			delete(place, "$ref")
			place["type"], place["enum"] = enum["type"], enum["enum"]
		}
	}
}

// addAnswers adds what the conversion leaves out: the media types of responses, and the schemas
// and examples of responses that are not JSON.
func addAnswers(swagger, openAPI object) {
	for path, item := range child(swagger, "paths") {
		item, _ := item.(object)
		for verb, value := range item {
			operation, _ := value.(object)
			media := child(child(openAPI, "paths", path, verb, "responses", "200"), "content")
			produces := slices.Sorted(maps.Keys(media))
			if len(produces) == 0 {
				continue
			}
			operation["produces"] = produces
			answer := child(operation, "responses", "200")
			examples := make(object)
			for _, name := range produces {
				entry := child(media, name)
				if entry["example"] != nil {
					examples[name] = entry["example"]
				}
				if target, ok := child(entry, "schema")["$ref"].(string); ok && answer["schema"] == nil {
					answer["schema"] = object{"$ref": strings.Replace(target, schemaRef, "#/definitions/", 1)}
				}
			}
			if len(examples) > 0 {
				answer["examples"] = examples
			}
		}
	}
}

// child returns the object at the path of names, or an empty object.
func child(o object, names ...string) object {
	for _, name := range names {
		o, _ = o[name].(object)
	}
	if o == nil {
		return object{}
	}
	return o
}
