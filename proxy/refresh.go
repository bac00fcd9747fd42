package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

// renewer is an optional ability of a Source that remembers things for a while:
// questions about the module path are answered by what is true now or later.
type renewer interface{ Renew(path string) }

// Refreshed is one answer that was asked for anew.
type Refreshed struct {
	// Name is its path in the protocol.
	Name string
	// Changed says that it is not what it was.
	Changed bool
	// Err is why the source gave none. fs.ErrNotExist: there is none.
	Err error
}

// maxAnew is how many answers about a module Refresh asks for at once: a module
// has as many queries as it has branches and commits.
const maxAnew = 100

// Refresh asks the source anew for what changes of the module path: its list
// of versions, and what else is stored of it, up to 100 answers. The rest, of
// which there are later, is asked for when it is next wanted, like what was absent,
// here or in another server of the fleet, and what changes there. The error says
// that the module has no source.
func (s *Server) Refresh(ctx context.Context, path string) (all []Refreshed, later int, err error) {
	escaped, err := module.EscapePath(path)
	if err != nil {
		return nil, 0, err
	}
	route := s.cfg.Policy.Route(policy.Caller{}, path)
	from := s.supplyOf(route)
	if from == nil {
		return nil, 0, errors.New(noSupply(path, route))
	}
	since := time.Now()
	s.renewed.set(escaped, since)
	if s.fleet != nil {
		if err := s.fleet.Announce(ctx, escaped+renewal); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			s.log.Warn("the other replicas could not be told to ask anew; they do when the time of their answers is over", "module", path, "error", err)
		}
	}
	from.renew(path)
	names, later, err := s.changing(ctx, escaped)
	if err != nil {
		return nil, 0, fmt.Errorf("the cache could not be listed: %w", err)
	}
	defer s.known.forget(path)
	for _, name := range names {
		req, err := parse(name)
		if err != nil {
			continue
		}
		req.from = from
		all = append(all, s.askAnew(ctx, req, since))
	}
	return all, later, ctx.Err()
}

// changing returns the names of the list of a module, and of what else is stored
// of it that changes, up to maxAnew; more is the number of the others.
func (s *Server) changing(ctx context.Context, escaped string) (names []string, more int, err error) {
	names = []string{escaped + "/@v/list"}
	if o, err := s.get(ctx, escaped+"/@latest"); err == nil {
		_ = o.Close()
		names = append(names, escaped+"/@latest")
	}
	first := len(names)
	for e, err := range s.cfg.Store.List(ctx, escaped+"/@v/") {
		if err != nil {
			return nil, 0, err
		}
		if r, err := parse(e.Name); err == nil && r.kind == kindQuery {
			names = append(names, e.Name)
		}
	}
	slices.Sort(names[first:])
	more = max(0, len(names)-maxAnew)
	return names[:len(names)-more], more, nil
}

// askAnew asks for what req means as it is at since or later.
func (s *Server) askAnew(ctx context.Context, req request, since time.Time) Refreshed {
	r := Refreshed{Name: req.name}
	old, have := s.load(ctx, req)
	// The first flight may have begun before that.
	for range 2 {
		f, first := s.flights.join(req.name, smallLimit, func(ctx context.Context, f *flight) error { return s.refresh(ctx, f, req) })
		r.Err = wait(ctx, f.done)
		if r.Err == nil {
			r.Err = f.err
			r.Changed = f.err == nil && (!have || !bytes.Equal(old.body, f.body)) || errors.Is(f.err, fs.ErrNotExist) && have && req.kind == kindQuery
		}
		s.flights.leave(f)
		if first || ctx.Err() != nil || r.Err == nil && f.attrs.Checked.After(since) {
			break
		}
	}
	return r
}

// renewal ends the name by which servers of a fleet tell each other that what
// they remember of a module is to be asked for anew. Nothing is stored under it.
const renewal = "/@renew"

// Heard is to be called for each name that another server of the fleet has
// announced, once what it has removed is removed here. What was remembered of
// the module, beside what is stored, is looked for again; that of all modules if
// name is empty, which says that some names may have been missed.
func (s *Server) Heard(name string) {
	if name == "" {
		s.Forget()
		return
	}
	if escaped, ok := strings.CutSuffix(name, renewal); ok {
		s.heardRenewal(escaped)
		return
	}
	req, err := parse(name)
	if err != nil {
		return // nothing of a module
	}
	s.known.forget(req.mod.Path)
	if req.immutable() { // nobody speaks of it but when it is gone somewhere
		s.aliases.forget(req.mod.Path)
	}
}

func (s *Server) heardRenewal(escaped string) {
	s.renewed.set(escaped, time.Now())
	path, err := module.UnescapePath(escaped)
	if err != nil {
		return
	}
	s.known.forget(path)
	if from := s.supplyOf(s.cfg.Policy.Route(policy.Caller{}, path)); from != nil {
		from.renew(path)
	}
}

func (s *supply) renew(path string) {
	if r, ok := s.source.(renewer); ok {
		r.Renew(path)
	}
}

// fresh reports whether a stored answer that was confirmed at checked will do.
// A negative age is that of a clock which was put back.
func (s *Server) fresh(req request, checked time.Time) bool {
	age := time.Since(checked)
	return 0 <= age && age < req.from.list && checked.After(s.renewed.of(req.name))
}

// absentNow reports whether what req means was absent a moment ago.
func (s *Server) absentNow(req request) bool {
	at, ok := s.negative.at(req.name)
	return ok && time.Since(at) < req.from.negative && at.After(s.renewed.of(req.name))
}

// renewals remembers when all answers about a module were last asked for anew.
// It is bounded: when it is full, all of it is forgotten, and old answers are
// fresh again until their time is over.
type renewals struct {
	mu sync.RWMutex
	at map[string]time.Time // by escaped path; guarded by mu
}

// maxRenewals is the number of modules remembered.
const maxRenewals = 10_000

func (r *renewals) set(escaped string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil || len(r.at) >= maxRenewals {
		r.at = make(map[string]time.Time)
	}
	r.at[escaped] = at
}

// of returns when that was for the module of a stored name, the zero time if
// never.
func (r *renewals) of(name string) time.Time {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.at) == 0 {
		return time.Time{}
	}
	escaped, _, _ := strings.Cut(name, "/@")
	return r.at[escaped]
}
