package deploy_test

import (
	"encoding/json"
	"os"
	"testing"
)

func TestPrometheusConfiguration(t *testing.T) {
	run(t, "promtool", "check", "config", "--syntax-only", "compose/prometheus.yml")
}

func TestPrometheusRules(t *testing.T) {
	run(t, "promtool", "check", "rules", "prometheus/rules.yaml")
}

func TestDashboards(t *testing.T) {
	for _, file := range glob(t, "grafana/*.json") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			UID    string
			Title  string
			Panels []any
		}
		if err := json.Unmarshal(text, &dashboard); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if dashboard.UID == "" || dashboard.Title == "" || len(dashboard.Panels) == 0 {
			t.Errorf("%s: a dashboard has a uid, which links keep, a title and panels", file)
		}
	}
}
