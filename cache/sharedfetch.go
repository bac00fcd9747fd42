package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"
)

// Names of the shared tiers in metrics.
const (
	tierFast   = "redis"
	tierBucket = "bucket"
)

// fetch copies name near from what is shared and opens it. missed is why it is
// not near, and is returned if it is nowhere. If patient it waits for a fast store
// that has just got into trouble.
func (s *Shared) fetch(ctx context.Context, name string, missed error, patient bool) (*Object, error) {
	// One of many who want it fetches it.
	leave, err := s.fetches.enter(ctx, name)
	if err != nil {
		return nil, err
	}
	defer leave()
	if o, err := s.inner.Get(ctx, name); err == nil || !errors.Is(err, fs.ErrNotExist) && errors.Is(missed, fs.ErrNotExist) {
		return o, err
	}
	for _, far := range []struct {
		tier  string
		store Store
	}{{tierFast, s.c.Fast}, {tierBucket, s.c.Bucket}} {
		if far.store == nil {
			continue
		}
		o, err := s.getFar(ctx, far.store, name, patient && far.tier == tierFast)
		s.m.read(far.tier, err)
		if err != nil {
			continue
		}
		if o, err = s.promote(ctx, far.store, o); err == nil {
			return o, nil
		}
		if ctx.Err() == nil {
			s.log.Warn("an object could not be read from the "+far.tier, "name", name, "error", err)
		}
	}
	if ctx.Err() == nil {
		s.absent.add(name)
	}
	return nil, missed
}

func (s *Shared) getFar(ctx context.Context, far Store, name string, patient bool) (o *Object, err error) {
	if !patient {
		return far.Get(ctx, name)
	}
	err = s.patiently(ctx, far, func() (err error) {
		o, err = far.Get(ctx, name)
		return err
	})
	return o, err
}

// promote copies o near and returns it from there, or, if that cannot be, from
// where it came. It closes o.
func (s *Shared) promote(ctx context.Context, far Store, o *Object) (*Object, error) {
	name, opts := o.Name, PutOptions{Class: o.Class, Attrs: o.Attrs}
	var body io.Reader = bytes.NewReader(o.Bytes)
	if o.Body != nil {
		body = &farBody{Reader: o.Body}
	}
	put := s.inner.Put(ctx, name, body, opts)
	_ = o.Close()
	if b, ok := body.(*farBody); ok && b.err != nil {
		return nil, b.err
	}
	if put == nil || errors.Is(put, ErrConflict) {
		return s.inner.Get(ctx, name)
	}
	if ctx.Err() != nil {
		return nil, put
	}
	s.log.Warn("an object cannot be copied near and is served from afar", "name", name, "error", put)
	if o.Body == nil {
		return o, nil
	}
	return far.Get(ctx, name)
}

// farBody remembers whether it was the body that failed.
type farBody struct {
	io.Reader
	err error
}

func (b *farBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// renew replaces a mutable object by that of the fast store, if that is newer.
func (s *Shared) renew(ctx context.Context, name string) {
	if s.c.Fast == nil {
		return
	}
	o, err := s.c.Fast.Get(ctx, name)
	s.m.read(tierFast, err)
	if err != nil {
		return // what is near will do until its time is over
	}
	near, err := s.inner.Get(ctx, name)
	if err == nil {
		_ = near.Close()
		same := near.Attrs.SHA256 == o.Attrs.SHA256
		if near.Attrs.Checked.After(o.Attrs.Checked) || same && near.Attrs.Checked.Equal(o.Attrs.Checked) {
			_ = o.Close()
			return
		}
	}
	if o, err := s.promote(ctx, s.c.Fast, o); err == nil {
		_ = o.Close()
	}
}

// heard notes what another process has done.
func (s *Shared) heard(ctx context.Context, name string, gone bool) {
	if name == "" {
		// Messages may have been missed. What has changed meanwhile is noticed
		// when its time is over.
		s.located.clear()
		if s.c.Heard != nil {
			s.c.Heard("")
		}
		return
	}
	s.absent.remove(name)
	s.located.forget(name)
	if gone {
		s.backlog.remove(ctx, name)
		if err := s.inner.Delete(ctx, name); err != nil {
			s.log.Warn("an object that another replica has removed is still here", "name", name, "error", err)
		}
	} else {
		s.stale.add(name)
	}
	if s.c.Heard != nil { // last: what is read from now on is what holds
		s.c.Heard(name)
	}
}

// nameSet is a bounded set of names. One that is full forgets all.
type nameSet struct {
	n  atomic.Int64
	mu sync.Mutex
	m  map[string]struct{} // guarded by mu
}

const maxNames = 1 << 16

func (s *nameSet) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil || len(s.m) >= maxNames {
		s.m = make(map[string]struct{})
	}
	s.m[name] = struct{}{}
	s.n.Store(int64(len(s.m)))
}

// take removes name and reports whether it was there.
func (s *nameSet) take(name string) bool {
	if s.n.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.m[name]
	delete(s.m, name)
	s.n.Store(int64(len(s.m)))
	return ok
}

// absences remembers for a second what is nowhere.
type absences struct {
	mu sync.Mutex
	m  map[string]time.Time // until when; guarded by mu
}

const absentFor = time.Second

func (a *absences) add(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.m == nil || len(a.m) >= maxNames {
		a.m = make(map[string]time.Time)
	}
	a.m[name] = time.Now().Add(absentFor)
}

func (a *absences) has(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	until, ok := a.m[name]
	if ok && time.Now().After(until) {
		delete(a.m, name)
		return false
	}
	return ok
}

func (a *absences) remove(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.m, name)
}

// nameQueues lets one at a time work on a name.
type nameQueues struct {
	mu sync.Mutex
	m  map[string]*nameQueue // guarded by mu
}

type nameQueue struct {
	turn  chan struct{} // has a place for one
	users int           // guarded by nameQueues.mu
}

func (q *nameQueues) enter(ctx context.Context, name string) (leave func(), err error) {
	q.mu.Lock()
	if q.m == nil {
		q.m = make(map[string]*nameQueue)
	}
	e := q.m[name]
	if e == nil {
		e = &nameQueue{turn: make(chan struct{}, 1)}
		q.m[name] = e
	}
	e.users++
	q.mu.Unlock()
	drop := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(q.m, name)
		}
	}
	select {
	case e.turn <- struct{}{}:
		return func() { <-e.turn; drop() }, nil
	case <-ctx.Done():
		drop()
		return nil, ctx.Err()
	}
}
