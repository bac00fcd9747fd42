package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/module"

	"github.com/modgate/modgate/cache/s3"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/upstream"
)

// keptPrivate are modules that a cache knows to be private by itself, whatever
// the patterns say that somebody looks at it with: those that have a pin, and
// those of the repositories that are kept. Nobody outside may hear of them.
type keptPrivate struct {
	pinned map[string]bool // paths in lower case
	roots  map[string]bool // of repositories, as they would be paths
	above  map[string]bool // parents of both
}

// readKeptPrivate reads what the cache directory dir knows, and the bucket that
// replicas share, which is nil if there is none. An error means that there may
// be more, and that nobody should be asked.
func readKeptPrivate(ctx context.Context, dir string, bucket *s3.Store) (*keptPrivate, error) {
	k := &keptPrivate{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	dir = filepath.Join(dir, ".modgate")
	err := fs.WalkDir(os.DirFS(dir), "pins", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && name == "pins" && errors.Is(err, fs.ErrNotExist):
			return nil // no pin at all
		case err != nil || d.IsDir():
			return err
		}
		k.addPin(name)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("pins of private modules: %w", err)
	}
	repositories, err := upstream.KeptRepositories(filepath.Join(dir, "direct"))
	if err != nil {
		return nil, fmt.Errorf("repositories of private modules: %w", err)
	}
	for _, address := range repositories {
		k.addRepository(address)
	}
	if bucket == nil {
		return k, nil
	}
	for name, err := range bucket.Records(ctx, "pins/") {
		if err != nil {
			return nil, fmt.Errorf("pins of private modules in the bucket: %w", err)
		}
		k.addPin(name)
	}
	return k, nil
}

func (k *keptPrivate) addPin(name string) {
	if m, err := pinned(name); err == nil && strings.HasSuffix(name, ".json") {
		k.add(k.pinned, m.Path)
	}
}

// addRepository adds the modules whose paths begin as the URL of a repository
// does. Others of it have pins.
func (k *keptPrivate) addRepository(address string) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") == "" {
		return
	}
	k.add(k.roots, u.Hostname()+"/"+strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git"))
}

func (k *keptPrivate) add(to map[string]bool, path string) {
	path = strings.ToLower(path)
	to[path] = true
	for i := strings.LastIndexByte(path, '/'); i > 0; i = strings.LastIndexByte(path, '/') {
		path = path[:i]
		k.above[path] = true
	}
}

// has reports whether path is one of the modules, lies below one or is a parent
// of one. Case does not count, as with patterns.
func (k *keptPrivate) has(path string) bool {
	path = strings.ToLower(path)
	if k.above[path] {
		return true
	}
	for {
		if k.pinned[path] || k.roots[path] {
			return true
		}
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			return false
		}
		path = path[:i]
	}
}

// patterns returns the modules as patterns of private.
func (k *keptPrivate) patterns() List {
	var all List
	for _, paths := range []map[string]bool{k.pinned, k.roots} {
		for path := range paths {
			if module.CheckPath(path) == nil {
				all = append(all, path)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// warning says that private does not name all that is private here; it is "" if
// it does. What nothing but a pattern could tell is not withheld.
func (k *keptPrivate) warning(private func(path string) bool) string {
	missed := 0
	for path := range maps.Keys(k.pinned) {
		if !private(path) {
			missed++
		}
	}
	if missed == 0 {
		return ""
	}
	return fmt.Sprintf("this cache has pins of %s that no pattern of private matches: nobody outside is asked about these, but there may be more that are private\n  → run this with the private patterns of the server: --private, or its file with --config", counted(missed, "private module"))
}

// publicOnly asks a checksum database about what it may be told.
type publicOnly struct {
	proxy.Verifier
	private func(path string) bool
	kept    *keptPrivate
}

// Verify implements proxy.Verifier.
func (p publicOnly) Verify(ctx context.Context, m module.Version, kind, hash string) error {
	if p.private(m.Path) || p.kept.has(m.Path) {
		return fmt.Errorf("it is private, and nobody outside is asked about it: %w", fs.ErrNotExist)
	}
	return p.Verifier.Verify(ctx, m, kind, hash)
}

// readFleetPrivate is readKeptPrivate for a command: it opens the bucket that
// the settings name, if any.
func readFleetPrivate(ctx context.Context, c *Config) (k *keptPrivate, err error) {
	a := new(app)
	defer func() { err = errors.Join(err, a.close()) }()
	if c.Cache.S3.on() {
		trust, err := trustPool(c.TLS.Trust)
		if err != nil {
			return nil, err
		}
		if _, err := a.openS3(ctx, c, trust, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err != nil {
			return nil, err
		}
	}
	return readKeptPrivate(ctx, c.Cache.Dir, a.bucket)
}
