package upstream

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// hgrc is all the configuration that Mercurial finds: a certificate of the
// guard's is the only one that it believes, and it fetches nothing but what it
// is told to.
func hgrc(caFile string) string {
	return "[web]\ncacerts = " + caFile + "\n" +
		"[ui]\ninteractive = no\nclonebundles = no\nssh = " + os.DevNull + "\n" +
		"[subrepos]\nallowed = no\n"
}

// mercurialEnv is for the go command and its hg, in addition to childEnv.
func mercurialEnv(proxy, hgrc string) []string {
	return []string{"HGRCPATH=" + hgrc, "http_proxy=" + proxy, "no_proxy=", "HGENCODING=utf-8", "PYTHONDONTWRITEBYTECODE=1", "PYTHONNOUSERSITE=1"}
}

// mercurial is the host of a job's repository for hg, which has asked its HTTP
// proxy, the guard, for a tunnel: it shows a certificate for the host, and
// passes each request on by itself.
func (g *guard) mercurial(w http.ResponseWriter, r *http.Request, j *job) {
	seen, err := url.Parse(j.place.seen)
	if err != nil || !sameHost(seen, &url.URL{Scheme: "https", Host: r.Host}) {
		http.Error(w, "the guard leads to no other host", http.StatusForbidden)
		return
	}
	cert, err := g.certificateFor(seen.Hostname())
	if err != nil {
		http.Error(w, "no certificate", http.StatusInternalServerError)
		return
	}
	raw, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no connection", http.StatusInternalServerError)
		return
	}
	defer raw.Close()
	defer context.AfterFunc(j.ctx, func() { _ = raw.Close() })()
	if _, err := io.WriteString(raw, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return // hg has what it wanted
		}
		resp, err := g.askMercurial(j, req, seen.Path)
		if err != nil {
			j.fail(err)
			resp = &http.Response{StatusCode: http.StatusBadGateway, ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody, Close: true}
		}
		body := resp.Body
		resp.Body = io.NopCloser(j.counted(body))
		err = resp.Write(conn)
		_ = body.Close()
		if err != nil {
			j.fail(explained(err, seen.Host))
			return
		}
		if resp.Close || req.Close {
			return
		}
	}
}

// mercurialReads are the commands of Mercurial's protocol ("hg help
// internals.wireprotocol") that a pull needs.
var mercurialReads = []string{"capabilities", "batch", "between", "branchmap", "branches", "changegroup", "changegroupsubset", "getbundle", "heads", "known", "listkeys", "lookup"}

// askMercurial has the host answer one request of hg.
func (g *guard) askMercurial(j *job, req *http.Request, path string) (*http.Response, error) {
	if req.URL.Query().Get("go-get") == "1" && j.place.covers(req.Host+strings.TrimSuffix(req.URL.Path, "/")) {
		page := j.place.page() // the go command comes this way, too
		return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(strings.NewReader(page)), ContentLength: int64(len(page))}, nil
	}
	if strings.TrimSuffix(req.URL.Path, "/") != strings.TrimSuffix(path, "/") || !slices.Contains(mercurialReads, req.URL.Query().Get("cmd")) ||
		req.Method != http.MethodGet && req.Method != http.MethodPost {
		return nil, troubled(forbidden, nil, "Mercurial asks for what a pull does not need")
	}
	u := j.repo.address("")
	u.RawQuery = req.URL.RawQuery
	header := make(http.Header)
	for k, v := range req.Header {
		if strings.HasPrefix(k, "X-Hg") || k == "Accept" || k == "Content-Type" {
			header[k] = v
		}
	}
	var (
		resp *http.Response
		last = u
		err  error
	)
	if req.Method == http.MethodGet {
		resp, last, err = g.d.get(j.ctx, u, header, false)
	} else {
		header.Set("User-Agent", "modgate")
		resp, err = g.d.send((&http.Request{Method: req.Method, URL: u, Host: u.Host, Header: header, Body: req.Body, ContentLength: req.ContentLength}).WithContext(j.ctx))
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, statusTrouble(last, resp)
	}
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/mercurial-") && !strings.HasPrefix(ct, "application/hg") {
		defer resp.Body.Close()
		return nil, troubled(noRepository, nil, "%s answers, but not as a Mercurial server: no repository is there", last.Host)
	}
	out := &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Body: resp.Body, ContentLength: resp.ContentLength,
		Header: http.Header{"Content-Type": resp.Header["Content-Type"]},
	}
	if out.ContentLength < 0 {
		out.TransferEncoding = []string{"chunked"} // the connection goes on
	}
	return out, nil
}

// certificateFor makes a certificate that what the guard starts believes.
func (g *guard) certificateFor(host string) (tls.Certificate, error) {
	authority, err := x509.ParseCertificate(g.cert.Certificate[0])
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, authority.PublicKey, g.cert.PrivateKey)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: g.cert.PrivateKey}, err
}

// mendMercurial removes a kept repository of Mercurial whose hg was killed: it
// is fetched anew.
func mendMercurial(dir string, log *slog.Logger) {
	broken := false
	for _, name := range []string{"wlock", "store/lock", "store/journal"} {
		_, err := os.Lstat(filepath.Join(dir, ".hg", filepath.FromSlash(name)))
		broken = broken || err == nil
	}
	if _, err := os.Stat(filepath.Join(dir, ".hg", "hgrc")); err != nil {
		broken = true // it has not been told where it comes from
	}
	if !broken {
		return
	}
	log.Info("removing a repository that is not whole", "dir", dir)
	if err := removeAll(dir); err != nil {
		log.Warn("a repository that is not whole stays", "error", err)
	}
}
