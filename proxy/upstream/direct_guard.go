package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// guard is the only thing that go and git can talk to. It listens twice on
// loopback: as the HTTP proxy of the go command, where it answers the
// go-import lookup that the command was started for with what was found and
// checked before, and refuses everything else; and as the server that git is
// sent to in place of the repository, whose requests it passes on.
type guard struct {
	d       *Direct
	lookups net.Listener
	git     net.Listener
	servers []*http.Server
	caFile  string // of the certificate that git sees
	cert    tls.Certificate
	daemon  *daemon
	wg      sync.WaitGroup
}

// tokenHeader carries what tells git's requests from those of anybody else on
// this machine. It comes to git through its environment, which others cannot
// read.
const tokenHeader = "Modgate-Job"

func (d *Direct) openGuard(ctx context.Context, files *workFiles) (*guard, error) {
	g := &guard{d: d, caFile: filepath.Join(files.root, "guard.pem")}
	cert, err := guardCertificate(g.caFile)
	if err != nil {
		return nil, err
	}
	g.cert = cert
	if err := os.WriteFile(filepath.Join(files.root, "hgrc"), []byte(hgrc(g.caFile)), 0o600); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	if g.lookups, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	if g.git, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, errors.Join(err, g.lookups.Close())
	}
	if g.daemon, err = g.openDaemon(ctx); err != nil {
		return nil, errors.Join(err, g.lookups.Close(), g.git.Close())
	}
	errorLog := slog.NewLogLogger(d.cfg.Logger.Handler(), slog.LevelDebug)
	g.serve(g.lookups, &http.Server{Handler: http.HandlerFunc(g.lookup), ReadHeaderTimeout: 10 * time.Second, ErrorLog: errorLog})
	g.serve(tls.NewListener(g.git, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}),
		&http.Server{Handler: http.HandlerFunc(g.passOn), ReadHeaderTimeout: 10 * time.Second, ErrorLog: errorLog})
	return g, nil
}

func (g *guard) serve(l net.Listener, s *http.Server) {
	g.servers = append(g.servers, s)
	g.wg.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			g.d.cfg.Logger.Error("private modules: the guard has ended", "error", err)
		}
	})
}

func (g *guard) close() {
	g.daemon.close()
	for _, s := range g.servers {
		_ = s.Close()
	}
	g.wg.Wait()
}

// guardCertificate makes a key that lives in memory alone and a certificate
// that git is told to trust, and nothing else.
func guardCertificate(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: "modgate guard"},
		NotBefore:             time.Now().Add(-48 * time.Hour), // a clock that is set back
		NotAfter:              time.Now().AddDate(20, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, os.WriteFile(name, block, 0o600)
}

// lookup serves the go command, and git's ssh.
func (g *guard) lookup(w http.ResponseWriter, r *http.Request) {
	_, token, _ := proxyAuth(r)
	j := g.d.jobs.get(token)
	switch {
	case j == nil:
		http.Error(w, "not for you", http.StatusProxyAuthRequired)
	case r.Method == http.MethodConnect && r.Host == sshHost:
		g.d.ssh.bridge(w, r, j)
	case r.Method == http.MethodConnect && j.place.hg:
		g.mercurial(w, r, j)
	case r.Method == http.MethodGet && r.URL.IsAbs() && r.URL.Query().Get("go-get") == "1" && j.place.covers(r.URL.Host+strings.TrimSuffix(r.URL.Path, "/")):
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, j.place.page())
	default:
		http.Error(w, "the guard allows no other requests", http.StatusForbidden)
	}
}

// page is what the go command reads about the place.
func (p *place) page() string {
	content := p.root + " " + p.vcs() + " " + p.seen
	if p.subdir != "" {
		content += " " + p.subdir
	}
	return fmt.Sprintf("<html><head><meta name=\"go-import\" content=\"%s\"></head></html>\n", html.EscapeString(content))
}

// covers reports whether a path is the root or lies below.
func (p *place) covers(path string) bool {
	return path == p.root || strings.HasPrefix(path, p.root+"/")
}

// proxyAuth returns the credentials that a client shows to a proxy.
func proxyAuth(r *http.Request) (username, password string, ok bool) {
	as := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	return as.BasicAuth()
}

// passOn serves git: it passes a request for the one repository that git was
// started for on to where that really is, with credentials that git never
// sees.
func (g *guard) passOn(w http.ResponseWriter, r *http.Request) {
	j := g.d.jobs.get(r.Header.Get(tokenHeader))
	if j == nil || j.place.hg || j.place.url.Scheme != "https" {
		http.Error(w, "not for you", http.StatusForbidden)
		return
	}
	suffix, ok := strings.CutPrefix(r.URL.Path, "/repository")
	fetch := r.Method == http.MethodPost && suffix == "/git-upload-pack" && r.URL.RawQuery == ""
	if !ok || !fetch && !(announce(r) && suffix == "/info/refs") {
		http.Error(w, "the guard allows no other requests", http.StatusForbidden)
		return
	}
	if g.answer(w, r, j) {
		return
	}
	if err := g.exchange(w, r, j, suffix); err != nil {
		j.fail(err)
		if errors.Is(err, errAnswered) {
			panic(http.ErrAbortHandler) // git must not take half a pack for a whole one
		}
		http.Error(w, "modgate: "+err.Error(), http.StatusBadGateway)
	}
}

// announce reports whether r asks what the server can.
func announce(r *http.Request) bool {
	return r.Method == http.MethodGet && r.URL.RawQuery == "service=git-upload-pack"
}

// errAnswered marks an error that came after the header of the answer.
var errAnswered = errors.New("after the header")

func (g *guard) exchange(w http.ResponseWriter, r *http.Request, j *job, suffix string) error {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(j.ctx, func() { cancel(context.Cause(j.ctx)) })()
	u := j.repo.address(suffix)
	u.RawQuery = r.URL.RawQuery
	header := make(http.Header)
	for _, k := range []string{"Accept", "Accept-Encoding", "Content-Encoding", "Content-Type", "Git-Protocol"} {
		if v := r.Header[k]; v != nil {
			header[k] = v
		}
	}
	var (
		resp *http.Response
		err  error
		last = u
	)
	if r.Method == http.MethodGet {
		resp, last, err = g.d.get(ctx, u, header, false)
	} else {
		header.Set("User-Agent", "modgate")
		out := (&http.Request{Method: r.Method, URL: u, Host: u.Host, Header: header, Body: r.Body, ContentLength: r.ContentLength}).WithContext(ctx)
		resp, err = g.d.send(out)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusTrouble(last, resp)
	}
	for _, k := range []string{"Content-Type", "Content-Encoding", "Content-Length"} {
		if v := resp.Header[k]; v != nil {
			w.Header()[k] = v
		}
	}
	body := j.counted(resp.Body)
	if announce(r) {
		body = j.repo.learnCapabilities(body)
	}
	w.WriteHeader(http.StatusOK)
	out := &flushing{w: w, c: http.NewResponseController(w)}
	if _, err := io.Copy(out, body); err != nil {
		if out.err != nil {
			return nil // git went away: it knows why
		}
		return fmt.Errorf("%w%w", explained(err, u.Host), errAnswered)
	}
	if r.Method == http.MethodPost {
		j.passed()
	}
	return nil
}

// flushing passes every piece on as it comes: the server shows progress to
// git, and we count on it.
type flushing struct {
	w   io.Writer
	c   *http.ResponseController
	err error
}

func (f *flushing) Write(p []byte) (n int, err error) {
	if n, err = f.w.Write(p); err == nil {
		err = f.c.Flush()
	}
	f.err = err
	return n, err
}
