package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/yannh/kubeconform/pkg/validator"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

const chartDir = "helm/mesh-gateway"

// store is the part of values that makes several replicas possible.
const store = "configFromSecrets: {store: {name: mesh-gateway, key: store}}\n"

// settings are values that the chart must accept. Together they use every template and every branch
// of it.
var settings = []struct{ name, values string }{
	{"defaults", ``},
	{"several replicas", store + `replicaCount: 3`},
	{"a database that needs no password", `{replicaCount: 2, config: {store: "postgres://gateway@db.example/mesh"}}`},
	{"autoscaling", store + `autoscaling: {enabled: true, minReplicas: 2, maxReplicas: 10}`},
	{"one replica with autoscaling", `autoscaling: {enabled: true, minReplicas: 1, maxReplicas: 1}`},
	{"flags of each type", `config: {cors-origin: [https://a.example, https://b.example], max-inflight-bytes: 268435456, upstream-plaintext: true, request-timeout: 10s, upstream: "mesh:443"}`},
	{"TLS", `tls: {secretName: certificate}`},
	{"TLS with client certificates", `tls: {secretName: certificate, clientCA: true}`},
	{"traces", `tracing: {endpoint: "http://collector.monitoring:4318"}`},
	{"a role for migrations", store + `migration: {secret: {name: owner, key: store}}`},
	{"without migration", store + `migration: {enabled: false}`},
	{"nothing optional", `{networkPolicy: {enabled: false}, podDisruptionBudget: {enabled: false}, serviceAccount: {name: default}}`},
	{"everything optional", store + `
replicaCount: 2
image: {digest: "sha256:` + strings.Repeat("0", 64) + `"}
imagePullSecrets: [{name: registry}]
fullnameOverride: gateway
service: {type: LoadBalancer, port: 8443, annotations: {a: b}}
networkPolicy:
  apiFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress}}}]
  adminFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 443, protocol: TCP}]}]
podMonitor: {enabled: true, labels: {release: prometheus}}
serviceAccount: {annotations: {a: b}}
podAnnotations: {a: b}
podLabels: {a: b}
nodeSelector: {kubernetes.io/arch: arm64}
tolerations: [{key: dedicated, operator: Exists}]
affinity: {nodeAffinity: {}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {}}]
priorityClassName: high
extraEnv: [{name: OTEL_EXPORTER_OTLP_ENDPOINT, value: "http://collector:4317"}]
extraVolumes: [{name: mesh-ca, configMap: {name: mesh-ca}}]
extraVolumeMounts: [{name: mesh-ca, mountPath: /etc/mesh-ca, readOnly: true}]
`},
}

// render returns the objects of the chart as YAML.
func render(values string) (objects []string, err error) {
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		return nil, err
	}
	given := map[string]any{}
	if err := yaml.Unmarshal([]byte(values), &given); err != nil {
		return nil, err
	}
	all, err := util.ToRenderValues(chart, given, common.ReleaseOptions{Name: "test", Namespace: "mesh"}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.RenderWithContext(context.Background(), chart, all)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Ext(name) != ".yaml" {
			continue
		}
		for _, text := range strings.Split(files[name], "\n---\n") {
			if strings.TrimSpace(text) != "" {
				objects = append(objects, text)
			}
		}
	}
	return objects, nil
}

