package sumdb

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/modgate/modgate/internal/access"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"
)

// MirrorConfig configures a Mirror.
type MirrorConfig struct {
	// DBs are the databases that clients may use. All others are answered 404,
	// upon which the go command asks them directly. Default: none.
	DBs []*DB
	// PrivatePatterns is what clients should set GONOSUMDB to, shown to those
	// who ask for a private module: comma-separated, as in GOPRIVATE.
	PrivatePatterns string
}

// Mirror answers the checksum database requests of the go command: it is the
// http.Handler for the path behind "/sumdb/", which is
//
//	<database>/supported
//	<database>/lookup/<module>@<version>
//	<database>/tile/8/<level>/<number>[.p/<width>]
//	<database>/latest
//
// Lookups of private modules are refused here and go nowhere else. It fills the
// access.Record of each request.
type Mirror struct {
	dbs      map[string]*DB
	private  string
	negative *negative
}

// NewMirror checks cfg and returns the Mirror.
func NewMirror(cfg MirrorConfig) (*Mirror, error) {
	m := &Mirror{dbs: make(map[string]*DB), private: cfg.PrivatePatterns, negative: newNegative()}
	for _, d := range cfg.DBs {
		if m.dbs[d.name] != nil {
			return nil, fmt.Errorf("checksum database %s is configured twice", d.name)
		}
		m.dbs[d.name] = d
	}
	return m, nil
}

// Cache-Control of what is answered with 200.
const (
	cacheForever = "public, max-age=31536000, immutable" // full tiles
	cacheDay     = "public, max-age=86400"               // partial tiles never change, but go out of use
	cacheHour    = "public, max-age=3600"                // the record never changes, its head does
	cacheNever   = "no-cache"
)

// ServeHTTP answers one request.
func (m *Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := access.From(w)
	rec.Kind = "sumdb"
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		rec.Outcome = access.Invalid
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, r, http.StatusMethodNotAllowed, "only GET and HEAD are possible here")
		return
	}
	d, endpoint, rest := m.route(strings.TrimPrefix(r.URL.Path, "/"))
	switch endpoint {
	case "supported":
		// Answered here for every database in the list, and by nobody else:
		// an upstream without it must not send clients past this proxy.
		rec.Outcome = access.Local
		reply(w, r, "text/plain; charset=utf-8", cacheNever)
	case "lookup":
		m.lookup(w, r, d, rest)
	case "tile":
		m.tile(w, r, d, rest)
	case "latest":
		m.latest(w, r, d)
	default:
		rec.Outcome = access.Invalid
		refuse(w, r, http.StatusNotFound, "no such checksum database or file here")
	}
}

// route splits "<database>/<endpoint>/<rest>". A database may have slashes in
// its name: the longest that fits is meant. The endpoint is empty if there is
// no such thing.
func (m *Mirror) route(path string) (d *DB, endpoint, rest string) {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] != '/' || m.dbs[path[:i]] == nil {
			continue
		}
		name, rest, deeper := strings.Cut(path[i+1:], "/")
		switch {
		case !deeper && (name == "supported" || name == "latest"), deeper && (name == "lookup" || name == "tile"):
			return m.dbs[path[:i]], name, rest
		}
	}
	return nil, "", ""
}

func (m *Mirror) lookup(w http.ResponseWriter, r *http.Request, d *DB, rest string) {
	rec := access.From(w)
	mod, err := parseLookup(rest)
	rec.Module, rec.Version = mod.Path, mod.Version
	if mod.Path != "" && d.cfg.Private(mod.Path) {
		rec.Outcome, rec.Err = access.Denied, ErrPrivate
		refuse(w, r, http.StatusForbidden, m.privateText(d, mod.Path))
		return
	}
	if err != nil {
		rec.Outcome, rec.Err = access.Invalid, err
		refuse(w, r, http.StatusNotFound, "not the path of a module version")
		return
	}
	if m.negative.has(d.name, mod) {
		rec.Outcome = access.Negative
		refuse(w, r, http.StatusNotFound, fmt.Sprintf("%s: not found in %s a moment ago", mod, d.name))
		return
	}
	f, joined, err := d.lookup(r.Context(), mod)
	if err != nil {
		m.fail(w, r, d, mod, err)
		return
	}
	rec.Outcome = outcome(f.fetched, joined)
	// Every proven record is in the tree of the pinned head.
	reply(w, r, "text/plain; charset=utf-8", cacheHour, f.block, d.heads.pinned().note)
}

// parseLookup reads "<escaped module>@<escaped version>". The path is returned
// also where the rest is wrong, so that it can be asked whether it is private.
func parseLookup(s string) (module.Version, error) {
	epath, eversion, ok := strings.Cut(s, "@")
	path, err := module.UnescapePath(epath)
	if err != nil {
		return module.Version{}, err
	}
	mod := module.Version{Path: path}
	if !ok {
		return mod, errors.New("missing @version")
	}
	version, err := module.UnescapeVersion(eversion)
	if err != nil {
		return mod, err
	}
	mod.Version = version
	_, err = lookupPath(mod)
	return mod, err
}

func (m *Mirror) tile(w http.ResponseWriter, r *http.Request, d *DB, rest string) {
	rec := access.From(w)
	t, err := tlog.ParseTilePath("tile/" + rest)
	// Level 0 to 5 are all there can be below maxTree. The level "data", for
	// auditors who read the whole log, is not mirrored.
	if err != nil || t.H != tileHeight || t.L < 0 || t.L > 5 || t.N > maxTree>>tileHeight {
		rec.Outcome, rec.Err = access.Invalid, err
		refuse(w, r, http.StatusNotFound, "no such tile")
		return
	}
	f, joined, err := d.tile(r.Context(), t)
	if err != nil {
		m.fail(w, r, d, module.Version{}, err)
		return
	}
	rec.Outcome = outcome(f.fetched, joined)
	cache := cacheDay
	switch {
	case !f.proven:
		cache = cacheNever
	case t == full(t):
		cache = cacheForever
	}
	reply(w, r, "application/octet-stream", cache, f.data)
}

func (m *Mirror) latest(w http.ResponseWriter, r *http.Request, d *DB) {
	h, err := d.latest(r.Context())
	if err != nil {
		m.fail(w, r, d, module.Version{}, err)
		return
	}
	access.From(w).Outcome = access.Hit
	reply(w, r, "text/plain; charset=utf-8", cacheNever, h.note)
}

func outcome(fetched, joined bool) access.Outcome {
	switch {
	case fetched && joined:
		return access.Follow
	case fetched:
		return access.Miss
	}
	return access.Hit
}

// reply sends parts, one after the other, with status 200.
func reply(w http.ResponseWriter, r *http.Request, contentType, cache string, parts ...[]byte) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	if h.Get("Cache-Control") == "" { // it may be for who shows a token alone
		h.Set("Cache-Control", cache)
	}
	h.Set("Content-Length", strconv.Itoa(n))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	for _, p := range parts {
		if _, err := w.Write(p); err != nil {
			return
		}
	}
}
