// Package deploy_test holds what stands in this folder, and in the Dockerfile,
// against the binary: its flags, its keys, its metrics, its build.
package deploy_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// The binary under test and the directory that it was built into, from TestMain.
const binaryName = "modgate"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "deploy")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, binaryName), "../cmd/modgate")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %v\n%s", build, err, out)
		return 1
	}
	// Where the tests find it; none of them is told otherwise.
	os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "MODGATE_") {
			os.Unsetenv(name)
		}
	}
	return m.Run()
}

// read returns a file of this folder.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// command runs a program and returns what it printed.
func command(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// tool skips the test if a program is not there. tools/setup.sh installs it.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s: make setup", name)
	}
	return path
}

// checkServe asks the binary whether `serve` would accept these arguments and
// variables, the example configuration standing where they look for it.
func checkServe(t *testing.T, env, args []string) string {
	t.Helper()
	if len(args) == 0 || args[0] != "serve" {
		t.Fatalf("arguments are %q, want serve first", args)
	}
	args = append([]string{"config"}, args[1:]...)
	for i, arg := range args {
		args[i] = strings.Replace(arg, "--config=/etc/modgate/modgate.yaml", "--config=modgate.yaml", 1)
	}
	if !slices.ContainsFunc(args, func(s string) bool { return strings.HasPrefix(s, "--config=") }) {
		args = append(args, "--config=off")
	}
	if out, err := command(t, env, binaryName, append(slices.Clone(args), "--check")...); err != nil {
		t.Errorf("modgate %q with %q: %v\n%s", args, env, err, out)
	}
	out, err := command(t, env, binaryName, args...)
	if err != nil {
		t.Fatalf("modgate %q with %q: %v\n%s", args, env, err, out)
	}
	return out
}

// effective is the output of modgate config as keys with their values.
func effective(t *testing.T, text string) map[string]string {
	t.Helper()
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	flat := map[string]string{}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		if m, ok := v.(map[string]any); ok {
			for k, v := range m {
				walk(prefix+"."+k, v)
			}
			return
		}
		flat[strings.TrimPrefix(prefix, ".")] = fmt.Sprint(v)
	}
	walk("", tree)
	return flat
}

// The example is the manual in one file: it names every key, and its values
// are the defaults, so that nobody inherits a setting by copying it.
func TestExampleConfiguration(t *testing.T) {
	want := effective(t, checkServe(t, nil, []string{"serve", "--cache-dir=/var/cache/modgate"}))
	got := effective(t, checkServe(t, nil, []string{"serve", "--config=/etc/modgate/modgate.yaml"}))
	written := effective(t, read(t, "modgate.yaml"))
	if len(want) < 10 {
		t.Fatalf("modgate config prints only %d keys", len(want))
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %q with the example, %q by default", key, got[key], value)
		}
		if _, ok := written[key]; !ok {
			t.Errorf("%s is not in the example", key)
		}
	}
}
