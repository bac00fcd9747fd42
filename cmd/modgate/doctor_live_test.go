package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/upstream"
	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// liveFindings returns the codes of what /-/status shows.
func (i *instance) liveFindings(t *testing.T) []string {
	t.Helper()
	_, body := get(t, i.admin+"/-/status")
	var st struct {
		Findings []struct{ Code, Title, Seen string }
	}
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	codes := []string{}
	for _, f := range st.Findings {
		if f.Title == "" || strings.ContainsAny(f.Title, "{}") || strings.Contains(body, "s3cret") {
			t.Errorf("%+v", f)
		}
		if f.Code != string(doctor.DiskLow) { // the disk of this machine may be low
			codes = append(codes, f.Code)
		}
	}
	return codes
}

// speaks answers each connection by f.
func speaks(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); f(conn) }()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// refusing is an HTTP proxy that says no to CONNECT.
func refusing(t *testing.T, status int) string {
	t.Helper()
	return speaks(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, http.StatusText(status))
		}
	})
}

// TestTroubleHasItsCode breaks the way to the upstream in one way each: the
// client, the log and /-/status name the cause by its code.
func TestTroubleHasItsCode(t *testing.T) {
	serve := func(h http.HandlerFunc) func(*testing.T) string {
		return func(t *testing.T) string {
			s := httptest.NewServer(h)
			t.Cleanup(s.Close)
			return s.URL
		}
	}
	secure := func(l tlstest.Leaf, known bool) func(*testing.T) string {
		return func(t *testing.T) string {
			pki := tlstest.New(t)
			s := httptest.NewUnstartedServer(http.NotFoundHandler())
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.TLS = &tls.Config{Certificates: []tls.Certificate{pki.Issue(l)}}
			s.StartTLS()
			t.Cleanup(s.Close)
			_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
			root := ""
			if known {
				root = pki.WriteRoot(t.TempDir())
			}
			return "https://me:s3cret@localhost:" + port + " --tls-trust=" + root
		}
	}
	status := func(code int) func(*testing.T) string {
		return serve(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "go away\x1b[31m", code) })
	}
	through := func(address func(*testing.T) string) func(*testing.T) string {
		return func(t *testing.T) string { return "https://mirror.example HTTPS_PROXY=http://me:s3cret@" + address(t) }
	}
	for _, test := range []struct {
		code  string
		start func(*testing.T) string // an upstream, then flags and variables
	}{
		{"tls-unknown-authority", secure(tlstest.Leaf{}, false)},
		{"tls-self-signed", secure(tlstest.Leaf{SelfSigned: true}, false)},
		{"tls-expired", secure(tlstest.Leaf{From: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(-25 * time.Hour)}, true)},
		{"tls-not-yet-valid", secure(tlstest.Leaf{From: time.Now().Add(25 * time.Hour), Until: time.Now().Add(48 * time.Hour)}, true)},
		{"tls-wrong-name", secure(tlstest.Leaf{Hosts: []string{"other.example"}}, true)},
		{"tls-no-names", secure(tlstest.Leaf{NoNames: true}, true)},
		{"tls-key-usage", secure(tlstest.Leaf{Client: true}, true)},
		{"tls-plain-http", func(t *testing.T) string { return "https" + strings.TrimPrefix(status(404)(t), "http") }},
		{"tcp-refused", func(*testing.T) string { return "https://127.0.0.1:1" }},
		{"http-cut", func(t *testing.T) string {
			return "http://" + speaks(t, func(conn net.Conn) { http.ReadRequest(bufio.NewReader(conn)) })
		}},
		{"http-server-error", status(500)},
		{"http-unauthorized", status(401)},
		{"http-too-many", status(429)},
		{"http-status", status(418)},
		{"proxy-bad-answer", serve(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html><title>Sign in</title></html>") })},
		{"http-proxy-auth", through(func(t *testing.T) string { return refusing(t, 407) })},
		{"http-proxy-denied", through(func(t *testing.T) string { return refusing(t, 403) })},
		{"http-proxy-down", through(func(*testing.T) string { return "127.0.0.1:1" })},
	} {
		t.Run(test.code, func(t *testing.T) {
			t.Parallel()
			args, environ := []string{"--sumdb=off"}, []string{"SSL_CERT_DIR=/nonexistent"}
			for n, word := range strings.Fields(test.start(t)) {
				switch {
				case n == 0:
					args = append(args, "--upstream="+word)
				case strings.HasPrefix(word, "--"):
					args = append(args, word)
				default:
					environ = append(environ, word)
				}
			}
			i, err := launch(environ, t.TempDir(), args...)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := i.stop(); err != nil {
					t.Error(err)
				}
			}()
			if codes := i.liveFindings(t); len(codes) > 0 {
				t.Errorf("before anything was asked: %q", codes)
			}
			path := "/example.com/" + strings.Repeat("long/", 30) + "m/@v/v1.0.0.zip"
			for range 4 { // the last ones find an open circuit
				code, text := get(t, i.url+path)
				checkTrouble(t, code, text, test.code)
			}
			if codes := i.liveFindings(t); !slices.Equal(codes, []string{test.code}) {
				t.Errorf("/-/status shows %q", codes)
			}
			until(t, "the log is written", func() bool { return strings.Count(i.log(), "msg=request") == 4 })
			if n := strings.Count(i.log(), " code="+test.code+" error="); n != 4 || strings.Contains(i.log(), "s3cret") {
				t.Errorf("%d lines have the code:\n%s", n, i.log())
			}
		})
	}
}

