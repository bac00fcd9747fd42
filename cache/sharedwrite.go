package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/modgate/modgate/internal/breaker"
)

// announcer is an optional ability of the fast store.
type announcer interface {
	// Announce tells the other processes that name has changed, or is gone.
	Announce(ctx context.Context, name string, gone bool) error
	// Watch calls changed for each name that another process announces, until
	// ctx ends; with "" where some may have been missed.
	Watch(ctx context.Context, changed func(name string, gone bool)) error
}

// marker is an optional ability of the bucket.
type marker interface {
	// Mark returns what tells the content of the bucket from that of another one,
	// and from what it was before somebody emptied it.
	Mark(ctx context.Context) (string, error)
}

// publish shares what has just been put near.
func (s *Shared) publish(ctx context.Context, name string, class Class) {
	s.absent.remove(name)
	s.stale.take(name)
	if class != Mutable && s.c.Bucket != nil && !s.backlog.add(name, class) {
		s.m.dropped.Inc()
	}
	if class == Precious {
		return
	}
	if s.putFast(ctx, name, class) {
		s.backlog.seen(name)
	}
	if class == Mutable {
		if err := s.announce(ctx, name, false); err != nil {
			s.log.Debug("the other replicas could not be told of a change", "name", name, "error", err)
		}
	}
}

func (s *Shared) announce(ctx context.Context, name string, gone bool) error {
	if a, ok := s.c.Fast.(announcer); ok {
		return a.Announce(ctx, name, gone)
	}
	return nil
}

// putFast copies name to the fast store, if it is small enough, and reports
// whether it is there.
func (s *Shared) putFast(ctx context.Context, name string, class Class) bool {
	if s.c.Fast == nil {
		return false
	}
	o, err := s.inner.Get(ctx, name)
	if err != nil {
		return false
	}
	if o.Attrs.Size > s.c.MaxFast || o.Attrs.SHA256 == "" {
		_ = o.Close()
		return false
	}
	attrs := o.Attrs
	data, err := o.ReadAll(s.c.MaxFast)
	if err != nil {
		return false
	}
	err = s.c.Fast.Put(ctx, name, bytes.NewReader(data), PutOptions{Class: class, Attrs: attrs})
	s.m.write(tierFast, err)
	if err != nil && !errors.Is(err, breaker.ErrOpen) {
		s.log.Debug("an object could not be put into redis", "name", name, "error", err)
	}
	return err == nil
}

// OnlyNear begins the names of what a process keeps in the near store for itself:
// a Shared neither lists it nor writes it to the bucket.
const OnlyNear = "shared/"

// backlogName is where the near store keeps what was not written to the bucket
// when the process ended.
const backlogName = OnlyNear + "backlog"

// savedBacklog is what is kept there. While a process runs it says that the
// end was not clean, so that a crash is followed by a walk over the store.
type savedBacklog struct {
	Clean bool             `json:"clean"`
	Names map[string]Class `json:"names,omitempty"`
	// Mark is that of the bucket that has all the rest.
	Mark string `json:"mark,omitempty"`
}

// flushTime is how long the end of the process waits for the backlog.
const flushTime = 3 * time.Second

// Run writes to the bucket and listens to the other processes, until ctx ends;
// then it returns nil. What could not be written is kept for the next start, which
// walks over the near store if it could not be kept.
func (s *Shared) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if a, ok := s.c.Fast.(announcer); ok {
		wg.Go(func() {
			if err := a.Watch(ctx, func(name string, gone bool) { s.heard(ctx, name, gone) }); err != nil {
				s.log.Error("changes made by other replicas cannot be heard", "error", err)
			}
		})
	}
	if s.c.Bucket == nil {
		<-ctx.Done()
		return nil
	}
	if !s.restore(ctx) {
		s.backlog.setBehind(true)
	}
	wg.Go(func() { s.catchUp(ctx) })
	// The writers outlive ctx a little.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var writers sync.WaitGroup
	for range s.c.Writers {
		writers.Go(func() { s.writeBack(work, ctx.Done()) })
	}
	<-ctx.Done()
	flush := time.AfterFunc(flushTime, stop)
	defer flush.Stop()
	writers.Wait()
	s.save(context.WithoutCancel(ctx))
	return nil
}

// restore puts what the process before has left into the backlog, and reports
// whether that is all there is.
func (s *Shared) restore(ctx context.Context) bool {
	var saved savedBacklog
	o, err := s.inner.Get(ctx, backlogName)
	if err == nil {
		var data []byte
		if data, err = o.ReadAll(1 << 28); err == nil {
			err = json.Unmarshal(data, &saved)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("the backlog of the last run cannot be read; the store is walked instead", "error", err)
	}
	for name, class := range saved.Names {
		s.backlog.catchUp(name, class)
	}
	s.mark.Store(&saved.Mark)
	if err := s.keep(ctx, savedBacklog{}); err != nil {
		s.log.Warn("that this process runs cannot be noted; the next walks over the store to find what the bucket lacks", "error", err)
	}
	return err == nil && saved.Clean
}

// save keeps the backlog for the next start.
func (s *Shared) save(ctx context.Context) {
	names, behind := s.backlog.left()
	if len(names) > 0 || behind {
		s.log.Info("the bucket lacks objects; the next start writes them", "objects", len(names), "walk", behind)
	}
	if err := s.keep(ctx, savedBacklog{Clean: !behind, Names: names, Mark: *s.mark.Load()}); err != nil {
		s.log.Warn("what the bucket lacks cannot be noted; the next start walks over the store to find it", "objects", len(names), "error", err)
	}
}

// keep stores b, or nothing: what was stored before is not true any more, and
// without any a walk finds what the bucket lacks.
func (s *Shared) keep(ctx context.Context, b savedBacklog) error {
	data, err := json.Marshal(b)
	if err == nil {
		err = s.inner.Put(ctx, backlogName, bytes.NewReader(data), PutOptions{Class: Precious})
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep the backlog of the bucket: %w", err), s.inner.Delete(ctx, backlogName))
	}
	return nil
}

// retryAfter is how long a writer waits when the bucket is in trouble.
const retryAfter = time.Second

// writeBack writes objects to the bucket until ctx ends, or there are none and
// ending is closed.
func (s *Shared) writeBack(ctx context.Context, ending <-chan struct{}) {
	for {
		it, class := s.backlog.next(ctx, ending)
		if it == nil {
			return
		}
		err := s.upload(ctx, it, class)
		s.backlog.finish(it, err != nil, errors.Is(err, breaker.ErrOpen) || ctx.Err() != nil)
		if err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-ending:
			return
		case <-time.After(retryAfter):
		}
	}
}

