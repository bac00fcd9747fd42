package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
)

// sendRaw sends bytes over a connection of their own and returns the answer,
// nil if the connection was closed without one.
func sendRaw(t *testing.T, i *instance, method, target string, headers ...string) (*http.Response, []byte) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(i.url, "http://"), 10*time.Second)
	if err != nil {
		t.Fatalf("%s %.100q: the server is gone: %v\n%s", method, target, err, i.log())
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	head := method + " " + target + " HTTP/1.1\r\nHost: modgate.example\r\nConnection: close\r\n"
	for _, h := range headers {
		head += h + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		return nil, nil
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return nil, nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s %.100q: %v", method, target, err)
	}
	return resp, body
}

// hostileTargets are request targets, byte by byte. secret is a file beside the
// cache directory.
func hostileTargets(secret string) []string {
	targets := []string{
		"/../../../../../../etc/passwd", "/..", "/.", "//", "///", "/./example.com/greet/@v/list/.",
		"/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/%2E%2E%2Fetc%2Fpasswd", "/..%2f..%2f..%2fetc/passwd", "/%252e%252e/etc/passwd",
		"/example.com/greet/@v/../../../../" + secret, "/example.com/greet/@v/" + secret, "/" + secret + "/@v/list",
		"/..%5c..%5c" + secret, "/example.com/..;/" + secret, "/%c0%ae%c0%ae/" + secret, "/%e0%80%ae/" + secret,
		"/.modgate/layout", "/.modgate/names.lock", "/.modgate/@v/list", "/example.com/greet/@v/.v1.0.0.mod.attr",
		"/example.com/greet%00/@v/list", "/example.com/greet/@v/v1.0.0.mod%00.zip", "/\x00", "/example.com/\x00greet/@v/list",
		"/%", "/%4", "/%zz", "/example.com/greet/@v/%", "/\xff\xfe/@v/list", "/\x1b[31m/@v/list", "/%1b%5b31m/@v/list",
		"/" + strings.Repeat("a", 10<<10), "/" + strings.Repeat("a/", 5<<10) + "@v/list", "/" + strings.Repeat("%2e%2e/", 1<<10),
		"/example.com/greet/@v/v1.0.0-" + strings.Repeat("9", 8<<10) + ".mod",
		"http://169.254.169.254/latest/meta-data", "http://example.org/example.com/greet/@v/../../x", "https://x:y@example.org/", "file:///etc/passwd",
		"*", "example.com:443", "/sumdb/../../" + secret, "/sumdb/sum.example.com/%2e%2e/" + secret, "/sumdb/169.254.169.254/latest",
		"/sumdb/sum.example.com/tile/8/0/../../../../" + secret, "/sumdb/sum.example.com/lookup/" + strings.Repeat("x", 10<<10) + "@v1.0.0",
		"/sumdb/sum.example.com/lookup/" + strings.Repeat("x", 4<<10) + ".com/x@v1.0.0", "/sumdb/sum.example.com/lookup/example.com%2fgreet@v1.0.0",
		"/sumdb//sum.example.com/supported", "/sumdb/sum%2eexample.com/supported", "/sumdb/sum.example.com//latest",
		"/example.com/greet/@v/v1.0.0.mod?x=../../" + secret + "/@v/list#", "/example.com/greet/@v/list/../../../../" + secret,
		"/@v/list", "/@latest", "/example.com/@v/@v/list", "/example.com/greet/@v/list/@latest", "/!!/@v/list", "/example.com/!/@v/list",
		"/-/status", "/-/pprof/heap", "/debug/pprof/", "/metrics",
	}
	for c := range 256 { // every byte where it could matter
		targets = append(targets, fmt.Sprintf("/example.com/gr%%%02xeet/@v/list", c), "/example.com/gr"+string([]byte{byte(c)})+"eet/@v/.list")
	}
	return targets
}