// checkTrouble holds a 5xx against what the go command shows (its web/api.go)
// and looks for the code in it.
func checkTrouble(t *testing.T, status int, text, code string) {
	t.Helper()
	if status < 502 || status > 504 || !strings.Contains(text, "\ncause: "+code+" (on the server: modgate doctor --server)\nrequest ") {
		t.Errorf("%d %q", status, text)
	}
	odd := strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') })
	if len(text) > 648 || strings.Count(text, "\n") > 8 || odd || strings.Contains(text, "s3cret") || strings.Contains(text, "go away") {
		t.Errorf("the go command does not show that, or it holds what it should not: %q", text)
	}
}

// Whoever removes the cache directory under a server must be told, although
// clients still get what they ask for.
func TestStatusShowsThatTheCacheIsGone(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "cache")
	i := w.start(t, "--cache-dir="+dir)
	if codes := i.liveFindings(t); len(codes) > 0 {
		t.Fatalf("a healthy server shows %q", codes)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if codes := i.liveFindings(t); !slices.Equal(codes, []string{"server-directory-lost"}) {
		t.Errorf("%q", codes)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if codes := i.liveFindings(t); !slices.Equal(codes, []string{"server-directory-lost"}) {
		t.Errorf("made anew by somebody else: %q", codes)
	}
}

// What only the server sees is a finding as well: a file that it cannot use, a
// client that refuses its certificate, a cache that cannot be written.
func TestStatusShowsFindings(t *testing.T) {
	pki, dir, w := tlstest.New(t), t.TempDir(), newWorld(t)
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	rules := filepath.Join(dir, "policy.yaml")
	write := func(text string) {
		if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("default: allow\n")
	i := w.start(t, "--tls-mode=files", "--tls-files="+cert+":"+key, "--policy-file="+rules)
	if codes := i.liveFindings(t); len(codes) > 0 {
		t.Fatalf("a healthy server shows %q", codes)
	}
	stranger := tlsClient(t, tlstest.New(t).Pool())
	if _, err := stranger.Get(https(i.url)); err == nil {
		t.Fatal("a stranger accepts the certificate")
	}
	old := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pki.Pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}}}
	if _, err := old.Get(https(i.url)); err == nil {
		t.Fatal("TLS 1.1 is spoken")
	}
	write("rules: [oops\n")
	i.cmd.Process.Signal(syscall.SIGHUP)
	until(t, "findings are there", func() bool { return len(i.liveFindings(t)) == 2 })
	codes := i.liveFindings(t)
	slices.Sort(codes)
	if !slices.Equal(codes, []string{"server-reload", "tls-client-refuses"}) {
		t.Errorf("%q", codes)
	}
	told, report := examineMachine(t, []string{"--admin=" + i.admin}, append(w.flags(), "--tls-mode=files", "--tls-files="+cert+":"+key)...)
	if !slices.Contains(told, "server-reload") || !slices.Contains(told, "tls-client-refuses") {
		t.Errorf("doctor --server shows %q of what the server has found\n%s", told, report)
	}
	for _, want := range []string{"cause=refused code=tls-client-refuses", "cause=version code=tls-old-version"} {
		i.await(t, want)
	}
}

