package proxy

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/modgate/modgate/cache"
)

// fleet is an optional ability of a Store that other servers share.
type fleet interface {
	cache.Leaser
	// Look is Get, but knows what others have stored until now.
	Look(ctx context.Context, name string) (*cache.Object, error)
	// Announce makes the others hear a name under which nothing is stored.
	Announce(ctx context.Context, name string) error
}

// How a fetch of one server of a fleet came out.
const (
	fleetFetched   = "fetched"    // we had the lease
	fleetFound     = "found"      // another server has fetched it
	fleetTakenOver = "taken_over" // another had the lease, and brought nothing
	fleetAlone     = "alone"      // nobody knows who has it, or it took too long
)

// A lease is asked for again after a moment that grows. What takes longer than
// fleetPatience is fetched by ourselves: then it is the other server, or its
// way to its upstream, that is in trouble.
const (
	leaseFirst    = 10 * time.Millisecond
	leaseLongest  = 250 * time.Millisecond
	fleetPatience = 90 * time.Second
)

// once fetches name, unless another server of the fleet is about to: then it
// waits for what that brings. have looks at what is stored, which it does not
// close, and reports whether it will do. found says that it did, and nothing
// was fetched. Without a fleet, or if its leases are out of reach, it fetches.
func (s *Server) once(ctx context.Context, name string, have func(*cache.Object) bool, fetch func() error) (found bool, err error) {
	if s.fleet == nil {
		return false, fetch()
	}
	begin, pause, other := time.Now(), leaseFirst, ""
	for {
		release, holder, err := s.fleet.Lease(ctx, name)
		switch {
		case ctx.Err() != nil:
			if release != nil {
				release()
			}
			return false, context.Cause(ctx)
		case err != nil && errors.Is(err, errors.ErrUnsupported):
			return false, fetch()
		case err != nil, release == nil && time.Since(begin) > fleetPatience:
			s.log.Debug("fetching without a lease", "name", name, "waited", time.Since(begin), "error", err)
			return s.goAlone(ctx, name, have, fetch)
		case release != nil:
			s.log.Debug("got the lease", "name", name, "lease", holder, "before", other, "waited", time.Since(begin))
			return s.withLease(ctx, name, have, fetch, lease{release, other != ""})
		}
		// Somebody else has the lease who had it not a moment ago: the one
		// before has done something.
		if other != "" && holder != other && s.look(ctx, name, have) {
			s.metrics.fleet.WithLabelValues(fleetFound).Inc()
			return true, nil
		}
		other = holder
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(pause):
		}
		pause = min(pause*3/2, leaseLongest)
	}
}

// lease that we hold.
type lease struct {
	release func()
	waited  bool
}

// withLease fetches name if it has not come meanwhile.
func (s *Server) withLease(ctx context.Context, name string, have func(*cache.Object) bool, fetch func() error, l lease) (found bool, err error) {
	defer l.release()
	switch {
	case s.look(ctx, name, have):
		s.metrics.fleet.WithLabelValues(fleetFound).Inc()
		return true, nil
	case l.waited:
		s.metrics.fleet.WithLabelValues(fleetTakenOver).Inc()
	default:
		s.metrics.fleet.WithLabelValues(fleetFetched).Inc()
	}
	return false, fetch()
}

// goAlone fetches name without a lease. It may have come all the same.
func (s *Server) goAlone(ctx context.Context, name string, have func(*cache.Object) bool, fetch func() error) (found bool, err error) {
	if s.look(ctx, name, have) {
		s.metrics.fleet.WithLabelValues(fleetFound).Inc()
		return true, nil
	}
	s.metrics.fleet.WithLabelValues(fleetAlone).Inc()
	return false, fetch()
}

// look reports whether what is stored under name now will do.
func (s *Server) look(ctx context.Context, name string, have func(*cache.Object) bool) bool {
	o, err := s.fleet.Look(ctx, name)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
			s.metrics.cacheErrors.WithLabelValues("get").Inc()
			s.log.Warn("the cache could not be read", "name", name, "error", err)
		}
		return false
	}
	defer o.Close()
	return have(o)
}

// fillOnce is fill, once in a fleet.
func (s *Server) fillOnce(ctx context.Context, f *flight, r request) error {
	proven := func(o *cache.Object) bool { return o.Attrs.SHA256 != "" }
	found, err := s.once(ctx, r.name, proven, func() error { return s.fill(ctx, f, r) })
	if found || s.broughtByOthers(ctx, f, r.name, err, proven) {
		return errStored
	}
	return err
}

// broughtByOthers reports whether another server has stored name while we failed
// to fetch it, with err: where leases are out of reach, two begin at once, and the
// source may be in trouble for one of them. What it says is absent is believed.
func (s *Server) broughtByOthers(ctx context.Context, f *flight, name string, err error, have func(*cache.Object) bool) bool {
	if err == nil || s.fleet == nil || f.followed || ctx.Err() != nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errStored) {
		return false
	}
	return s.look(ctx, name, have)
}

// refresh asks the source and stores its answer, once in a fleet: an answer that
// another server has got a moment ago is as good.
func (s *Server) refresh(ctx context.Context, f *flight, r request) error {
	if r.from.list <= 0 {
		return s.askSource(ctx, f, r)
	}
	fresh := func(o *cache.Object) bool {
		if !s.fresh(r, o.Attrs.Checked) {
			return false
		}
		body, err := o.ReadAll(maxList)
		if err == nil {
			f.body, f.attrs = body, o.Attrs
			s.negative.forget(r.name)
		}
		return err == nil
	}
	_, err := s.once(ctx, r.name, fresh, func() error { return s.askSource(ctx, f, r) })
	return err
}
