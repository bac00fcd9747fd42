// Package proxy speaks the GOPROXY protocol (go.dev/ref/mod#goproxy-protocol):
// from a URL to bytes that are proven.
//
// A request is parsed (request.go), answered from the store (serve.go), or
// filled (fill.go): fetched once for all who ask (flight.go), into a spool that
// clients follow while it grows (spool.go), and proven (prove.go) before the last
// of it is let go. list, @latest and queries change with time (mutable.go). What went
// wrong becomes a status code in one table (errors.go).
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
)

// Config configures a Server.
type Config struct {
	// Store keeps what was fetched. Required.
	Store cache.Store
	// Public is where public modules come from. Required.
	Public Source
	// Verifier proves public modules. nil: they are served as Public sends
	// them, if they are well-formed.
	Verifier Verifier
	// Private is where private modules come from. nil: they are not fetched.
	Private Source
	// Pins proves that a private module is what it was at first. nil: it is
	// served as Private sends it, if it is well-formed.
	Pins Verifier
	// Policy is asked on every request. Required.
	Policy Policy
	// SumDB answers the paths behind "sumdb/", which it sees without that
	// prefix. nil: there is no checksum database here, and the go command goes
	// to its own.
	SumDB http.Handler
	// BasePath is the path under which the server stands, as "/go/". Default:
	// "/".
	BasePath string
	// Settings are what clients must set beside GOPROXY, as in
	// "GOPRIVATE=git.corp.example", for the front page; one that a shell would
	// change stands in single quotes. Default: nothing.
	Settings []string
	// ListTTL is how long list, @latest and queries are answered from the
	// store before the source is asked again. Zero: every time.
	ListTTL time.Duration
	// StaleTTL is how old they may be and still be served while the source is
	// in trouble. Zero: as old as they are.
	StaleTTL time.Duration
	// NegativeTTL is how long it is remembered that something is absent. Zero:
	// not at all.
	NegativeTTL time.Duration
	// PrivateTTL is ListTTL for private modules, and the longest that one is
	// remembered to be absent. Zero: every time.
	PrivateTTL time.Duration
	// Zips is how many zips may be fetched at once. Default: 32.
	Zips int
	// Smalls is how many other files may be fetched at once. Default: 256.
	Smalls int
	// LookAhead is how many go.mod and .info files may be fetched at once
	// before a client asks for them. Zero: none.
	LookAhead int
	// Redirect sends clients for zips that are public and proven to where the
	// Store keeps them, if it is a cache.Locator.
	Redirect bool
	// Logger may be nil.
	Logger *slog.Logger
}

// Server answers the requests of go commands. It is safe for concurrent use.
type Server struct {
	cfg      Config
	log      *slog.Logger
	base     string // ends with a slash
	public   *supply
	private  *supply // nil: private modules are not fetched
	spooler  cache.Spooler
	fleet    fleet         // nil: the store is ours alone
	locator  cache.Locator // nil: nobody is sent elsewhere
	flights  *flights
	zips     *slots
	small    *slots
	checks   chan struct{} // bounds how many zips are checked at once
	negative *negative
	renewed  renewals
	parsed   *parsed
	suspects *suspects
	known    *known
	aliases  *aliases
	tired    *negative // lists that could not be refreshed soon, paths whose facts could not be had
	doubles  *doubles
	lists    *nameLocks // held while a stored list is changed
	ahead    *lookahead
	metrics  *metrics
	buffers  sync.Pool // of *[]byte
}