// upload writes one object. An error means that it is worth another try.
func (s *Shared) upload(ctx context.Context, it *backlogItem, class Class) error {
	o, err := s.inner.Get(ctx, it.name)
	if err != nil || o.Attrs.SHA256 == "" {
		if err == nil {
			_ = o.Close()
		}
		return nil // evicted, or corrupt and put aside
	}
	attrs := o.Attrs
	r, err := contents(o)
	if err == nil {
		err = s.c.Bucket.Put(ctx, it.name, r, PutOptions{Class: class, Attrs: attrs})
	}
	_ = o.Close()
	s.m.write(tierBucket, err)
	switch {
	case err == nil && it.removed.Load():
		return s.c.Bucket.Delete(ctx, it.name)
	case errors.Is(err, ErrConflict):
		s.settle(ctx, it.name, attrs)
		return nil
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrName):
		s.log.Warn("an object cannot be written to the bucket", "name", it.name, "error", err)
		return nil
	case err != nil && !errors.Is(err, breaker.ErrOpen) && ctx.Err() == nil:
		s.log.Warn("an object could not be written to the bucket", "name", it.name, "error", err)
	}
	return err
}

// settle decides between our bytes and those of another replica. If both have
// the same proven content the first to come wins everywhere.
func (s *Shared) settle(ctx context.Context, name string, ours Attrs) {
	o, err := s.c.Bucket.Get(ctx, name)
	if err != nil {
		return
	}
	_ = o.Close()
	if ours.H1 != "" && ours.H1 == o.Attrs.H1 {
		s.log.Info("another replica has stored the same content as other bytes; theirs are used", "name", name)
		if err := s.inner.Delete(ctx, name); err != nil {
			s.log.Warn("an object could not be deleted", "name", name, "error", err)
		}
		return
	}
	s.log.Error("the bucket holds other content under a name that never changes; ours is served here", "name", name, "bucket", o.Attrs.SHA256, "ours", ours.SHA256)
}

// catchUp walks over the near store whenever the backlog has been incomplete,
// and puts what the bucket lacks into it.
func (s *Shared) catchUp(ctx context.Context) {
	tick := time.NewTicker(retryAfter)
	defer tick.Stop()
	var looked time.Time
	for {
		if time.Since(looked) >= recognizeEvery && s.recognize(ctx) {
			looked = time.Now()
		}
		behind := s.backlog.isBehind() && s.backlog.roomy()
		if (behind || s.backlog.isHeld()) && s.knowsPurges(ctx) && behind {
			s.backlog.setBehind(false) // what does not fit from here on shows
			err := s.walk(ctx)
			if err != nil {
				s.backlog.setBehind(true)
			}
			if err != nil && !errors.Is(err, breaker.ErrOpen) && ctx.Err() == nil {
				s.log.Warn("what the bucket lacks cannot be found out; it is tried again", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// recognizeEvery is how often it is looked whether the bucket is the one that has
// what was written before.
const recognizeEvery = time.Minute

// recognize has the near store walked over if the bucket is another one than
// before, or was emptied. It reports false if that could not be found out.
func (s *Shared) recognize(ctx context.Context) bool {
	m, ok := s.c.Bucket.(marker)
	if !ok {
		return true
	}
	mark, err := m.Mark(ctx)
	if err != nil {
		return errors.Is(err, ErrCorrupt) // and so it will be in a second
	}
	if before := *s.mark.Load(); mark != before {
		s.mark.Store(&mark)
		s.backlog.setBehind(true)
		if before != "" {
			s.log.Info("the bucket is another one, or was emptied; what is here is written to it")
		}
	}
	return true
}

// knowsPurges reports whether what others have purged is not near any more, and
// lets what was held for that be written.
func (s *Shared) knowsPurges(ctx context.Context) bool {
	if s.c.Missed != nil && s.c.Missed(ctx) != nil {
		return false // who was asked has said why
	}
	s.backlog.release()
	return true
}

// walk puts into the backlog what is near and not in the bucket, as fast as
// that is written.
func (s *Shared) walk(ctx context.Context) error {
	seed := maphash.MakeSeed()
	there := make(map[uint64]struct{})
	for e, err := range s.names(ctx, "") {
		if err != nil {
			return err
		}
		there[maphash.String(seed, e.Name)] = struct{}{}
	}
	n := 0
	for e, err := range s.inner.List(ctx, "") {
		if err != nil {
			return err
		}
		if _, ok := there[maphash.String(seed, e.Name)]; ok || e.Class == Mutable || strings.HasPrefix(e.Name, OnlyNear) {
			continue
		}
		for !s.backlog.roomy() {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(100 * time.Millisecond):
			}
		}
		s.backlog.catchUp(e.Name, e.Class)
		n++
	}
	if n > 0 {
		s.log.Info("objects that the bucket lacked are being written", "objects", n)
	}
	return nil
}