// TestHostileTargets sends what no go command sends. All of it is refused in
// plain text, without asking anybody and without a look at other files.
func TestHostileTargets(t *testing.T) {
	t.Parallel()
	const canary = "CANARY-OF-ANOTHER-FILE"
	w := newWorld(t)
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "secret"), []byte(canary), 0o644); err != nil {
		t.Fatal(err)
	}
	i, _ := w.startIn(t, filepath.Join(base, "cache"))
	w.upstream.Forget()
	for _, target := range hostileTargets("secret") {
		for _, method := range []string{"GET", "HEAD"} {
			resp, body := sendRaw(t, i, method, target)
			switch {
			case resp == nil:
				t.Errorf("%s %.100q: no answer", method, target)
				continue
			case bytes.Contains(body, []byte(canary)), bytes.Contains(body, []byte("root:")):
				t.Errorf("%s %.100q: FOREIGN BYTES: %.200q", method, target, body)
			case resp.StatusCode >= 400 && resp.StatusCode < 500:
			case strings.Contains(target, "%65"), target == "/example.com/greet/@v/v1.0.0.mod?x=../../secret/@v/list#":
				continue // a way to write an honest path
			case target == "https://x:y@example.org/", target == "example.com:443":
				continue // an odd way to ask for the front page
			default:
				t.Errorf("%s %.100q: %s", method, target, resp.Status)
			}
			if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") || len(body) > 648 || !printableText(body) {
				t.Errorf("%s %.100q: %s %q", method, target, ct, body)
			}
		}
	}
	for _, r := range w.upstream.Requests() {
		if !regexp.MustCompile(`^/(example\.com/gr.{0,2}eet/@v/list|example\.com/greet/@v/v1\.0\.0\.mod|sumdb/sum\.example\.com/[a-z0-9/.@]{1,60})$`).MatchString(r.Path) {
			t.Errorf("the upstream was asked for %.200q", r.Path)
		}
	}
	if code, _ := get(t, i.url+"/healthz"); code != http.StatusOK || strings.Contains(i.log(), "panic") {
		t.Errorf("%d\n%s", code, i.log())
	}
}

func printableText(b []byte) bool {
	for _, c := range b {
		if c != '\n' && (c < ' ' || c > '~') {
			return false
		}
	}
	return true
}

// fields reads a log line of key=value pairs as log/slog writes them.
func fields(line string) (map[string]string, error) {
	pairs := map[string]string{}
	for rest := strings.TrimSuffix(line, "\n"); rest != ""; rest = strings.TrimPrefix(rest, " ") {
		key, after, ok := strings.Cut(rest, "=")
		if !ok || key == "" || strings.ContainsAny(key, ` "`) {
			return nil, fmt.Errorf("no key in %.100q", rest)
		}
		value, err := strconv.QuotedPrefix(after)
		if err != nil {
			value, _, _ = strings.Cut(after, " ")
			pairs[key] = value
		} else if pairs[key], err = strconv.Unquote(value); err != nil {
			return nil, err
		}
		if strings.HasPrefix(after, `"`) == (err != nil) && after != "" {
			return nil, fmt.Errorf("bad value in %.100q", rest)
		}
		rest = after[len(value):]
		if rest != "" && rest[0] != ' ' {
			return nil, fmt.Errorf("garbage behind a value: %.100q", rest)
		}
	}
	return pairs, nil
}

// TestLogLines tries to write lines of its own into the log.
func TestLogLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, stop := w.startIn(t, t.TempDir())
	targets := []string{
		"/a%0d%0atime=2026-01-01%20level=ERROR%20msg=forged", "/a%0amsg=forged/@v/list", `/a"msg="forged`, "/a%22%20msg=%22forged", "/a%1b[2Jmsg=forged",
		"/a\xe2\x80\xa8msg=forged", "/a%e2%80%a8msg=forged", "/a%c2%85msg=forged", "/%5cn%5c%22msg=forged", "/" + strings.Repeat("forged", 2000), "/forged=forged%20forged=%3d",
		"/example.com/forged%0a/@v/v1.0.0.mod", "/sumdb/forged%0amsg=forged/supported", "/example.com/greet/@v/forged%0a.info",
	}
	for _, target := range targets {
		sendRaw(t, i, "GET", target, "User-Agent: forged\" msg=forged\t", "X-Request-Id: \"\tforged\xc2\x85", "X-Forwarded-For: forged msg=forged", "Referer: forged")
	}
	if resp, _ := sendRaw(t, i, "GET", "/a", "User-Agent: \x1b[31mforged"); resp == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a control character in a header: %v", resp)
	}
	w.upstream.SetFault("/example.com/greet/@v/v1.0.0.mod", proxytest.Status(500, "oops\r\ntime=2026 level=ERROR msg=forged\x1b[31m\" msg=forged"))
	i.wantNoBody(t, "/example.com/greet/@v/v1.0.0.mod")
	stop()
	requests := 0
	for line := range strings.Lines(i.log()) {
		if !strings.HasPrefix(line, "time=") {
			continue // what is printed for a person at the start
		}
		pairs, err := fields(line)
		if err != nil || pairs["msg"] == "forged" || pairs["level"] == "" {
			t.Errorf("%v: %q", err, line)
		}
		if len(line) > 8<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
		if !printableText([]byte(strings.NewReplacer("µs", "us", "…", "...").Replace(line))) {
			t.Errorf("a terminal may act upon %q", line)
		}
		if pairs["msg"] == "request" {
			requests++
		}
	}
	if lines := strings.Count(i.log(), "\ntime="); lines < requests || strings.Contains(i.log(), "\nforged") {
		t.Error(i.log())
	}
	if requests != len(targets)+1 {
		t.Errorf("%d lines for %d requests:\n%s", requests, len(targets)+1, i.log())
	}
}

