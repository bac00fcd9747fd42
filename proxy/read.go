package proxy

import (
	"context"
	"errors"
	"time"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// refreshPatience is how long a decision waits for a list to become fresh if it
// has an older one.
const refreshPatience = time.Second

// staleFor is how long an answer that could not be refreshed is worth remembering:
// it is to be noticed when the source is back.
const staleFor = time.Second

// sibling returns the request for another file of the same module.
func (r *request) sibling(kind, version string) request {
	out := request{kind: kind, mod: module.Version{Path: r.mod.Path, Version: version}, from: r.from, rules: r.rules}
	path, err := module.EscapePath(r.mod.Path)
	if err != nil {
		return out // not possible: the path has been unescaped
	}
	switch kind {
	case kindList:
		out.name = path + "/@v/list"
	case kindLatest:
		out.name = path + "/@latest"
	default:
		out.name, _ = fileName(out.mod, kind)
	}
	return out
}

// read returns a small immutable file, fetched if it is not here.
func (s *Server) read(ctx context.Context, req request) ([]byte, error) {
	for {
		obj, err := s.get(ctx, req.name)
		if err == nil && obj.Attrs.SHA256 != "" {
			return obj.ReadAll(modzip.MaxGoMod)
		} else if err == nil {
			obj.Close()
		}
		if s.absentNow(req) {
			return nil, errAbsentBefore
		}
		body, err := s.fetchSmall(ctx, req)
		if !errors.Is(err, errStored) {
			return body, err
		}
	}
}

func (s *Server) fetchSmall(ctx context.Context, req request) ([]byte, error) {
	f, _ := s.joinFill(req)
	defer s.flights.leave(f)
	if err := wait(ctx, f.done); err != nil {
		return nil, err
	}
	if f.err != nil && s.wasAbsent(req, f.err) {
		return nil, errAbsentBefore
	}
	return f.body, f.err
}

// current returns an answer of the source that changes with time: fresh if that
// can be had soon, else the one that is stored. A list of the files that happen to
// be here is none: rules would be held against a part of the truth. Its ttl is how
// long it need not be asked for again.
func (s *Server) current(ctx context.Context, req request) (mutable, error) {
	old, have := s.load(ctx, req)
	if have && s.fresh(req, old.attrs.Checked) {
		old.ttl = req.from.list - time.Since(old.attrs.Checked)
		return old, nil
	}
	old.ttl = min(staleFor, req.from.list)
	switch absent := s.absentNow(req); {
	case have && (absent || s.tired.fresh(req.name, restFrom)):
		return old, nil
	case absent:
		return mutable{}, errAbsentBefore
	}
	if have {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, refreshPatience)
		defer cancel()
	}
	f, _ := s.flights.join(req.name, smallLimit, func(ctx context.Context, f *flight) error { return s.refresh(ctx, f, req) })
	defer s.flights.leave(f)
	err := wait(ctx, f.done)
	if err == nil {
		err = f.err
	}
	switch {
	case err == nil:
		return mutable{body: f.body, attrs: f.attrs, ttl: req.from.list}, nil
	case have:
		s.tired.remember(req.name)
		return old, nil
	}
	return mutable{}, err
}
