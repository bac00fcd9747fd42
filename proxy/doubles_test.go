package proxy_test

import (
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
)

// Callers without a name who share an address are told apart by what a server in
// front says of them, by their programs, and by the connection where that tells.
func TestRefusalsBehindOneAddressAreNoPair(t *testing.T) {
	t.Parallel()
	type request struct {
		port   string
		major  int
		header http.Header
	}
	from := func(client string) http.Header { return http.Header{"X-Forwarded-For": {client}} }
	with := func(agent string) http.Header { return http.Header{"User-Agent": {agent}} }
	for _, test := range []struct {
		what     string
		requests []request
		refusals float64
	}{
		{"two connections over HTTP/2", []request{{"1", 2, nil}, {"2", 2, nil}}, 2},
		{"their pairs", []request{{"1", 2, nil}, {"2", 2, nil}, {"1", 2, nil}, {"2", 2, nil}}, 2},
		{"two connections over HTTP/1.1 are of one pair", []request{{"1", 1, nil}, {"2", 1, nil}}, 1},
		{"two clients of a server in front", []request{{"1", 1, from("10.0.0.1")}, {"2", 1, from("10.0.0.2")}}, 2},
		{"the pair of one", []request{{"1", 1, from("10.0.0.1")}, {"2", 1, from("10.0.0.1")}}, 1},
		{"two programs", []request{{"1", 1, with("Go-http-client/1.1")}, {"2", 1, with("renovate")}}, 2},
	} {
		w := newWorld(t, options{config: ruled(t, "", policy.Rule{Action: deny})}, versions(t, "example.com/m", "", "v1.0.0")...)
		for _, q := range test.requests {
			r := httptest.NewRequest("GET", "https://go.corp.example/example.com/m/@v/v1.0.0.zip", nil)
			r.RemoteAddr, r.ProtoMajor = "192.0.2.1:"+q.port, q.major
			maps.Copy(r.Header, q.header)
			rw := httptest.NewRecorder()
			access.Handler(w.server, access.Reports{}).ServeHTTP(rw, r)
			if rw.Code != 403 {
				t.Errorf("%s: %d", test.what, rw.Code)
			}
		}
		if n := w.counted("deny"); n != test.refusals {
			t.Errorf("%s: %v refusals counted, want %v", test.what, n, test.refusals)
		}
	}
}

// The go command asks twice for what is refused over TLS, in HTTP/2 and without,
// and that is one refusal.
func TestGoCommandIsRefusedOnce(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{true, false} {
		w := newWorld(t, options{config: ruled(t, "", policy.Rule{Action: deny})}, versions(t, "example.com/m", "", "v1.0.0")...)
		var asked atomic.Int64
		front := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, ".info") && r.ProtoAtLeast(2, 0) == http2 {
				asked.Add(1)
			}
			access.Handler(w.server, access.Reports{}).ServeHTTP(rw, r)
		}))
		front.EnableHTTP2 = http2
		front.StartTLS()
		defer front.Close()
		home := t.TempDir()
		trust := filepath.Join(home, "ca.pem")
		w.must(os.WriteFile(trust, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600))
		cmd := exec.Command("go", "mod", "download", "example.com/m@v1.0.0")
		cmd.Dir = home
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GOMODCACHE=" + home + "/mod", "GOFLAGS=-modcacherw", "SSL_CERT_FILE=" + trust,
			"GOPROXY=" + front.URL, "GONOSUMDB=*", "GOTOOLCHAIN=local"}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "blocked: example.com/m@v1.0.0 by rule r0") {
			t.Errorf("%v\n%s", err, out)
		}
		if n := w.counted("deny"); n != 1 || asked.Load() != 2 {
			t.Errorf("HTTP/2 %v: the .info was asked for %d times, %v refusals counted", http2, asked.Load(), n)
		}
	}
}
