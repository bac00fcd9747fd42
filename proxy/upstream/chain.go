// Package upstream is where modules come from. A Chain asks the GOPROXY
// servers of a list, in the order and with the fall-through rules of the go
// command, and also carries requests to checksum databases. No other package
// dials out for modules.
//
// What an upstream says becomes one of three things: absent (fs.ErrNotExist:
// the upstream is sure), refused (it understood and will not give), or
// trouble (everything else, which may pass). See Error.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// Most bytes that are read of any answer. Those of .mod and .zip are the
// limits of golang.org/x/mod/zip, so nothing that the go command would take
// is refused.
const (
	maxInfo  = 64 << 10
	maxList  = 16 << 20
	maxMod   = modzip.MaxGoMod
	maxZip   = modzip.MaxZipFile
	maxSumDB = 1 << 20
)

// upstream is one entry of the list. Paths are relative to its base, begin
// with a slash and are not percent-encoded. Errors are of type *Error.
type upstream interface {
	name() string // its metric label; holds no credentials
	get(ctx context.Context, f file) ([]byte, error)
	open(ctx context.Context, f file) (body io.ReadCloser, size int64, err error)
}

// file is one thing to fetch.
type file struct {
	path string
	max  int64  // bytes
	kind string // what it is, for checks and messages: info, list, mod, zip, sumdb
}

// entry is an upstream and whether any error of it leads to the next one, or
// only absence.
type entry struct {
	upstream
	onAnyError bool
}

// Chain is a list of upstreams. It is safe for concurrent use.
type Chain struct {
	entries []entry
	off     bool // the list is "off"
	client  *client
	cfg     Config
	metrics *metrics

	mu  sync.Mutex // guards dbs
	dbs map[string]*database
}

// Close drops idle connections. Bodies that are open stay readable.
func (c *Chain) Close() error {
	c.client.transport.CloseIdleConnections()
	return nil
}

// Info returns the .info JSON of what query means for the module path:
// a version, a branch, a commit, or "latest" for the protocol's @latest.
// It has been checked: the Version in it is canonical, fits the path, and is
// the query if that is a canonical version. Absent is fs.ErrNotExist; see
// Error for the rest.
func (c *Chain) Info(ctx context.Context, path, query string) ([]byte, error) {
	name, err := infoPath(path, query)
	if err != nil {
		return nil, absent(path+"@"+query, err)
	}
	return each(ctx, c, func(u upstream) ([]byte, error) {
		data, err := u.get(ctx, file{name, maxInfo, "info"})
		if err != nil {
			return nil, err
		}
		if err := checkInfo(data, path, query); err != nil {
			return nil, invalid(u.name(), name, err)
		}
		return data, nil
	})
}

// List returns the versions that the first upstream knowing the module has,
// sorted as strings, without pseudo-versions and without lines that are not
// versions of this module. A module without tagged versions has none.
func (c *Chain) List(ctx context.Context, path string) ([]string, error) {
	escaped, err := module.EscapePath(path)
	if err != nil {
		return nil, absent(path, err)
	}
	name := "/" + escaped + "/@v/list"
	return each(ctx, c, func(u upstream) ([]string, error) {
		data, err := u.get(ctx, file{name, maxList, "list"})
		if err != nil {
			return nil, err
		}
		versions, err := parseList(data, path)
		if err != nil {
			return nil, invalid(u.name(), name, err)
		}
		return versions, nil
	})
}

// opened is what open returns, as one value.
type opened struct {
	body io.ReadCloser
	size int64
}

// Open returns the .mod or .zip file of m (kind "mod" or "zip") and its size
// in bytes, -1 if the upstream did not say. The body resumes by itself where
// the upstream allows it, and else goes on at the next one where the list leads
// there after any error; io.EOF comes only after all announced bytes. It has a
// method Origin() string: the name in metrics of the upstream that sends it at
// the time. The context is used until the body is closed.
func (c *Chain) Open(ctx context.Context, m module.Version, kind string) (io.ReadCloser, int64, error) {
	return c.openFrom(ctx, m, kind, c.entries)
}

// OpenAfter is Open, but asks only the upstreams behind the one named origin,
// whatever stands between them in the list: it proved wrong. fs.ErrNotExist
// if none is left.
func (c *Chain) OpenAfter(ctx context.Context, m module.Version, kind, origin string) (io.ReadCloser, int64, error) {
	i := slices.IndexFunc(c.entries, func(e entry) bool { return e.name() == origin })
	if i < 0 || i+1 == len(c.entries) {
		return nil, 0, absent(m.String(), errors.New("no other upstream is left"))
	}
	return c.openFrom(ctx, m, kind, c.entries[i+1:])
}

func (c *Chain) openFrom(ctx context.Context, m module.Version, kind string, entries []entry) (io.ReadCloser, int64, error) {
	f := file{kind: kind}
	switch kind {
	case "mod":
		f.max = maxMod
	case "zip":
		f.max = maxZip
	default:
		return nil, 0, fmt.Errorf("open %s: unknown kind of file %q", m, kind)
	}
	name, err := versionPath(m)
	if err != nil {
		return nil, 0, absent(m.String(), err)
	}
	f.path = name + "." + kind
	asked := 0
	o, err := eachOf(ctx, c, entries, func(u upstream) (o opened, err error) {
		asked++
		o.body, o.size, err = u.open(ctx, f)
		return o, err
	})
	if err != nil {
		return nil, 0, err
	}
	return c.relay(ctx, f, o, entries[asked-1:]), o.size, nil
}

func each[T any](ctx context.Context, c *Chain, ask func(upstream) (T, error)) (T, error) {
	return eachOf(ctx, c, c.entries, ask)
}

// eachOf asks one upstream after the other, by the rules of GOPROXY: absence
// leads to the next, other errors only where the list has a "|". The error in
// the end is the one that leaves most open, because absence must not be
// claimed while one upstream could not be asked: trouble, refused, absent.
func eachOf[T any](ctx context.Context, c *Chain, entries []entry, ask func(upstream) (T, error)) (T, error) {
	var none T
	if c.off {
		return none, errOff()
	}
	var worst error
	for _, e := range entries {
		v, err := ask(e.upstream)
		if err == nil {
			return v, nil
		}
		if worst == nil || rank(err) > rank(worst) {
			worst = err
		}
		if ctx.Err() != nil || rank(err) != absentNow && !e.onAnyError {
			break
		}
	}
	return none, worst
}

func rank(err error) kind {
	var e *Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absentNow
	case errors.As(err, &e):
		return e.kind
	}
	return trouble
}

func versionPath(m module.Version) (string, error) {
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}
	return "/" + path + "/@v/" + version, nil
}

func infoPath(path, query string) (string, error) {
	if query != "latest" {
		name, err := versionPath(module.Version{Path: path, Version: query})
		return name + ".info", err
	}
	escaped, err := module.EscapePath(path)
	return "/" + escaped + "/@latest", err
}