// mustRender is render for values that the chart accepts.
func mustRender(t *testing.T, values string) []string {
	t.Helper()
	objects, err := render(values)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// find parses the one object of a kind.
func find[Object any](t *testing.T, objects []string, kind string) *Object {
	t.Helper()
	var found *Object
	for _, text := range objects {
		var meta struct{ Kind string }
		if err := yaml.Unmarshal([]byte(text), &meta); err != nil {
			t.Fatal(err)
		}
		if meta.Kind != kind {
			continue
		}
		if found != nil {
			t.Fatalf("more than one %s", kind)
		}
		found = new(Object)
		if err := yaml.UnmarshalStrict([]byte(text), found); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	if found == nil {
		t.Fatalf("no %s", kind)
	}
	return found
}

func TestChartIsValid(t *testing.T) {
	kinds := map[string]bool{}
	validate := schemas(t)
	for _, test := range settings {
		t.Run(test.name, func(t *testing.T) {
			given := map[string]any{}
			if err := yaml.Unmarshal([]byte(test.values), &given); err != nil {
				t.Fatal(err)
			}
			for _, message := range lint.RunAll(chartDir, given, "mesh").Messages {
				// An icon is for catalogues of charts.
				if message.Severity >= support.WarningSev {
					t.Error("lint:", message)
				}
			}
			for _, text := range mustRender(t, test.values) {
				kind, err := validate(text)
				if err != nil {
					t.Errorf("%v\n%s", err, text)
				}
				kinds[kind] = true
			}
		})
	}
	if vendored := glob(t, "kubernetes/schemas/*.json"); len(vendored) != len(kinds) {
		t.Errorf("the settings render %d kinds, and there are schemas of %d: %v", len(kinds), len(vendored), slices.Sorted(maps.Keys(kinds)))
	}
}

// schemas returns a function that validates an object against the schema of its kind.
func schemas(t *testing.T) func(object string) (kind string, err error) {
	t.Helper()
	v, err := validator.New([]string{"kubernetes/schemas/{{ .ResourceKind }}{{ .KindSuffix }}.json"}, validator.Opts{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	return func(object string) (string, error) {
		results := v.Validate("object.yaml", io.NopCloser(strings.NewReader(object)))
		if len(results) != 1 {
			return "", fmt.Errorf("%d objects, not 1", len(results))
		}
		signature, err := results[0].Resource.Signature()
		if err != nil {
			return "", err
		}
		if results[0].Status != validator.Valid {
			return signature.Kind, errors.Join(errors.New("not valid"), results[0].Err)
		}
		return signature.Kind, nil
	}
}

func TestSchemasAreStrict(t *testing.T) {
	validate := schemas(t)
	for _, test := range []struct{ name, object string }{
		{"unknown field", "{apiVersion: v1, kind: Service, spec: {prots: []}}"},
		{"wrong type", "{apiVersion: v1, kind: Service, spec: {ports: [{port: http}]}}"},
		{"missing field", "{apiVersion: v1, kind: Service, spec: {ports: [{name: http}]}}"},
		{"unknown field of a custom resource", "{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, spec: {selector: {}, endpoints: []}}"},
		{"unknown kind", "{apiVersion: v1, kind: Pod}"},
		{"unknown version", "{apiVersion: apps/v1beta1, kind: Deployment}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := validate(test.object); err == nil {
				t.Error("valid")
			}
		})
	}
}

func TestChartRefuses(t *testing.T) {
	for _, test := range []struct{ name, values, want string }{
		{"two replicas with a store in memory", `replicaCount: 2`, "2 replicas need a shared store"},
		{"two replicas with a file", `{replicaCount: 2, config: {store: "file:/data/keys.db"}}`, "2 replicas need a shared store"},
		{"autoscaling to two replicas with a store in memory", `autoscaling: {enabled: true, minReplicas: 1, maxReplicas: 2}`, "2 replicas need a shared store"},
		{"autoscaling to fewer replicas than at least", store + `autoscaling: {enabled: true, minReplicas: 3, maxReplicas: 2}`, "must not be more than"},
		{"two stores", store + `config: {store: memory}`, "cannot be set together"},
		{"a password in a ConfigMap", `config: {store: "postgres://gateway:secret@db.example/mesh"}`, "configFromSecrets.store"},
		{"what the chart sets itself", `config: {admin-listen: ":9999"}`, "config.admin-listen cannot be set"},
		{"what the chart sets itself, from a Secret", `configFromSecrets: {tls-key: {name: a, key: b}}`, "config.tls-key cannot be set"},
		{"client certificates without TLS", `tls: {clientCA: true}`, "tls.clientCA needs tls.secretName"},
		{"a collector without a scheme", `tracing: {endpoint: "collector:4318"}`, "endpoint"},
		{"more traces than requests", `tracing: {ratio: 10}`, "ratio"},
		{"a flag that does not exist", `config: {corsorigin: "*"}`, "corsorigin"},
		{"a value that does not exist", `replicas: 2`, "replicas"},
		{"a Secret without a key", `configFromSecrets: {store: {name: a}}`, "key"},
		{"a grace period that cuts the shutdown short", `terminationGracePeriodSeconds: 30`, "terminationGracePeriodSeconds"},
		{"a digest that is none", `image: {digest: latest}`, "digest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := render(test.values)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestReplicasNeverDisagreeAboutKeys(t *testing.T) {
	for _, test := range []struct {
		name, values string
		want         appsv1.DeploymentStrategyType
	}{
		{"a store in memory", ``, appsv1.RecreateDeploymentStrategyType},
		{"a store in a file", `config: {store: "file:/data/keys.db"}`, appsv1.RecreateDeploymentStrategyType},
		{"a shared store", store, appsv1.RollingUpdateDeploymentStrategyType},
	} {
		t.Run(test.name, func(t *testing.T) {
			deployment := find[appsv1.Deployment](t, mustRender(t, test.values), "Deployment")
			if got := deployment.Spec.Strategy.Type; got != test.want {
				t.Errorf("strategy %s, want %s", got, test.want)
			}
			if rolling := deployment.Spec.Strategy.RollingUpdate; rolling != nil && *rolling.MaxUnavailable != intstr.FromInt32(0) {
				t.Errorf("%s replicas unavailable during a rollout, want 0", rolling.MaxUnavailable)
			}
		})
	}
}

// pods are the templates of all pods that the settings lead to.
func pods(t *testing.T) map[string]corev1.PodSpec {
	t.Helper()
	all := map[string]corev1.PodSpec{}
	for _, test := range settings {
		objects := mustRender(t, test.values)
		all["Deployment, "+test.name] = find[appsv1.Deployment](t, objects, "Deployment").Spec.Template.Spec
		if slices.ContainsFunc(objects, func(text string) bool { return strings.Contains(text, "kind: Job") }) {
			all["Job, "+test.name] = find[batchv1.Job](t, objects, "Job").Spec.Template.Spec
		}
	}
	return all
}

func TestPodsMayDoNothingBeyondTheNetwork(t *testing.T) {
	for name, pod := range pods(t) {
		t.Run(name, func(t *testing.T) {
			if token := pod.AutomountServiceAccountToken; token == nil || *token {
				t.Error("the token of the account is mounted")
			}
			security := pod.SecurityContext
			if security == nil || security.RunAsNonRoot == nil || !*security.RunAsNonRoot || security.RunAsUser == nil || *security.RunAsUser != 65532 {
				t.Error("may run as root")
			}
			if security == nil || security.SeccompProfile == nil || security.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Error("no seccomp profile")
			}
			for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
				security := container.SecurityContext
				switch {
				case security == nil:
					t.Errorf("%s has no security context", container.Name)
					continue
				case security.ReadOnlyRootFilesystem == nil || !*security.ReadOnlyRootFilesystem:
					t.Errorf("%s may write to its root", container.Name)
				case security.AllowPrivilegeEscalation == nil || *security.AllowPrivilegeEscalation:
					t.Errorf("%s may gain privileges", container.Name)
				case security.Capabilities == nil || !slices.Equal(security.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(security.Capabilities.Add) > 0:
					t.Errorf("%s has capabilities", container.Name)
				}
				if container.Resources.Limits.Memory().IsZero() || container.Resources.Requests.Cpu().IsZero() {
					t.Errorf("%s has no limit of memory or no request of CPU", container.Name)
				}
			}
		})
	}
}

func TestSecretsAreReferredTo(t *testing.T) {
	for _, test := range []struct{ name, values, gateway, migration string }{
		{"one role", store, "mesh-gateway", "mesh-gateway"},
		{"another role for migrations", store + `migration: {secret: {name: owner, key: store}}`, "mesh-gateway", "owner"},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects := mustRender(t, test.values)
			for where, pod := range map[string]struct {
				spec corev1.PodSpec
				want string
			}{
				"gateway":   {find[appsv1.Deployment](t, objects, "Deployment").Spec.Template.Spec, test.gateway},
				"migration": {find[batchv1.Job](t, objects, "Job").Spec.Template.Spec, test.migration},
			} {
				want := corev1.EnvVar{Name: "MESH_GATEWAY_STORE", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
					LocalObjectReference: corev1.LocalObjectReference{Name: pod.want}, Key: "store",
				}}}
				if got := pod.spec.Containers[0].Env; len(got) != 1 || !reflect.DeepEqual(got[0], want) {
					t.Errorf("%s: got %v, want %v", where, got, want)
				}
			}
		})
	}
}

