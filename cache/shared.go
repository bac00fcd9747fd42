package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// SharedConfig configures a Shared.
type SharedConfig struct {
	// Bucket keeps, for all replicas, what does not change or cannot be fetched
	// again. nil: there is none.
	Bucket Store
	// Fast keeps, for all replicas, what is small, and alone what changes. It
	// may have the ability Leaser, and those to announce changes and to hear of
	// them. nil: there is none.
	Fast Store
	// MaxFast is the size up to which objects go to Fast, in bytes. Default
	// 128 KiB.
	MaxFast int64
	// Backlog is how many objects may wait to be written to the bucket. What is
	// beyond that is found again by a walk. Default 10,000.
	Backlog int
	// Writers is how many are written at once. Default 8.
	Writers int
	// Visible is how long a lease is kept for an object that is on its way to
	// the bucket, which is tried: once the bucket is in trouble nobody waits for
	// it. Default 1 minute.
	Visible time.Duration
	// Missed removes what others have purged while this process could not hear of
	// it. It is called before what has been near for long is written to the
	// bucket, which waits until it returns nil. Default: nothing is called.
	Missed func(ctx context.Context) error
	// Patience is how long Look and Lease wait for a fast store that has just got
	// into trouble, because what cannot be told then is fetched twice. Trouble
	// that is older is not waited for. Default 3 seconds.
	Patience time.Duration
	// Heard is called for each name that another process announces, when what
	// it has removed is removed here; and with "" where some may have been
	// missed. Default: nothing is called.
	Heard func(name string)
	// Logger receives what the shared tier could not do. nil discards.
	Logger *slog.Logger
}

// Shared is a Store of which each process of a fleet has one, in front of what
// they share: a bucket, and something fast like Redis.
//
// What is put is put near, which decides about success. Small objects go to
// the fast store at once, and everything but mutable objects goes to the bucket
// in the background. What is not near is looked for in both and copied near.
// Neither is a reason for an error: where they fail, Shared is the near Store.
//
// A mutable object that another process replaces is looked up in the fast store
// when it is next asked for, and one that it deletes is deleted here.
type Shared struct {
	wrapped // the near store
	c       SharedConfig
	log     *slog.Logger
	m       sharedMetrics
	backlog backlog
	mark    atomic.Pointer[string] // of the bucket; set while Run runs
	stale   nameSet                // mutable objects that others have replaced
	absent  absences
	located located
	fetches nameQueues
}

// NewShared puts near in front of what c names. The caller runs Run beside it.
func NewShared(near Store, c SharedConfig) (*Shared, error) {
	if c.Bucket == nil && c.Fast == nil {
		return nil, errors.New("shared cache: neither a bucket nor a fast store")
	}
	if c.MaxFast < 0 || c.Backlog < 0 || c.Writers < 0 || c.Visible < 0 || c.Patience < 0 {
		return nil, errors.New("shared cache: a number or a time is negative")
	}
	if c.MaxFast == 0 {
		c.MaxFast = 128 << 10
	}
	if c.Backlog == 0 {
		c.Backlog = 10_000
	}
	if c.Writers == 0 {
		c.Writers = 8
	}
	if c.Visible == 0 {
		c.Visible = time.Minute
	}
	if c.Patience == 0 {
		c.Patience = 3 * time.Second
	}
	s := &Shared{wrapped: wrapped{near}, c: c, log: c.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.backlog.init(c.Backlog)
	s.backlog.held = c.Missed != nil
	s.m.init(s)
	return s, nil
}

// Collectors are the metrics of the store.
func (s *Shared) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.m.reads, s.m.writes, s.m.backlog, s.m.dropped}
}

// Get implements Store. That an object is nowhere is believed for a second.
func (s *Shared) Get(ctx context.Context, name string) (*Object, error) {
	if s.stale.take(name) {
		s.renew(ctx, name)
	}
	o, err := s.inner.Get(ctx, name)
	if err == nil || errors.Is(err, ErrName) || ctx.Err() != nil || s.absent.has(name) {
		return o, err
	}
	return s.fetch(ctx, name, err, false)
}

