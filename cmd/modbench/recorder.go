package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sync/singleflight"
)

// A recorder answers from a directory and asks origin only for what was never
// asked before. So a benchmark can be repeated without another request to the
// public mirror, and every contender gets the same answers, mutable ones
// (list, @latest, tree heads) included.
//
// Bodies are kept under ok/ by their path, proven absences (404, 410) under
// absent/. Any other answer is not kept and becomes a 502.
type recorder struct {
	origin *url.URL
	client *http.Client
	root   *os.Root
	flight singleflight.Group
}

func newRecorder(origin *url.URL, dir string) (*recorder, error) {
	for _, sub := range []string{"ok", "absent", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &recorder{origin: origin, client: &http.Client{Transport: newTransport()}, root: root}, nil
}

func (rc *recorder) Close() error { return rc.root.Close() }

func (rc *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if !fs.ValidPath(name) || name == "." {
		http.Error(w, "not a path of a module proxy", http.StatusNotFound)
		return
	}
	if rc.serve(w, r, name) {
		return
	}
	_, err, _ := rc.flight.Do(name, func() (any, error) {
		return nil, rc.fetch(context.WithoutCancel(r.Context()), name) // others may wait for it
	})
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadGateway)
	case !rc.serve(w, r, name):
		http.Error(w, "recorded, but not found", http.StatusInternalServerError)
	}
}

// serve answers from the directory and reports whether it could.
func (rc *recorder) serve(w http.ResponseWriter, r *http.Request, name string) bool {
	if f, err := rc.root.Open(path.Join("ok", name)); err == nil {
		defer f.Close()
		st, err := f.Stat()
		if err != nil || st.IsDir() {
			return false
		}
		w.Header().Set("Content-Type", contentType(name))
		http.ServeContent(w, r, "", st.ModTime(), f)
		return true
	}
	b, err := rc.root.ReadFile(path.Join("absent", name))
	if err != nil {
		return false
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	w.Write(b)
	return true
}

// fetch asks origin for name and keeps the answer.
func (rc *recorder) fetch(ctx context.Context, name string) error {
	u := *rc.origin
	u.Path = path.Join("/", u.Path, name)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	resp, err := rc.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return rc.keep(path.Join("ok", name), resp.Body, resp.ContentLength)
	case http.StatusNotFound, http.StatusGone:
		return rc.keep(path.Join("absent", name), io.LimitReader(resp.Body, 1<<10), -1)
	}
	return fmt.Errorf("%s: %s", u.Redacted(), resp.Status)
}

// keep publishes body as name by rename. size is -1 where it is not known.
func (rc *recorder) keep(name string, body io.Reader, size int64) error {
	tmp := fmt.Sprintf("tmp/%x", sha256.Sum256([]byte(name)))
	f, err := rc.root.Create(tmp)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, body)
	err = errors.Join(err, f.Close())
	if err == nil && size >= 0 && n != size {
		err = fmt.Errorf("%s: %d of %d bytes", name, n, size)
	}
	if err == nil {
		err = rc.root.MkdirAll(path.Dir(name), 0o755)
	}
	if err == nil {
		err = rc.root.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, rc.root.Remove(tmp))
	}
	return nil
}

func contentType(name string) string {
	switch path.Ext(name) {
	case ".zip":
		return "application/zip"
	case ".info":
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}
