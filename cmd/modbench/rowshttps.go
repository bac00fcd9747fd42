package main

import (
	"bytes"
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
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fileServer is http.FileServer over the files that the client needs.
const fileServer = "http.FileServer"

// same is a server of net/http that has the answers of modgate in memory.
const same = "same answers"

func hitsHTTPS1(ctx context.Context, b *bench) (result, error) { return b.hitsHTTPS(ctx, false) }

func hitsHTTPS2(ctx context.Context, b *bench) (result, error) { return b.hitsHTTPS(ctx, true) }

// hitsHTTPS measures modgate and three servers of net/http that do nothing else,
// all with one certificate.
func (b *bench) hitsHTTPS(ctx context.Context, http2 bool) (r result, err error) {
	r = result{Unit: unitPerSecond}
	paths, err := treePaths(b.tree, ".mod")
	if err != nil {
		return r, err
	}
	paths = paths[:min(256, len(paths))]
	servers, roots, stop, err := b.secureServers(ctx)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return r, err
	}
	over := tlsLoad{Roots: roots, HTTP2: http2}
	if http2 && b.cfg.Load != "builtin" {
		if over.H2load, err = exec.LookPath("h2load"); err != nil {
			r.note("h2load is not installed (Debian: nghttp2-client): the generator inside modbench takes more of the machine than the servers")
			err = nil
		}
	}
	least := map[string]float64{} // CPU time of a server per answer, µs
	for range b.cfg.Rounds {
		slices.Reverse(servers) // who comes after whom matters where others work, too
		for _, s := range servers {
			c := loadConfig{Base: s.url, Paths: paths, Connections: b.cfg.Conns, Duration: b.cfg.Duration, Dir: b.tmp, TLS: over}
			if !http2 {
				c.Wrk = b.wrk
			}
			before := cpuTime(s.pid)
			lr, err := load(ctx, c)
			if err != nil {
				return r, fmt.Errorf("%s: %w", s.name, err)
			}
			r.add(s.name, lr.PerSecond)
			each := float64((cpuTime(s.pid) - before).Microseconds()) / (lr.PerSecond * b.cfg.Duration.Seconds())
			if least[s.name] == 0 || each < least[s.name] {
				least[s.name] = each
			}
			b.log.Info("hits", "contender", s.name, "http2", http2, "per_second", int(lr.PerSecond), "p50", lr.P50, "p99", lr.P99, "mean", lr.Mean)
		}
	}
	r.ratio("modgate", same, 0.9, false)
	r.ratio("modgate", fileServer, 0.9, false)
	r.note("modgate / bare = %s", number(r.median("modgate")/r.median(bare)))
	r.note("%d different files in turn, one certificate (ECDSA P-256), TLS 1.3; the others are servers of net/http with that certificate and nothing else: http.FileServer serves the same files, %q sends the answers of modgate, header and body, out of a map, bare one text of 200 bytes for everything", len(paths), same)
	if least["modgate"] > 0 {
		r.note("CPU time of the server per answer, in the best round: bare %s µs, %s %s µs, http.FileServer %s µs, modgate %s µs", number(least[bare]), same, number(least[same]), number(least[fileServer]), number(least["modgate"]))
	}
	if http2 {
		r.note("%d connections with %d requests under way on each", max(1, b.cfg.Conns/streams), streams)
	}
	return r, err
}

// secureServers starts the servers, modgate with an empty cache. stop ends those
// that were started, also after an error.
func (b *bench) secureServers(ctx context.Context) (servers []warmServer, roots *x509.CertPool, stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var errs []error
		for _, s := range stops {
			errs = append(errs, s())
		}
		return errors.Join(errs...)
	}
	dir := b.dir("tls")
	cert, key, roots, err := writeCertificate(dir)
	if err != nil {
		return nil, nil, stop, err
	}
	transport := &http.Transport{TLSClientConfig: clientTLS(roots), DisableKeepAlives: true}
	for _, name := range []string{bare, same, fileServer, "modgate"} {
		addr, err := freeAddr()
		if err != nil {
			return nil, nil, stop, err
		}
		c := command{Path: b.bin.Self, URL: "https://" + addr, Dir: b.dir(name), Client: &http.Client{Transport: transport}}
		switch name {
		case bare:
			c.Args = []string{"bare", "--listen=" + addr, "--cert=" + cert, "--key=" + key}
		case fileServer:
			c.Args = []string{"bare", "--listen=" + addr, "--cert=" + cert, "--key=" + key, "--files=" + b.tree}
		case same:
			c.Args = []string{"bare", "--listen=" + addr, "--cert=" + cert, "--key=" + key, "--files=" + b.tree, "--memory"}
		default:
			t := b.near()
			c.Path = b.bin.Modgate
			c.Args = []string{"serve", "--listen=" + addr, "--admin-listen=127.0.0.1:0", "--upstream=" + t.Upstream, "--sumdb=" + t.SumDB,
				"--cache-dir=" + filepath.Join(c.Dir, "cache"), "--tls-mode=files", "--tls-files=" + cert + ":" + key}
		}
		s, err := c.start(ctx)
		if err != nil {
			return nil, nil, stop, err
		}
		stops = append(stops, s.Close)
		servers = append(servers, warmServer{name: name, url: s.URL, pid: s.PID})
	}
	return servers, roots, stop, nil
}

// cpuTime returns the CPU time that a process has taken; 0 where that is not to
// be had. It depends less than the rate on what else the machine does.
func cpuTime(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// Behind the name, which may hold anything, comes field 3; utime is 14 and
	// stime 15, in hundredths of a second (proc_pid_stat(5)).
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// clientTLS is for a client that knows roots.
func clientTLS(roots *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// writeCertificate makes a certificate for the loopback address that has signed
// itself, as files in dir, which is made.
func writeCertificate(dir string) (certFile, keyFile string, roots *x509.CertPool, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "modbench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return "", "", nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", nil, err
	}
	certFile, keyFile, roots = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), x509.NewCertPool()
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots.AppendCertsFromPEM(public)
	err = os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(certFile, public, 0o644)
	}
	if err == nil {
		err = os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
	}
	return certFile, keyFile, roots, err
}
