// Command kubernetes writes the JSON schemas that the rendered chart is validated against, one file
// for each kind that the chart has, as kubeconform names them. They come from the OpenAPI document
// of Kubernetes and the custom resource definitions of the Prometheus operator, both as Go modules
// have them:
//
//	go -C deploy generate
//
// Both are under the Apache License 2.0. The schemas are strict: a field that a kind does not have
// is an error.
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	kubernetes         = "k8s.io/kubernetes@v1.36.3"
	prometheusOperator = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
)

// kinds maps a file to the definition of its kind.
var kinds = map[string]string{
	"configmap-v1":                           "io.k8s.api.core.v1.ConfigMap",
	"deployment-apps-v1":                     "io.k8s.api.apps.v1.Deployment",
	"horizontalpodautoscaler-autoscaling-v2": "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
	"job-batch-v1":                           "io.k8s.api.batch.v1.Job",
	"networkpolicy-networking-v1":            "io.k8s.api.networking.v1.NetworkPolicy",
	"poddisruptionbudget-policy-v1":          "io.k8s.api.policy.v1.PodDisruptionBudget",
	"service-v1":                             "io.k8s.api.core.v1.Service",
	"serviceaccount-v1":                      "io.k8s.api.core.v1.ServiceAccount",
}

const podMonitor = "podmonitor-monitoring-v1"

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, "kubernetes:", err)
		os.Exit(1)
	}
}

func generate() error {
	module, err := download(kubernetes)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(module, "api/openapi-spec/swagger.json"))
	if err != nil {
		return err
	}
	var document struct{ Definitions map[string]any }
	if err := json.Unmarshal(text, &document); err != nil {
		return err
	}
	for file, definition := range kinds {
		schema := map[string]any{"$ref": reference + definition, "definitions": closure(document.Definitions, definition)}
		if err := write(file, schema); err != nil {
			return err
		}
	}

	if module, err = download(prometheusOperator); err != nil {
		return err
	}
	text, err = os.ReadFile(filepath.Join(module, "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"))
	if err != nil {
		return err
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		return err
	}
	if n := len(definition.Spec.Versions); n != 1 {
		return fmt.Errorf("the definition of PodMonitor has %d versions, not 1", n)
	}
	return write(podMonitor, strict(definition.Spec.Versions[0].Schema.OpenAPIV3Schema).(map[string]any))
}

// download returns the directory of a module. It is not a requirement of this module, which would
// be much larger with it.
func download(module string) (string, error) {
	command := exec.Command("go", "mod", "download", "-json", module)
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go mod download %s: %w", module, err)
	}
	var downloaded struct{ Dir string }
	return downloaded.Dir, json.Unmarshal(output, &downloaded)
}

const reference = "#/definitions/"

// closure returns the named definition and all that it refers to.
func closure(all map[string]any, name string) map[string]any {
	found := map[string]any{}
	var visit func(name string)
	visit = func(name string) {
		if _, ok := found[name]; ok {
			return
		}
		found[name] = strict(all[name])
		for _, next := range references(found[name]) {
			visit(strings.TrimPrefix(next, reference))
		}
	}
	visit(name)
	return found
}

// references lists what a schema refers to.
func references(schema any) (all []string) {
	switch schema := schema.(type) {
	case map[string]any:
		for key, value := range schema {
			if target, ok := value.(string); ok && key == "$ref" {
				all = append(all, target)
			}
			all = append(all, references(value)...)
		}
	case []any:
		for _, value := range schema {
			all = append(all, references(value)...)
		}
	}
	return all
}

// strict returns the schema without descriptions and the extensions of Kubernetes. It refuses
// fields that the schema does not list, and accepts numbers where Kubernetes does although it says
// "string".
func strict(schema any) any {
	switch schema := schema.(type) {
	case []any:
		for i := range schema {
			schema[i] = strict(schema[i])
		}
	case map[string]any:
		description, _ := schema["description"].(string)
		if schema["format"] == "int-or-string" || schema["x-kubernetes-int-or-string"] == true || strings.HasPrefix(description, "Quantity is ") {
			return map[string]any{"type": []string{"string", "number"}}
		}
		maps.DeleteFunc(schema, func(key string, value any) bool {
			_, text := value.(string)
			return key == "description" && text || key == "default" || strings.HasPrefix(key, "x-kubernetes-")
		})
		for key := range schema {
			schema[key] = strict(schema[key])
		}
		_, listed := schema["properties"].(map[string]any)
		if _, open := schema["additionalProperties"]; listed && !open && schema["type"] == "object" {
			schema["additionalProperties"] = false
		}
	}
	return schema
}

func write(name string, schema map[string]any) error {
	text, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("kubernetes/schemas", name+".json"), append(text, '\n'), 0o644)
}
