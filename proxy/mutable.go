package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
)

// maxList bounds a list of versions, in bytes.
const maxList = 16 << 20

// serveMutable answers list, @latest and queries: from the store while it is
// fresh, else from the source, and from the store again, however old, if the
// source is in trouble.
func (s *Server) serveMutable(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request) {
	rec := access.From(w)
	old, have := s.load(r.Context(), req)
	age := time.Since(old.attrs.Checked)
	switch {
	case have && (s.fresh(req, old.attrs.Checked) || cacheOnly(r)):
		rec.Outcome = access.Hit
		old.ttl = req.from.list - max(age, 0)
		s.serveAnswer(w, r, caller, req, old)
		return
	case cacheOnly(r):
		if l, ok := s.localList(r.Context(), req); ok {
			rec.Outcome = access.Hit
			s.serveAnswer(w, r, caller, req, l)
			return
		}
		s.fail(w, r, req, notCached{})
		return
	case s.absentNow(req):
		s.serveStale(w, r, caller, req, errAbsentBefore)
		if rec.Outcome == access.Absent {
			rec.Outcome = access.Negative
		}
		return
	}
	f, first := s.flights.join(req.name, smallLimit, func(ctx context.Context, f *flight) error {
		return s.refresh(ctx, f, req)
	})
	defer s.flights.leave(f)
	rec.Outcome = access.Miss
	if !first {
		rec.Outcome = access.Follow
	}
	if err := s.waitFresh(r.Context(), f, have && (s.cfg.StaleTTL == 0 || age <= s.cfg.StaleTTL)); err != nil {
		if errors.Is(err, errSlow) {
			s.serveStale(w, r, caller, req, err)
			return
		}
		s.fail(w, r, req, err)
		return
	}
	if f.err == nil {
		s.serveAnswer(w, r, caller, req, mutable{body: f.body, attrs: f.attrs, ttl: req.from.list})
		return
	}
	s.serveStale(w, r, caller, req, f.err)
}

// stalePatience is how long a client waits for a fresh answer where an old one
// is here. The source is then in trouble, or so far away that the old one is
// what a person prefers; asking goes on without the client.
const stalePatience = 3 * time.Second

// errSlow says that stalePatience is over.
var errSlow = fmt.Errorf("no answer within %v; the one of before is served", stalePatience)