func TestProbesAskTheAdminListener(t *testing.T) {
	for _, values := range []string{``, `tls: {secretName: certificate}`} {
		container := find[appsv1.Deployment](t, mustRender(t, values), "Deployment").Spec.Template.Spec.Containers[0]
		for _, test := range []struct {
			name, path string
			probe      *corev1.Probe
		}{
			{"startup", "/healthz", container.StartupProbe},
			{"liveness", "/healthz", container.LivenessProbe},
			{"readiness", "/readyz", container.ReadinessProbe},
		} {
			t.Run(test.name, func(t *testing.T) {
				if test.probe == nil || test.probe.HTTPGet == nil {
					t.Fatal("none")
				}
				if got := *test.probe.HTTPGet; got.Path != test.path || got.Port != intstr.FromString("admin") || got.Scheme != "" {
					t.Errorf("asks %s %s of port %s, want %s of port admin", got.Scheme, got.Path, got.Port.String(), test.path)
				}
			})
		}
	}
}

func TestAdminListenerIsClosed(t *testing.T) {
	objects := mustRender(t, ``)
	for _, port := range find[corev1.Service](t, objects, "Service").Spec.Ports {
		if port.TargetPort == intstr.FromString("admin") {
			t.Error("the Service has the admin listener")
		}
	}
	for _, rule := range find[networkingv1.NetworkPolicy](t, objects, "NetworkPolicy").Spec.Ingress {
		for _, port := range rule.Ports {
			if *port.Port != intstr.FromInt32(8080) {
				t.Errorf("the NetworkPolicy lets everybody call port %s", port.Port)
			}
		}
	}
}