// A trouble of a private module is told by its path, until it has been fetched;
// what others meet stays.
func TestFetchedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var troubles seenTroubles
		refused := func(m string) {
			err := &upstream.DirectError{Reason: "unreachable", What: m + "@v1.0.0", Err: errors.New("127.0.0.1 is refused")}
			troubles.observe(&access.Record{Module: m, Outcome: access.Trouble, Err: err, Code: string(codeOf(err))})
			time.Sleep(time.Second) // of the bubble: the next is later
		}
		titles := func() string {
			var all []string
			live := doctor.Live{Troubles: troubles.seen()}
			for _, f := range live.Findings(doctor.Config{OS: "linux", Now: time.Now}) {
				all = append(all, string(f.Code)+" "+f.Title)
			}
			return strings.Join(all, "; ")
		}
		want := func(when, module string) {
			t.Helper()
			text := ""
			if module != "" {
				text = "server-private The private module " + module + " cannot be had from its repository"
			}
			if got := titles(); got != text {
				t.Errorf("%s: %q, want %q", when, got, text)
			}
		}
		refused("git.corp/a")
		refused("git.corp/b")
		want("two are refused", "git.corp/b")
		troubles.observe(&access.Record{Module: "git.corp/b", Outcome: access.Hit})
		want("one is in the cache", "git.corp/b")
		troubles.observe(&access.Record{Module: "git.corp/b", Outcome: access.Miss})
		want("one is fetched", "git.corp/a")
		troubles.observe(&access.Record{Module: "git.corp/a", Outcome: access.Follow})
		want("both are fetched", "")
		for n := range 2 * maxPrivateTroubles {
			refused(fmt.Sprintf("git.corp/%d", n))
		}
		if n := len(troubles.all); n != maxPrivateTroubles+1 {
			t.Errorf("%d troubles are remembered", n)
		}
	})
}

// busyError is an error like that of package proxy for a trouble that passes.
type busyError struct{}

func (busyError) Error() string { return "too many wait" }
func (busyError) Cause() string { return proxy.CauseBusy }

func TestCodes(t *testing.T) {
	for _, test := range []struct {
		err  error
		want doctor.Code
	}{
		{&net.DNSError{IsNotFound: true}, doctor.DNSNotFound},
		{&net.DNSError{IsTimeout: true}, doctor.DNSSilent},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "server misbehaving"}}, doctor.DNSFailure},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, doctor.TCPFiltered},
		{os.ErrDeadlineExceeded, doctor.AnswerSilent},
		{&upstream.DirectError{Reason: "unauthorized"}, doctor.PrivateFails},
		{&upstream.DirectError{Reason: "unreachable", Err: &net.DNSError{IsNotFound: true}}, doctor.DNSNotFound},
		{&fs.PathError{Op: "write", Err: errors.New("input/output error")}, doctor.CacheBroken},
		{&fs.PathError{Op: "write", Err: fs.ErrPermission}, doctor.DirUnwritable},
		{fmt.Errorf("%w: %w", sumdb.ErrForged, os.ErrDeadlineExceeded), doctor.SumdbForged},
		{sumdb.ErrUntrusted, doctor.SumdbUntrusted},
		{errors.New("something"), doctor.ServerTrouble},
		{busyError{}, doctor.ServerBusy},
		{fmt.Errorf("%w: %w", sumdb.ErrClosed, context.Canceled), doctor.ServerBusy},
		{fmt.Errorf("asked: %w", os.ErrDeadlineExceeded), doctor.AnswerSilent},
	} {
		if got := codeOf(fmt.Errorf("about: %w", test.err)); got != test.want {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
}