// Look is Get, but knows what other processes have stored until now, and
// replaces a mutable object that is older than theirs.
func (s *Shared) Look(ctx context.Context, name string) (*Object, error) {
	s.stale.take(name)
	o, err := s.inner.Get(ctx, name)
	switch {
	case err == nil && o.Attrs.Checked.IsZero(), errors.Is(err, ErrName), ctx.Err() != nil:
		return o, err
	case err == nil:
		_ = o.Close()
		s.renew(ctx, name)
		return s.inner.Get(ctx, name)
	}
	return s.fetch(ctx, name, err, true)
}

// Put implements Store.
func (s *Shared) Put(ctx context.Context, name string, body io.Reader, opts PutOptions) error {
	if err := s.inner.Put(ctx, name, body, opts); err != nil {
		return err
	}
	s.publish(ctx, name, opts.Class)
	return nil
}

// PutSpool implements Spooler.
func (s *Shared) PutSpool(ctx context.Context, name string, f *os.File, opts PutOptions) error {
	if err := s.wrapped.PutSpool(ctx, name, f, opts); err != nil {
		return err
	}
	s.publish(ctx, name, opts.Class)
	return nil
}

// Touch implements Toucher.
func (s *Shared) Touch(ctx context.Context, name string, checked time.Time) error {
	if err := s.wrapped.Touch(ctx, name, checked); err != nil {
		return err
	}
	t, ok := s.c.Fast.(Toucher)
	if !ok {
		return nil
	}
	err := t.Touch(ctx, name, checked)
	if errors.Is(err, fs.ErrNotExist) {
		s.putFast(ctx, name, Mutable)
		return nil
	}
	s.m.write(tierFast, err)
	return nil
}

// Delete implements Store. The other processes are told. An error means that
// the object may still be somewhere.
func (s *Shared) Delete(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	s.backlog.remove(ctx, name)
	var errs []error
	// The far ones first, or a Get in between would fetch it from there.
	for _, far := range []Store{s.c.Bucket, s.c.Fast} {
		if far != nil {
			errs = append(errs, far.Delete(ctx, name))
		}
	}
	s.located.forget(name)
	errs = append(errs, s.inner.Delete(ctx, name), s.announce(ctx, name, true))
	return errors.Join(errs...)
}

// Quarantine implements Quarantiner, near and in the bucket: what has been shown
// to be wrong must not come back from there.
func (s *Shared) Quarantine(ctx context.Context, name, reason string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	s.backlog.remove(ctx, name)
	var errs []error
	if s.c.Bucket != nil {
		errs = append(errs, wrapped{s.c.Bucket}.Quarantine(ctx, name, reason))
		s.located.forget(name)
	}
	if s.c.Fast != nil {
		errs = append(errs, s.c.Fast.Delete(ctx, name))
	}
	errs = append(errs, s.wrapped.Quarantine(ctx, name, reason), s.announce(ctx, name, true))
	return errors.Join(errs...)
}

// Expire deletes name where it was first seen and last confirmed before a time,
// here and in what is shared, and reports whether there was anything. It is Delete
// of what was purged at that time. An error means that it may still be here or in
// the bucket.
func (s *Shared) Expire(ctx context.Context, name string, before time.Time) (removed bool, err error) {
	if err := CheckName(name); err != nil {
		return false, err
	}
	// The near one first, or it could be written to the bucket again. What cannot
	// be read goes, too.
	if old, err := older(ctx, s.inner, name, before); old || err != nil {
		removed = true
		s.backlog.remove(ctx, name)
		if err := s.inner.Delete(ctx, name); err != nil {
			return removed, err
		}
	}
	if s.c.Fast != nil {
		if old, err := older(ctx, s.c.Fast, name, before); old && err == nil {
			_ = s.c.Fast.Delete(ctx, name) // which forgets it by itself in a day
		}
	}
	if s.c.Bucket == nil {
		return removed, nil
	}
	old, err := older(ctx, s.c.Bucket, name, before)
	if old && err == nil {
		removed = true
		err = s.c.Bucket.Delete(ctx, name)
		s.located.forget(name)
	}
	return removed, err
}