func TestGracePeriodIsLongerThanTheShutdown(t *testing.T) {
	want := shutdownTimeout(t)
	grace := find[appsv1.Deployment](t, mustRender(t, ``), "Deployment").Spec.Template.Spec.TerminationGracePeriodSeconds
	if grace == nil {
		t.Fatal("none, which means 30 seconds")
	}
	if *grace <= want {
		t.Errorf("%d seconds, and a shutdown may take %d", *grace, want)
	}
}

// shutdownTimeout is server.ShutdownTimeout in seconds. This module does not require the main one,
// whose requirements would be added to those of Helm.
func shutdownTimeout(t *testing.T) int64 {
	t.Helper()
	source, err := os.ReadFile("../internal/server/lifecycle.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\n\tShutdownTimeout = (\d+) \* time\.Second\n`).FindSubmatch(source)
	if found == nil {
		t.Fatal("ShutdownTimeout is not where it was")
	}
	seconds, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seconds
}

func TestSettingsBecomeVariables(t *testing.T) {
	objects := mustRender(t, `config: {cors-origin: [https://a.example, https://b.example], max-inflight-bytes: 268435456, upstream-plaintext: true}`)
	got := find[corev1.ConfigMap](t, objects, "ConfigMap").Data
	want := map[string]string{
		"MESH_GATEWAY_LISTEN":             ":8080",
		"MESH_GATEWAY_ADMIN_LISTEN":       ":9090",
		"MESH_GATEWAY_CORS_ORIGIN":        "https://a.example,https://b.example",
		"MESH_GATEWAY_MAX_INFLIGHT_BYTES": "268435456",
		"MESH_GATEWAY_UPSTREAM_PLAINTEXT": "true",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The program reads the OTEL_* variables itself. What tracing costs depends on the part of the requests.
func TestTracesAreSampled(t *testing.T) {
	const endpoint = "http://collector.monitoring:4318"
	sampled := func(ratio string) map[string]string {
		return map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio,
		}
	}
	for _, test := range []struct {
		name, values string
		want         map[string]string
	}{
		{"no collector", `tracing: {ratio: 1}`, nil},
		{"a tenth, unless set", `tracing: {endpoint: "` + endpoint + `"}`, sampled("0.1")},
		{"all", `tracing: {endpoint: "` + endpoint + `", ratio: 1}`, sampled("1")},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := find[corev1.ConfigMap](t, mustRender(t, test.values), "ConfigMap").Data
			maps.DeleteFunc(got, func(name, _ string) bool { return !strings.HasPrefix(name, "OTEL_") })
			if !maps.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestNewSettingsAreNewPods(t *testing.T) {
	checksum := func(values string) string {
		deployment := find[appsv1.Deployment](t, mustRender(t, values), "Deployment")
		return deployment.Spec.Template.Annotations["checksum/config"]
	}
	if a, b := checksum(`config: {request-timeout: 10s}`), checksum(`config: {request-timeout: 20s}`); a == b || a == "" {
		t.Errorf("the pods have the same checksum %q with other settings", a)
	}
}
