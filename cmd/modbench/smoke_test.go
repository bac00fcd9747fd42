package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// With this variable set the test binary is a proxy with modgate's flags: a
// recorder, which is a cache of its kind.
const standIn = "MODBENCH_TEST_STANDIN"

func TestMain(m *testing.M) {
	if os.Getenv(standIn) != "" || len(os.Args) > 1 && os.Args[1] == bare {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := serveStandIn(ctx, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serveStandIn(ctx context.Context, args []string) error {
	if args[0] == bare {
		return run(ctx, args, os.Stdout, os.Stderr)
	}
	flags := map[string]string{}
	for _, a := range args {
		name, value, _ := strings.Cut(strings.TrimPrefix(a, "--"), "=")
		flags[name] = value
	}
	u, err := parseOrigin(flags["upstream"])
	if err != nil {
		return err
	}
	rec, err := newRecorder(u, flags["cache-dir"])
	if err != nil {
		return err
	}
	defer rec.Close()
	if cert, key, ok := strings.Cut(flags["tls-files"], ":"); ok {
		return serveTLS(ctx, flags["listen"], rec, cert, key)
	}
	l, err := listen(ctx, flags["listen"], rec)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return l.Close()
}

// world is an upstream with a small module graph and a checksum database.
type world struct {
	up       *proxytest.Server
	sumdb    string // GOSUMDB
	mod, sum string // files of the workload
}

func newWorld(t *testing.T) world {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the go command")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	log, err := sumdbtest.New("log.example")
	if err != nil {
		t.Fatal(err)
	}
	a := proxytest.Build(t, module.Version{Path: "a.example/a", Version: "v1.0.0"}, map[string][]byte{
		"go.mod": []byte("module a.example/a\n\ngo 1.21\n\nrequire b.example/Upper v1.2.0\n"),
		"a.go":   []byte("package a\n\nimport _ \"b.example/Upper\"\n"),
	})
	b := proxytest.Big(t, "b.example/Upper", "v1.2.0", 300<<10)
	mods := []*proxytest.Module{a, b}
	var sum strings.Builder
	for _, m := range mods {
		log.Add(m.Version, m.H1, m.ModH1)
		fmt.Fprintf(&sum, "%s %s %s\n%s %s/go.mod %s\n", m.Path, m.Version.Version, m.H1, m.Path, m.Version.Version, m.ModH1)
	}
	up := proxytest.New(t, mods...)
	up.SumDB(log.Name(), log)
	dir := t.TempDir()
	w := world{up: up, sumdb: log.Key(), mod: filepath.Join(dir, "go.mod"), sum: filepath.Join(dir, "go.sum")}
	write(t, w.mod, "module main.example\n\ngo 1.21\n\nrequire (\n\ta.example/a v1.0.0\n\tb.example/Upper v1.2.0\n)\n")
	write(t, w.sum, sum.String())
	return w
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRunMeasuresAnyProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{"run", "--proxy", w.up.URL, "--sumdb", w.sumdb, "--mod", w.mod, "--sum", w.sum,
		"--rounds=1", "--duration=50ms", "--load=builtin", fmt.Sprintf("--pid=%d", os.Getpid()), "--dir", t.TempDir(), "--scratch", t.TempDir()}, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	for _, want := range []string{"main.example: 2 .mod, 2 .zip", "first, complete go.sum", "again, complete go.sum",
		"again, no go.sum", ".mod hits", "zip hits, 307 KB", "VmHWM", "| disk | MiB | 0 |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("report lacks %q:\n%s", want, out.String())
		}
	}
	if w.up.Count("/sumdb/log.example/lookup/a.example/a@v1.0.0") == 0 {
		t.Error("the checksum database was not asked")
	}
}

func TestRunSaysWhatTheGoCommandSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.up.SetFault("/b.example/!upper/@v/v1.2.0.zip", proxytest.Status(http.StatusForbidden, "not for you"))
	err := run(t.Context(), []string{"run", "--proxy", w.up.URL, "--sumdb", w.sumdb, "--mod", w.mod, "--sum", w.sum, "--scratch", t.TempDir()}, &bytes.Buffer{}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "not for you") {
		t.Errorf("error %v", err)
	}
}

func TestClientNoticesAnIncompleteSum(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	load, err := loadWorkload(w.mod, w.sum)
	if err != nil {
		t.Fatal(err)
	}
	load.Sum = nil
	c := client{Go: "go", Dir: t.TempDir(), Load: load}
	if _, err := c.fetch(t.Context(), fetchOptions{Proxy: w.up.URL, SumDB: w.sumdb}); err == nil {
		t.Error("an empty go.sum passed for a complete one")
	}
	left, err := os.ReadDir(c.Dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestCompare runs every row that a stand-in for modgate can pass, and looks
// whether the report and the recording are what they should be.
func TestCompare(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	modgate := filepath.Join(work, "modgate")
	if err := os.WriteFile(modgate, fmt.Appendf(nil, "#!/bin/sh\n%s=1 exec %q \"$@\"\n", standIn, self), 0o755); err != nil {
		t.Fatal(err)
	}
	compare := func(only string) string {
		var out, progress bytes.Buffer
		err := run(t.Context(), []string{"compare", "--only", only, "--origin", w.up.URL, "--sumdb", w.sumdb,
			"--mod", w.mod, "--sum", w.sum, "--peers=", "--rounds=1", "--duration=1s", "--load=builtin", "--near-delay=1ms",
			"--work", work, "--scratch", t.TempDir(), "--modgate", modgate}, &out, &progress)
		if err != nil {
			t.Fatalf("%v\n%s", err, progress.String())
		}
		return out.String()
	}
	report := compare("cold-near,cold-far,cold-nosum,two-cold,ttfb,disk,warm,warm-nosum,warm-upstream,hits-mod,policy")
	for _, want := range []string{"modgate = 0 (≤ 0): pass", "modgate = 1 (≤ 1): pass", "| .mod hits | 1/s |", "2 different files in turn", "| hits with 1,000 rules on, and off | 1/s |"} {
		if !strings.Contains(report, want) {
			t.Errorf("report lacks %q:\n%s", want, report)
		}
	}
	report += compare("hits-mod-https1,hits-mod-https2")
	for _, want := range []string{"| .mod hits over HTTP/1.1 and TLS | 1/s |", "| .mod hits over HTTP/2 and TLS | 1/s |", "modgate / http.FileServer = ", "8 connections with 4 requests"} {
		if !strings.Contains(report, want) {
			t.Errorf("report lacks %q:\n%s", want, report)
		}
	}
	if strings.Contains(report, "did not finish") {
		t.Errorf("a row did not finish:\n%s", report)
	}
	if n := w.up.Count("/b.example/!upper/@v/v1.2.0.zip"); n != 1 {
		t.Errorf("the origin was asked %d times for a zip, want once for the recording", n)
	}
	w.up.Forget()
	compare("cold-near")
	if n := len(w.up.Requests()); n != 0 {
		t.Errorf("a repeat asked the origin %d times, first %v", n, w.up.Requests()[0])
	}
}

func TestComparisonsAreAlone(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	unlock, err := alone(work)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alone(work); err == nil {
		t.Error("two comparisons at once")
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if unlock, err = alone(work); err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestCompareReportsAllMistakesOfTheCommandLine(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{"compare", "--peers=atehns", "--rounds=0", "--only=colt", "--load=ab", "--mod=x"}, &bytes.Buffer{}, &bytes.Buffer{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"--peers", "--rounds", "--only", "--load", "--sum"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %s: %v", want, err)
		}
	}
}

func TestServerThatDoesNotStart(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("no shell")
	}
	_, err := command{Path: "/bin/sh", Args: []string{"-c", "echo why; exit 3"}, URL: "http://127.0.0.1:1", Dir: t.TempDir()}.start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("error %v does not show what the process said", err)
	}
}