// TestCredentialsStayInside gives the server a password for its upstream and
// looks for it wherever it speaks.
func TestCredentialsStayInside(t *testing.T) {
	t.Parallel()
	const password = "CANARY-p4ssw0rd"
	w := newWorld(t)
	upstream := strings.Replace(w.upstream.URL, "http://", "http://robot:"+password+"@", 1)
	environ := []string{"MODGATE_UPSTREAM=" + upstream + "/base|" + upstream, "MODGATE_SUMDB=" + w.log.Key(), "MODGATE_LOG_LEVEL=debug"}
	i, err := launch(environ, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for n, fault := range []proxytest.Fault{nil, proxytest.Status(401, "who?"), proxytest.Status(500, "oops"), proxytest.HTML(), proxytest.Reset(0), proxytest.Redirect(302, "http://127.0.0.1:1/")} {
		w.upstream.SetFault("*", fault)
		for _, path := range []string{"/example.com/greet/@v/list", "/example.com/greet/@latest", fmt.Sprintf("/example.com/greet/@v/v1.%d.0.mod", n), "/sumdb/sum.example.com/latest", "/", fmt.Sprintf("/example.com/none%d/@v/v1.0.0.zip", n)} {
			resp, err := http.Get(i.url + path)
			if err != nil {
				t.Error(err)
				continue
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			said[fmt.Sprint("the answer to ", path, n)] = fmt.Sprint(resp.Header, string(body))
		}
	}
	sent := false
	for _, r := range w.upstream.Requests() {
		_, pass, ok := (&http.Request{Header: r.Header}).BasicAuth()
		sent = sent || ok && pass == password
	}
	if !sent {
		t.Error("the upstream never got the password: this tests nothing")
	}
	for _, path := range []string{"/metrics", "/-/status", "/-/pprof/cmdline"} {
		_, said[path] = get(t, i.admin+path)
	}
	if err := i.stop(); err != nil {
		t.Error(err)
	}
	said["the log"] = i.log()
	for _, args := range [][]string{{"config"}, {"config", "--check"}, {"env"}, {"serve", "--listen=not an address"}, {"serve", "--upstream=" + upstream + "/%zz"}} {
		c := exec.Command("modgate", args...)
		c.Env = append([]string{"HOME=/nonexistent", "MODGATE_CONFIG=off", "MODGATE_CACHE_DIR=" + i.dir}, environ...)
		out, _ := c.CombinedOutput()
		said["modgate "+args[0]] = string(out)
	}
	for where, text := range said {
		if strings.Contains(text, password) || strings.Contains(text, "robot") {
			t.Errorf("%s: %s", where, text)
		}
	}
	for _, file := range filesBelow(t, i.dir) {
		if data, err := os.ReadFile(file); err == nil && bytes.Contains(data, []byte(password)) {
			t.Errorf("%s in the cache", file)
		}
	}
}

func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return files
}

// TestSeriesStayFew sends thousands of different requests and counts the
// series before and after.
func TestSeriesStayFew(t *testing.T) {
	t.Parallel()
	i := newWorld(t).start(t)
	series := func() int {
		_, text := get(t, i.admin+"/metrics")
		return len(regexp.MustCompile(`(?m)^modgate_`).FindAllString(text, -1))
	}
	before := series()
	requests := 2000
	if testing.Short() {
		requests = 200
	}
	for n := range requests {
		word := strconv.FormatUint(rand.Uint64(), 36)
		method := []string{"GET", "HEAD", "POST", "X" + strings.ToUpper(word), "get"}[n%5]
		path := []string{"/%s", "/example.com/%s/@v/list", "/example.com/greet/@v/%s.info", "/sumdb/%s/supported", "/example.com/%s/@v/v1.0.0.%[1]s"}[n/5%5]
		req, err := http.NewRequest(method, i.url+fmt.Sprintf(path, word), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = word + ".example"
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if after := series(); after != before {
		t.Errorf("%d series before, %d after %d requests", before, after, requests)
	}
}
