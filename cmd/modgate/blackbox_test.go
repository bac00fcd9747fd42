package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/modgate/modgate/proxy/proxytest"
)

// TestMetricNames holds the names, types and labels of all metrics against a
// list: alerts and dashboards of others depend on them. Every series that is
// there after a day must be there at the start.
func TestMetricNames(t *testing.T) {
	w := newWorld(t)
	rules := filepath.Join(t.TempDir(), "private.yaml")
	if err := os.WriteFile(rules, []byte("repositories: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Nobody is there, which is no reason to have other metrics.
	i := w.start(t, "--private=git.corp.example/*", "--direct-file="+rules, "--cache-redis-addr=127.0.0.1:1",
		"--cache-s3-bucket=none", "--cache-s3-endpoint=http://127.0.0.1:1", "--cache-s3-access-key=x", "--cache-s3-secret-key=x")
	tokens, _ := tokensFor(t, "dev")
	secure := w.start(t, "--tls-mode=internal", "--auth-file="+tokens)
	names := func() string {
		_, text := get(t, i.admin+"/metrics")
		_, more := get(t, secure.admin+"/metrics")
		text += more
		var lines []string
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (modgate_\S+ \S+)$`).FindAllStringSubmatch(text, -1) {
			lines = append(lines, m[1])
		}
		for _, m := range regexp.MustCompile(`(?m)^(modgate_\w+)\{([^}]*)\} `).FindAllStringSubmatch(text, -1) {
			labels := regexp.MustCompile(`(\w+)="[^"]*"`).ReplaceAllString(m[2], "$1")
			lines = append(lines, m[1]+"{"+labels+"}")
		}
		slices.Sort(lines)
		return strings.Join(slices.Compact(lines), "\n") + "\n"
	}
	start := names()
	for _, path := range []string{"/example.com/greet/@v/list", "/example.com/greet/@v/v1.0.0.zip", "/example.com/none/@v/v1.0.0.mod", "/evil%00", "/example.com/greet/@latest", "/sumdb/sum.example.com/lookup/example.com/greet@v1.0.0"} {
		get(t, i.url+path)
	}
	golden(t, filepath.Join("testdata", "metrics.golden"), names())
	if after := names(); after != start {
		t.Errorf("metrics appear with the requests; at the start:\n%s", start)
	}
	_, text := get(t, i.admin+"/metrics")
	if strings.Contains(text, "greet") || strings.Contains(text, "evil") {
		t.Error("a label holds what a client has written")
	}
}

// TestCacheStaysWithinItsSize fetches more than the cache may hold.
func TestCacheStaysWithinItsSize(t *testing.T) {
	w := newWorld(t)
	i := w.start(t, "--cache-max-size=4MiB", "--cache-memory=0")
	for _, version := range []string{"v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0", "v1.5.0"} {
		m := proxytest.Big(t, "example.com/big", version, 1<<20)
		w.upstream.Add(t, m)
		w.log.Add(m.Version, m.H1, m.ModH1)
		if code, body := get(t, i.url+proxytest.Path(t, m.Version, "zip")); code != 200 || body != string(m.Zip) {
			t.Fatalf("%s: %d, %d bytes", m.Version, code, len(body))
		}
	}
	until(t, "there is room again", func() bool {
		m := metrics(t, i)
		return m["modgate_cache_evictions_total"] > 0 && m["modgate_cache_bytes"] > 0 && m["modgate_cache_bytes"] <= 4<<20
	})
	out, err := modgate(t, "cache", "stat", "--json", "--cache-dir", i.dir)
	var r statReport
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || r.Total.Bytes > 4<<20 || r.Kinds["zip"].Objects == 0 {
		t.Errorf("%v: %s", err, out)
	}
}

// TestSendfile looks at the system calls: a stored zip must leave by sendfile,
// through every wrapper of the connection and of the response.
func TestSendfile(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("needs strace on Linux: make setup")
	}
	w := newWorld(t)
	big := proxytest.Big(t, "example.com/big", "v1.0.0", 3<<20)
	w.upstream.Add(t, big)
	w.log.Add(big.Version, big.H1, big.ModH1)
	i := w.start(t)
	zip := i.url + proxytest.Path(t, big.Version, "zip")
	if code, body := get(t, zip); code != 200 || body != string(big.Zip) {
		t.Fatalf("%d, %d bytes", code, len(body))
	}
	trace := filepath.Join(t.TempDir(), "trace")
	tracer := exec.Command(strace, "-f", "-qq", "-e", "trace=sendfile", "-o", trace, "-p", strconv.Itoa(i.cmd.Process.Pid))
	stderr, err := tracer.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := tracer.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan string, 1)
	go func() { text, _ := io.ReadAll(stderr); gone <- string(text) }()
	defer func() { tracer.Process.Signal(os.Interrupt); tracer.Wait() }()
	until(t, "strace sees sendfile", func() bool {
		select {
		case text := <-gone:
			t.Skipf("strace cannot trace: %s", text)
		default:
		}
		if code, body := get(t, zip); code != 200 || body != string(big.Zip) {
			t.Fatalf("%d, %d bytes", code, len(body))
		}
		calls, err := os.ReadFile(trace)
		return err == nil && strings.Contains(string(calls), "sendfile(")
	})
}

func TestAccessLog(t *testing.T) {
	w := newWorld(t)
	i := w.start(t)
	get(t, i.url+"/example.com/greet/@v/v1.0.0.mod")
	get(t, i.url+"/example.com/greet/@v/v1.0.0.mod")
	get(t, i.url+"/healthz")
	req, err := http.NewRequest("GET", i.url+"/example.com/greet/@v/v1.1.0.mod?token=s3cret", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("user", "s3cret")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	until(t, "the log is written", func() bool { return strings.Count(i.log(), "msg=request") == 3 })
	for _, want := range []string{
		`kind=mod module=example.com/greet version=v1.0.0 outcome=miss status=200`,
		`kind=mod module=example.com/greet version=v1.0.0 outcome=hit status=200`,
	} {
		if !strings.Contains(i.log(), want) {
			t.Errorf("no line with %q:\n%s", want, i.log())
		}
	}
	if strings.Contains(i.log(), "s3cret") || strings.Contains(i.log(), "healthz") {
		t.Errorf("the log holds what it should not:\n%s", i.log())
	}
}