// older reports whether a store has an object that is of before a time.
func older(ctx context.Context, store Store, name string, before time.Time) (bool, error) {
	o, err := store.Get(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_ = o.Close()
	return !o.Attrs.FirstSeen.After(before) && !o.Attrs.Checked.After(before), nil
}

// List implements Store. It yields what is near and what is in the bucket; that
// is left out, with a word in the log, if the bucket is in trouble.
func (s *Shared) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		near := make(map[string]struct{})
		for e, err := range s.inner.List(ctx, prefix) {
			near[e.Name] = struct{}{}
			if strings.HasPrefix(e.Name, OnlyNear) && err == nil {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
		if s.c.Bucket == nil {
			return
		}
		for e, err := range s.names(ctx, prefix) {
			if err != nil {
				s.log.Debug("the bucket could not be listed", "prefix", prefix, "error", err)
				return
			}
			if _, ok := near[e.Name]; !ok && !yield(e, nil) {
				return
			}
		}
	}
}

// names lists the bucket, without classes if that is cheaper.
func (s *Shared) names(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	if n, ok := s.c.Bucket.(interface {
		Names(ctx context.Context, prefix string) iter.Seq2[Entry, error]
	}); ok {
		return n.Names(ctx, prefix)
	}
	return s.c.Bucket.List(ctx, prefix)
}

// Announce makes the other processes hear a name, under which nothing is stored or
// what is in the bucket has changed. errors.ErrUnsupported: they cannot be told.
func (s *Shared) Announce(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	s.located.forget(name)
	if _, ok := s.c.Fast.(announcer); !ok {
		return fmt.Errorf("announce %s: %w", name, errors.ErrUnsupported)
	}
	return s.announce(ctx, name, false)
}

// Locate implements Locator, if the bucket does. What was found is remembered for
// a minute, as long as the bucket answers.
func (s *Shared) Locate(ctx context.Context, name string) (string, Attrs, error) {
	l, ok := s.c.Bucket.(Locator)
	if !ok {
		return "", Attrs{}, fmt.Errorf("locate %s: %w", name, fs.ErrNotExist)
	}
	at, ok, began := s.located.get(name)
	if ok {
		return at.url, at.attrs, nil
	}
	url, attrs, err := l.Locate(ctx, name)
	if ctx.Err() == nil {
		s.located.answer(name, location{url: url, attrs: attrs}, err, began)
	}
	return url, attrs, err
}

// patiently calls ask, and again when what it asks was in trouble that has begun
// no longer ago than Patience and is over.
func (s *Shared) patiently(ctx context.Context, asked Store, ask func() error) error {
	r, ok := asked.(Recoverer)
	limit := time.Now().Add(s.c.Patience)
	for {
		began := time.Now()
		err := ask()
		if !ok || err == nil || errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil ||
			began.After(limit) || !r.Again(ctx, err, began, s.c.Patience) {
			return err
		}
	}
}

// Lease implements Leaser, if the fast store does.
func (s *Shared) Lease(ctx context.Context, name string) (release func(), holder string, err error) {
	l, ok := s.c.Fast.(Leaser)
	if !ok {
		return nil, "", fmt.Errorf("lease of %s: %w", name, errors.ErrUnsupported)
	}
	var give func()
	err = s.patiently(ctx, s.c.Fast, func() (err error) {
		give, holder, err = l.Lease(ctx, name)
		return err
	})
	if give == nil {
		return nil, holder, err
	}
	var once sync.Once
	return func() { s.backlog.whenVisible(name, s.c.Visible, func() { once.Do(give) }) }, holder, nil
}
