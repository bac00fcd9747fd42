package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// bareCommand is the floor that a proxy written in Go stands on.
func bareCommand() *cobra.Command {
	var addr, files, cert, key string
	c := &cobra.Command{
		Use:    "bare",
		Short:  "Answer every request with one small text, as fast as Go's HTTP server can, or serve files",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h := oneText()
			if files != "" {
				h = http.FileServer(http.Dir(files))
			}
			if cert != "" {
				return serveTLS(c.Context(), addr, h, cert, key)
			}
			l, err := listen(c.Context(), addr, h)
			if err != nil {
				return err
			}
			<-c.Context().Done()
			return l.Close()
		},
	}
	c.Flags().StringVar(&addr, "listen", "127.0.0.1:8090", "address")
	c.Flags().StringVar(&files, "files", "", "serve this directory instead of the text")
	c.Flags().StringVar(&cert, "cert", "", "PEM file of a certificate: speak HTTPS")
	c.Flags().StringVar(&key, "key", "", "PEM file of its key")
	return c
}

// oneText answers everything with 200 bytes.
func oneText() http.Handler {
	text := bytes.Repeat([]byte("// go.mod\n"), 20)
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		w.Write(text)
	})
}

// serveTLS serves h as HTTPS until ctx ends, with what net/http does by default
// and modgate's minimum version.
func serveTLS(ctx context.Context, addr string, h http.Handler, cert, key string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	err = s.ServeTLS(l, cert, key)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