// waitFresh waits for f: not for long if there is an older answer.
func (s *Server) waitFresh(ctx context.Context, f *flight, have bool) error {
	if !have {
		return wait(ctx, f.done)
	}
	timer := time.NewTimer(stalePatience)
	defer timer.Stop()
	select {
	case <-f.done:
		return nil
	case <-timer.C:
		return errSlow
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// mutable is an answer that changes with time.
type mutable struct {
	body  []byte
	attrs cache.Attrs
	ttl   time.Duration // how long clients may keep it
	part  bool          // a list of what is stored: there may be more
}

// load reads the stored answer, fresh or not.
func (s *Server) load(ctx context.Context, req request) (mutable, bool) {
	obj, err := s.get(ctx, req.name)
	if err != nil {
		return mutable{}, false
	}
	body, err := obj.ReadAll(maxList)
	if err != nil {
		s.log.Warn("the cache could not be read", "name", req.name, "error", err)
		return mutable{}, false
	}
	return mutable{body: body, attrs: obj.Attrs}, true
}

// serveStale answers when the source has failed. What was confirmed longer ago
// than StaleTTL, or nobody knows when, is not believed.
func (s *Server) serveStale(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request, cause error) {
	rec := access.From(w)
	gone := errors.Is(cause, fs.ErrNotExist)
	// A branch that is gone is gone. A module that has vanished is still what
	// builds depend on, and what is here of it can be told.
	if old, have := s.load(r.Context(), req); have && !(gone && req.kind == kindQuery) {
		if !gone && s.cfg.StaleTTL > 0 && time.Since(old.attrs.Checked) > s.cfg.StaleTTL {
			s.fail(w, r, req, cause)
			return
		}
		rec.Trouble(access.Stale, cause)
		if !old.attrs.Checked.IsZero() {
			w.Header().Set("Age", seconds(time.Since(old.attrs.Checked)))
		}
		s.serveAnswer(w, r, caller, req, old)
		return
	}
	if s.wasAbsent(req, cause) {
		s.fail(w, r, req, s.remembered(req, cause))
		rec.Trouble(access.Stale, cause)
		return
	}
	if l, ok := s.localList(r.Context(), req); ok {
		rec.Trouble(access.Stale, cause)
		s.serveAnswer(w, r, caller, req, l)
		return
	}
	s.fail(w, r, req, cause)
}

// serveAnswer sends an answer that changes with time.
func (s *Server) serveAnswer(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request, a mutable) {
	a, ok := s.shape(w, r, caller, req, a)
	if !ok {
		return
	}
	serveBytes(w, r, content{req.kind, req.from.maxAge(a.ttl), a.attrs.SHA256, a.body})
}

// askSource asks the source and stores its answer.
func (s *Server) askSource(ctx context.Context, f *flight, req request) error {
	if err := s.small.take(ctx); err != nil {
		return err
	}
	defer s.small.give()
	s.metrics.fetching.Inc()
	defer s.metrics.fetching.Dec()

	var err error
	switch req.kind {
	case kindList:
		var versions []string
		if versions, err = req.from.source.List(ctx, req.mod.Path); err == nil {
			s.storeList(ctx, f, req, versions)
		}
	case kindLatest:
		err = s.refreshInfo(ctx, f, req, Latest)
	default:
		err = s.refreshInfo(ctx, f, req, req.mod.Version)
	}
	switch {
	case err == nil:
		s.negative.forget(req.name)
	case errors.Is(err, fs.ErrNotExist):
		s.negative.remember(req.name)
		if req.kind == kindQuery {
			s.forgetQuery(ctx, req)
		}
	}
	return err
}

// forgetQuery removes what a branch was, so that it does not come back while
// the source is in trouble.
func (s *Server) forgetQuery(ctx context.Context, req request) {
	if err := s.cfg.Store.Delete(ctx, req.name); err != nil {
		s.metrics.cacheErrors.WithLabelValues("delete").Inc()
		s.log.Warn("the cache could not delete a file", "name", req.name, "error", err)
	}
}

func (s *Server) refreshInfo(ctx context.Context, f *flight, req request, query string) error {
	data, err := req.from.source.Info(ctx, req.mod.Path, query)
	if err != nil {
		return err
	}
	var info struct{ Version string }
	if err := json.Unmarshal(data, &info); err != nil || module.CanonicalVersion(info.Version) != info.Version || info.Version == "" {
		return &badContent{"the .info that came names no version", fmt.Errorf("version %q: %w", info.Version, errors.Join(err, errRequest))}
	}
	s.metrics.fetched.Add(float64(len(data)))
	f.body = data
	s.confirm(ctx, f)
	return nil
}

// confirm stores what a source has just said. Unchanged bytes are not written
// again.
func (s *Server) confirm(ctx context.Context, f *flight) {
	now := time.Now()
	f.attrs.Checked = now
	if t, ok := s.cfg.Store.(cache.Toucher); ok {
		if old, err := s.get(ctx, f.name); err == nil {
			attrs := old.Attrs
			body, err := old.ReadAll(maxList)
			if err == nil && attrs.SHA256 != "" && bytes.Equal(body, f.body) && t.Touch(ctx, f.name, now) == nil {
				attrs.Checked = now
				f.attrs = attrs
				return
			}
		}
	}
	s.put(ctx, f, cache.Mutable)
}

// storeList stores the versions of a module: those of the source, and those
// that are here, since a source may take its time to list what it serves.
func (s *Server) storeList(ctx context.Context, f *flight, req request, versions []string) {
	mu := s.lists.of(req.name)
	mu.Lock()
	defer mu.Unlock()
	local, err := s.localVersions(ctx, req)
	if err != nil {
		s.log.Warn("the cache could not be listed", "module", req.mod.Path, "error", err)
	}
	f.body = listBody(append(versions, local...))
	s.metrics.fetched.Add(float64(len(f.body)))
	s.confirm(ctx, f)
}

// listBody formats versions as the protocol wants a list: sorted, each once.
func listBody(versions []string) []byte {
	versions = slices.Clone(versions)
	semver.Sort(versions)
	versions = slices.Compact(versions)
	if len(versions) == 0 {
		return nil
	}
	return []byte(strings.Join(versions, "\n") + "\n")
}

// localVersions returns the tagged versions of which a file is stored, each once
// per file.
func (s *Server) localVersions(ctx context.Context, req request) ([]string, error) {
	prefix := strings.TrimSuffix(req.name, "list")
	var versions []string
	for e, err := range s.cfg.Store.List(ctx, prefix) {
		if err != nil {
			return versions, err
		}
		r, err := parse(e.Name)
		if err == nil && r.immutable() && !module.IsPseudoVersion(r.mod.Version) {
			versions = append(versions, r.mod.Version)
		}
	}
	return versions, nil
}

// holds reports whether anything is stored of the module that req, for a file of
// a version, asks about: a version, or a list that names one.
func (s *Server) holds(ctx context.Context, req request) bool {
	prefix := req.name[:strings.LastIndexByte(req.name, '/')+1]
	for e, err := range s.cfg.Store.List(ctx, prefix) {
		if err != nil {
			break
		}
		if r, err := parse(e.Name); err == nil && r.immutable() {
			return true
		}
	}
	list, _ := s.load(ctx, request{kind: kindList, name: prefix + "list"})
	return len(bytes.TrimSpace(list.body)) > 0
}

// localList makes a list of what is stored; ok is false if req is not for a
// list or nothing is.
func (s *Server) localList(ctx context.Context, req request) (l mutable, ok bool) {
	if req.kind != kindList {
		return mutable{}, false
	}
	versions, err := s.localVersions(ctx, req)
	if err != nil || len(versions) == 0 {
		return mutable{}, false
	}
	return mutable{body: listBody(versions), part: true}, true
}

// addToList makes a version that was just fetched appear in the stored list.
func (s *Server) addToList(ctx context.Context, m module.Version) {
	defer s.known.forget(m.Path)
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return
	}
	s.negative.forget(path + "/@v/list")
	s.negative.forget(path + "/@latest")
	if module.IsPseudoVersion(m.Version) {
		return
	}
	req := request{kind: kindList, name: path + "/@v/list"}
	mu := s.lists.of(req.name)
	mu.Lock()
	defer mu.Unlock()
	old, have := s.load(ctx, req)
	if !have || old.attrs.SHA256 == "" {
		return
	}
	versions := strings.Fields(string(old.body))
	if slices.Contains(versions, m.Version) {
		return
	}
	opts := cache.PutOptions{Class: cache.Mutable, Attrs: cache.Attrs{Source: old.attrs.Source, Checked: old.attrs.Checked}}
	s.stored(req.name, s.cfg.Store.Put(ctx, req.name, bytes.NewReader(listBody(append(versions, m.Version))), opts))
}
