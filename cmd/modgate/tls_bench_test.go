package main

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// BenchmarkTLSHit asks for a .mod that is in memory, over connections that are
// kept:
//
//	modgate  as serve does it: certificates from tlsmgr, streams with deadlines
//	handler  the same handler in an http.Server that has the certificate itself
//	bare     that server with a handler that does nothing but answer as much
//
// The client is in the process and counts with all three.
func BenchmarkTLSHit(b *testing.B) {
	pki, dir := tlstest.New(b), b.TempDir()
	w := newWorld(b)
	certFile, keyFile := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	s, err := load(layers{flags: map[string]string{
		"cache.dir": b.TempDir(), "upstream": w.upstream.URL, "sumdb": w.log.Key(),
		"tls.mode": "files", "tls.files": certFile + ":" + keyFile, "listen": "127.0.0.1:0", "admin.listen": "",
	}, environ: []string{"HOME=" + dir}, file: "off"})
	if err != nil {
		b.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	v := &service{settings: s, log: quiet, health: new(health)}
	if v.app, err = wire(b.Context(), &s.Config, prometheus.NewRegistry(), quiet); err != nil {
		b.Fatal(err)
	}
	defer v.app.close()
	v.public = newServer(v.health.front(v.app.handler), quiet)
	handler := v.public.Handler
	if v.publicAddr, err = listen(b.Context(), "listen", s.Listen); err != nil {
		b.Fatal(err)
	}
	if err := v.openTLS(b.Context(), prometheus.NewRegistry()); err != nil {
		b.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		b.Fatal(err)
	}
	plain := func(h http.Handler) (*http.Server, net.Listener) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		return &http.Server{Handler: h, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}}, l
	}
	text := []byte("module example.com/greet\n\ngo 1.26\n")
	for name, open := range map[string]func() (*http.Server, net.Listener){
		"modgate": func() (*http.Server, net.Listener) { return v.public, v.publicAddr },
		"handler": func() (*http.Server, net.Listener) { return plain(handler) },
		"bare": func() (*http.Server, net.Listener) {
			return plain(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(text) }))
		},
	} {
		server, l := open()
		go serveOn(server, l)
		defer server.Close()
		for _, protocol := range []string{"http1", "http2"} {
			tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pki.Pool()}, ForceAttemptHTTP2: protocol == "http2", MaxIdleConnsPerHost: 64}
			defer tr.CloseIdleConnections()
			client, url := &http.Client{Transport: tr}, "https://"+l.Addr().String()+"/example.com/greet/@v/v1.0.0.mod"
			b.Run(protocol+"/"+name, func(b *testing.B) {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						resp, err := client.Get(url)
						if err != nil {
							b.Error(err)
							return
						}
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						if resp.StatusCode != 200 {
							b.Error(resp.Status)
						}
					}
				})
			})
		}
	}
}