// New checks cfg and returns the Server. It starts nothing; the caller runs
// Run beside it.
func New(cfg Config) (*Server, error) {
	var errs []error
	if cfg.Store == nil || cfg.Public == nil || cfg.Policy == nil {
		errs = append(errs, errors.New("proxy: Store, Public and Policy are required"))
	}
	if cfg.ListTTL < 0 || cfg.StaleTTL < 0 || cfg.NegativeTTL < 0 || cfg.PrivateTTL < 0 || cfg.Zips < 0 || cfg.Smalls < 0 || cfg.LookAhead < 0 {
		errs = append(errs, errors.New("proxy: a time or a number is negative"))
	}
	base := "/" + strings.Trim(cfg.BasePath, "/")
	if base != "/" {
		base += "/"
	}
	if strings.ContainsAny(base, "%?#@ \\") || strings.Contains(base, "//") {
		errs = append(errs, fmt.Errorf("proxy: base path %q: use plain path elements", cfg.BasePath))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if cfg.Zips == 0 {
		cfg.Zips = 32
	}
	if cfg.Smalls == 0 {
		cfg.Smalls = 256
	}
	s := &Server{
		cfg: cfg, base: base, log: cfg.Logger,
		zips:     newSlots(cfg.Zips),
		small:    newSlots(cfg.Smalls),
		checks:   make(chan struct{}, 2),
		negative: newNegative(),
		parsed:   newParsed(),
		suspects: newSuspects(),
		known:    newKnown(),
		aliases:  newAliases(),
		tired:    newNegative(),
		doubles:  newDoubles(),
		lists:    newNameLocks(),
		metrics:  newMetrics(),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.public = newSupply(cfg.Public, cfg.Verifier, cfg.ListTTL, cfg.NegativeTTL, "public")
	s.public.authority = cfg.Verifier != nil
	if cfg.Private != nil {
		s.private = newSupply(cfg.Private, cfg.Pins, cfg.PrivateTTL, min(cfg.PrivateTTL, cfg.NegativeTTL), "private")
	}
	s.flights = newFlights(s.log)
	s.spooler, _ = cfg.Store.(cache.Spooler)
	s.fleet, _ = cfg.Store.(fleet)
	s.locator = locatorOf(cfg.Store, cfg.Redirect)
	s.ahead = newLookahead(s, cfg.LookAhead)
	s.buffers.New = func() any { b := make([]byte, 64<<10); return &b }
	return s, nil
}

// Run does the background work until ctx ends, then ends all fetches and waits
// for them. A Server that has ended answers from the store alone.
func (s *Server) Run(ctx context.Context) error {
	s.ahead.run(ctx)
	s.flights.close()
	return nil
}

// Forget makes the server look again for what rules need to know about modules:
// something was removed from the store.
func (s *Server) Forget() {
	s.known.clear()
	s.aliases.clear()
}

// Collectors returns the metrics of the server.
func (s *Server) Collectors() []prometheus.Collector { return s.metrics.all }

// ServeHTTP answers one request and fills its access record.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := access.From(w)
	rec.Kind = kindOther
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), s.base)
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead && !strings.HasPrefix(path, "sumdb/"):
		rec.Outcome = access.Invalid
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, r, http.StatusMethodNotAllowed, "only GET and HEAD are possible here")
	case !ok && r.URL.Path+"/" == s.base, ok && path == "":
		s.servePage(w, r)
	case !ok:
		rec.Outcome = access.Invalid
		refuse(w, r, http.StatusNotFound, "not found: this proxy is served under "+s.base)
	case strings.HasPrefix(path, "sumdb/"):
		s.serveSumDB(w, r, strings.TrimPrefix(path, "sumdb/"))
	default:
		s.serveModule(w, r, path)
	}
}

// serveSumDB answers a request for a checksum database. path is what follows
// "sumdb/", still percent-encoded, and has to be as plain as that of a module.
func (s *Server) serveSumDB(w http.ResponseWriter, r *http.Request, path string) {
	rec := access.From(w)
	rec.Kind = kindSumDB
	if s.cfg.SumDB == nil {
		rec.Outcome = access.Local
		refuse(w, r, http.StatusNotFound, "no checksum database is mirrored here")
		return
	}
	name, err := unquote(path)
	if err == nil && (strings.Contains("/"+name, "//") || len(name) > 2*maxPath) {
		err = fmt.Errorf("%w: it has an empty element, or more than %d bytes", errRequest, 2*maxPath)
	}
	if err != nil {
		rec.Outcome, rec.Err = access.Invalid, err
		refuse(w, r, http.StatusNotFound, err.Error())
		return
	}
	http.StripPrefix(s.base+"sumdb/", s.cfg.SumDB).ServeHTTP(w, r)
}

// serveModule answers a request for a module: whether and where its name may
// be looked up comes before everything else.
func (s *Server) serveModule(w http.ResponseWriter, r *http.Request, path string) {
	rec := access.From(w)
	req, err := s.parsed.parse(path)
	if err != nil {
		rec.Outcome, rec.Err = access.Invalid, err
		refuse(w, r, http.StatusNotFound, err.Error())
		return
	}
	rec.Kind, rec.Module, rec.Version = req.kind, req.mod.Path, req.mod.Version
	caller := policy.Caller{Name: rec.Caller, Groups: rec.Groups}
	route := s.cfg.Policy.Route(caller, req.mod.Path)
	if req.from = s.supplyOf(route); req.from == nil {
		rec.Outcome = access.Local
		refuse(w, r, http.StatusNotFound, noSupply(req.mod.Path, route))
		return
	}
	if req.from == s.private && !s.mayRead(w, r, caller, req) {
		return
	}
	if req.immutable() {
		s.serveFile(w, r, caller, req)
	} else {
		s.serveMutable(w, r, caller, req)
	}
}

// inForce returns the rules that decide now.
func (s *Server) inForce() Policy {
	if p, ok := s.cfg.Policy.(replaceable); ok {
		return p.Current()
	}
	return s.cfg.Policy
}
