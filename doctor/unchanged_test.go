package doctor_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// state says what is below some directories: names, modes, times of change, and
// contents. Directories are among it: who makes a file and removes it again has
// changed them.
func state(t *testing.T, dirs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, "%s %v %d", name, info.Mode(), info.ModTime().UnixNano())
			if info.Mode().IsRegular() {
				data, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				fmt.Fprintf(&b, " %x", sha256.Sum256(data))
			}
			b.WriteByte('\n')
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// filesIn leaves the directories out of a state: what was made there is taken back.
func filesIn(state string) string {
	var b strings.Builder
	for line := range strings.Lines(state) {
		if !strings.Contains(line, " d") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// watcher remembers what is sent to a CA.
type watcher struct {
	mu   sync.Mutex // guards sent
	sent []string   // method, path and, of a signed request, what it says
}

// watch puts one in front of the CA. The server does not run yet.
func (a *acmeWorld) watch() *watcher {
	a.t.Helper()
	u, err := url.Parse(a.ca.Directory)
	a.check(err)
	w := new(watcher)
	through := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: u.Scheme, Host: u.Host})
			p.Out.Host = p.In.Host // what is signed names it
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pki.Pool()}, DisableKeepAlives: true},
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var signed struct{ Payload string }
		json.Unmarshal(body, &signed)
		says, _ := base64.RawURLEncoding.DecodeString(signed.Payload)
		w.mu.Lock()
		w.sent = append(w.sent, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(says)))
		w.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		through.ServeHTTP(out, r)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{a.pki.Issue(tlstest.Leaf{})}}
	s.StartTLS()
	a.t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	a.directory(s.URL + u.Path)
	a.watched = true
	return w
}

// again forgets what was sent.
func (w *watcher) again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = nil
}

// changedNothing holds what was sent against what only asks: GET, HEAD, and of
// what is signed the questions: a body that is empty (RFC 8555, section 6.3), and
// for an account only if there is one (7.3.1).
func (w *watcher) changedNothing(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := false
	for _, line := range w.sent {
		method, rest, _ := strings.Cut(line, " ")
		_, says, _ := strings.Cut(rest, " ")
		asked = asked || method == http.MethodPost
		if method != http.MethodGet && method != http.MethodHead && says != "" && !strings.Contains(says, `"onlyReturnExisting":true`) {
			t.Errorf("the CA was sent %s", line)
		}
	}
	if !asked {
		t.Errorf("the CA was not asked for the account: %q", w.sent)
	}
}
