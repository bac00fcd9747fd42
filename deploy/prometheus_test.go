package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/modgate/modgate/internal/access"
)

func TestPromtool(t *testing.T) {
	promtool := tool(t, "promtool")
	for _, args := range [][]string{
		{"check", "config", "prometheus.yml"},
		{"check", "rules", "alerts.yml"},
		{"test", "rules", "alerts_test.yml"},
	} {
		if out, err := command(t, nil, promtool, args...); err != nil || strings.Contains(out, "FAILED") {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
}

// rule is an alert as alerts.yml has it.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alerts(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.UnmarshalWithOptions([]byte(read(t, "alerts.yml")), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// An alert on a metric that the binary does not have never fires.
func TestAlertsUseMetricsThatExist(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("..", "cmd", binaryName, "testdata", "metrics.golden"))
	if err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`\bmodgate_[a-z0-9_]+`)
	exist := metric.FindAllString(string(golden), -1)
	for _, r := range alerts(t) {
		for _, name := range metric.FindAllString(r.Expr, -1) {
			if !slices.Contains(exist, name) {
				t.Errorf("%s: there is no metric %s", r.Alert, name)
			}
		}
		for _, m := range regexp.MustCompile(`outcome="([^"]*)"`).FindAllStringSubmatch(r.Expr, -1) {
			if !slices.Contains(access.Outcomes(), m[1]) {
				t.Errorf("%s: there is no outcome %s", r.Alert, m[1])
			}
		}
	}
}

// Each alert says what it means, where to read on, and is tested both ways.
func TestAlertsAreComplete(t *testing.T) {
	tests := read(t, "alerts_test.yml")
	for _, r := range alerts(t) {
		for _, key := range []string{"summary", "description", "runbook"} {
			if r.Annotations[key] == "" {
				t.Errorf("%s has no %s", r.Alert, key)
			}
		}
		if s := r.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s has the severity %q", r.Alert, s)
		}
		file, anchor, _ := strings.Cut(r.Annotations["runbook"], "#")
		if !slices.Contains(anchors(read(t, filepath.Join("..", file))), anchor) {
			t.Errorf("%s: %s has no section #%s", r.Alert, file, anchor)
		}
		if !strings.Contains(tests, ", alertname: "+r.Alert+"}") {
			t.Errorf("%s is not tested on a healthy node", r.Alert)
		}
		if !strings.Contains(tests, "alertname: "+r.Alert+"\n        exp_alerts:") {
			t.Errorf("%s is not tested to fire", r.Alert)
		}
	}
}

// anchors are the headings of a Markdown text as GitHub names them.
func anchors(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if heading := strings.TrimLeft(line, "#"); heading != line {
			heading = strings.ToLower(strings.TrimSpace(heading))
			heading = regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(heading, "")
			all = append(all, strings.ReplaceAll(heading, " ", "-"))
		}
	}
	return all
}

// The scrape configuration asks where the example configuration listens.
func TestScrapeTarget(t *testing.T) {
	var file struct {
		ScrapeConfigs []struct {
			StaticConfigs []struct {
				Targets []string `yaml:"targets"`
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "prometheus.yml")), &file); err != nil {
		t.Fatal(err)
	}
	want := effective(t, read(t, "modgate.yaml"))["admin.listen"]
	if got := file.ScrapeConfigs[0].StaticConfigs[0].Targets; !slices.Equal(got, []string{want}) {
		t.Errorf("targets are %q, admin.listen is %s", got, want)
	}
}
