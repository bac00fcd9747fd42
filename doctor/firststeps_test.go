package doctor_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/doctor"
)

// No word in braces is left in what a running server says of itself, whatever is
// known of the trouble.
func TestLiveFillsEverything(t *testing.T) {
	for _, e := range doctor.Table() {
		live := doctor.Live{Troubles: []doctor.Trouble{{Code: e.Code, Err: errors.New("it fails"), Count: 1, Last: time.Now()}}}
		for _, f := range live.Findings(doctor.Config{OS: "linux", Now: time.Now, Root: t.TempDir()}) {
			if text := strings.Join(append(f.Mend, f.Title, f.Cause, f.Seen), "\n"); strings.ContainsAny(strings.ReplaceAll(text, "${{ secrets.TOKEN }}", ""), "{}") {
				t.Errorf("%s: %s", f.Code, text)
			}
		}
	}
}

// The host of a private module is in the text of git or ssh alone.
func TestLiveNamesTheHost(t *testing.T) {
	for _, text := range []string{
		"git ls-remote: fatal: unable to access 'https://git.corp/a/b/': Could not resolve host: git.corp",
		"ssh: Could not resolve hostname git.corp: Name or service not known",
		"dial tcp: lookup git.corp on 127.0.0.53:53: no such host",
	} {
		live := doctor.Live{Troubles: []doctor.Trouble{{Code: doctor.DNSNotFound, Module: "git.corp/a/b", Err: errors.New(text), Count: 1, Last: time.Now()}}}
		f := live.Findings(doctor.Config{OS: "linux", Now: time.Now, Root: t.TempDir()})
		if len(f) != 1 || !strings.Contains(f[0].Title, "name git.corp does") || !strings.Contains(strings.Join(f[0].Mend, "\n"), "getent hosts git.corp;") {
			t.Errorf("%s: %+v", text, f)
		}
	}
}

// The one thing to do first is what mends the trouble, and can be done.
func TestFirstRemedy(t *testing.T) {
	deny := func(out http.ResponseWriter, _ *http.Request) { http.Error(out, "who?", http.StatusUnauthorized) }
	for _, test := range []struct {
		name, want string
		start      func(w *world) string
	}{
		{"401 over http", "over http:// the go command sends no credentials", func(w *world) string { return w.plain(http.HandlerFunc(deny)) }},
		{"netrc without the port", "write \"machine localhost:", func(w *world) string {
			w.netrc("machine localhost login me password t0ken\n")
			return w.answers(deny)
		}},
		{"401", "/.netrc (mode 0600): machine localhost:", func(w *world) string { return w.answers(deny) }},
		{"a token that is not accepted", "change the line \"machine localhost:", func(w *world) string {
			url := w.answers(deny)
			w.netrc("machine " + strings.TrimPrefix(url, "https://") + " login me password t0ken\n")
			return url
		}},
		{"a password in the URL that is not accepted", "change user and password in the URL", func(w *world) string {
			return strings.Replace(w.answers(deny), "https://", "https://me:t0ken@", 1)
		}},
		{"TLS on the port of http://", "export GOPROXY=https://localhost:", func(w *world) string { return strings.Replace(w.secure(w.good()), "https:", "http:", 1) }},
		{"plain HTTP on the port of https://", "export GOPROXY=http://", func(w *world) string {
			return strings.Replace(w.plain(http.NotFoundHandler()), "http:", "https:", 1)
		}},
		{"admin listener", "admin listener", func(w *world) string {
			return w.plain(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					http.NotFound(out, r)
					return
				}
				out.Write([]byte("modgate: /metrics /healthz\n"))
			}))
		}},
		{"a path below the proxy", "take the path away, modgate is at: https://localhost:", func(w *world) string {
			return w.answers(func(out http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/go/") {
					http.Error(out, "not found: not a path of the GOPROXY protocol", http.StatusNotFound)
					return
				}
				w.mods.Config.Handler.ServeHTTP(out, r)
			}) + "/go"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.set("GOPROXY", test.start(w))
			r := examine(t, w.config)
			if len(r.Findings) == 0 || len(r.Findings[0].Mend) == 0 || !strings.Contains(r.Findings[0].Mend[0], test.want) {
				t.Errorf("%+v", r.Findings)
			}
		})
	}
	r := examine(t, machine(t, []string{"GOPROXY=https://go.corp", "SSL_CERT_FILE=/r.pem"}, "/r.pem", ""))
	for _, f := range r.Findings {
		if f.Code == doctor.CertFileEmpty && (len(f.Mend) != 1 || !strings.HasPrefix(f.Mend[0], "/r.pem is empty")) {
			t.Errorf("%+v", f)
		}
	}
}

// A Redis or a CA that is down is called that, and builds go on without a Redis.
func TestDownIsNamed(t *testing.T) {
	w, c := serverWorld(t)
	address := "127.0.0.1:" + closedPort
	c.Shared = []doctor.Shared{{Key: "cache.redis", Host: address, Server: "Redis, cache.redis.addr", URLs: []string{"redis://" + address}, Timeout: time.Second,
		Advice: func(error) string { return "start it" },
		Redis: func(ctx context.Context) (i doctor.RedisInfo, err error) {
			_, err = new(net.Dialer).DialContext(ctx, "tcp", address)
			return i, err
		}}}
	r := examineServer(t, c)
	if got := codes(r); strings.Join(got, " ") != "server-shared-down" || r.ExitStatus() != 1 || r.Findings[0].Mend[0] != "start it" || !strings.Contains(r.Findings[0].Title, "Redis, cache.redis.addr") {
		t.Errorf("%v, status %d, %+v", got, r.ExitStatus(), r.Findings)
	}
	_, c = serverWorld(t)
	c.ACME = w.acme()
	c.ACME.Directory = "https://" + address + "/directory"
	r = examineServer(t, c)
	if got := codes(r); strings.Join(got, " ") != "acme-ca-down" || !strings.Contains(r.Findings[0].Mend[0], "tls.ca") {
		t.Errorf("%v, %+v", got, r.Findings)
	}
}

func examineServer(t *testing.T, c *doctor.ServerConfig) *doctor.Report {
	t.Helper()
	d, err := doctor.NewServer(*c)
	if err != nil {
		t.Fatal(err)
	}
	return d.Examine(t.Context())
}
