package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// bareCommand is the floor that a proxy written in Go stands on.
func bareCommand() *cobra.Command {
	var addr, files, cert, key string
	var memory bool
	c := &cobra.Command{
		Use:    "bare",
		Short:  "Answer every request with one small text, as fast as Go's HTTP server can, or serve files",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h := oneText()
			switch {
			case files != "" && memory:
				h = &answers{dir: files}
			case files != "":
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
	c.Flags().BoolVar(&memory, "memory", false, "keep the files in memory, and send them with the header that modgate sends")
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

// answers sends what modgate sends for a .mod, header and body, out of memory, and
// does nothing else: it checks nothing, asks nobody, writes no log and counts nothing.
type answers struct {
	dir   string
	known sync.Map // path to *inMemory
}

type inMemory struct {
	body []byte
	etag string
}

// ServeHTTP implements http.Handler.
func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	known, ok := a.known.Load(r.URL.Path)
	if !ok {
		data, err := fs.ReadFile(os.DirFS(a.dir), strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		sum := sha256.Sum256(data)
		known, _ = a.known.LoadOrStore(r.URL.Path, &inMemory{data, `"` + hex.EncodeToString(sum[:16]) + `"`})
	}
	file := known.(*inMemory)
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("ETag", file.etag)
	h.Set("Content-Length", strconv.Itoa(len(file.body)))
	w.Write(file.body)
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
