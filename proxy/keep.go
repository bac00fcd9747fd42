package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/access"
)

// newSpoolFile returns how to create a spool file, nil if the store has none.
func (s *Server) newSpoolFile() func() (*os.File, error) {
	if s.spooler == nil {
		return nil
	}
	return s.spooler.NewSpool
}

func (s *Server) dropSpoolFile() func(*os.File) error {
	if s.spooler == nil {
		return nil
	}
	return s.spooler.DropSpool
}

func (s *Server) growSpoolFile() func(*os.File, int64) error {
	if s.spooler == nil {
		return nil
	}
	return s.spooler.GrowSpool
}

// put stores a small file. A store that cannot take it is no reason to keep it
// from those who wait.
func (s *Server) put(ctx context.Context, f *flight, class cache.Class) {
	f.attrs.Size = int64(len(f.body))
	if f.attrs.SHA256 == "" { // else it was computed while the bytes came
		sum := sha256.Sum256(f.body)
		f.attrs.SHA256 = hex.EncodeToString(sum[:])
	}
	if f.unkept {
		return
	}
	opts := cache.PutOptions{Class: class, Attrs: f.attrs}
	s.stored(f.name, s.cfg.Store.Put(ctx, f.name, bytes.NewReader(f.body), opts))
}

// publish stores a proven spool.
func (s *Server) publish(ctx context.Context, f *flight) {
	if f.unkept {
		return
	}
	opts := cache.PutOptions{Class: cache.Immutable, Attrs: f.attrs}
	sp := f.spool
	if sp.foreign || s.spooler == nil {
		s.stored(f.name, s.cfg.Store.Put(ctx, f.name, io.NewSectionReader(sp, 0, sp.size()), opts))
		return
	}
	err := s.spooler.PutSpool(ctx, f.name, sp.file, opts)
	if err == nil {
		sp.take()
	}
	s.stored(f.name, err)
}

// stored notes whether an object could be stored.
func (s *Server) stored(name string, err error) {
	if err != nil {
		s.metrics.cacheErrors.WithLabelValues("put").Inc()
		s.log.Warn("the cache could not keep a file; clients are served without it", "name", name, "error", err)
	}
}

// discard puts bytes aside that have turned out wrong.
func (s *Server) discard(ctx context.Context, name string, cause error) {
	s.log.Error("a file in the cache is wrong and is fetched anew", "name", name, "error", cause)
	var err error
	if q, ok := s.cfg.Store.(cache.Quarantiner); ok {
		err = q.Quarantine(ctx, name, cause.Error())
	} else {
		err = s.cfg.Store.Delete(ctx, name)
	}
	if err != nil {
		s.metrics.cacheErrors.WithLabelValues("delete").Inc()
		s.log.Warn("the cache could not discard a file", "name", name, "error", err)
	}
}

// distruster is an optional ability of a Store: look at the bytes of an object
// anew when it is next asked for.
type distruster interface{ Distrust(name string) }

// unreadable notes that a stored file could not be read to its end while it was
// sent. The client has been cut off; the next one must not be.
func (s *Server) unreadable(name string, rec *access.Record, err error) {
	rec.Trouble(access.Trouble, err)
	s.metrics.cacheErrors.WithLabelValues("get").Inc()
	s.log.Error("a file in the cache cannot be read", "name", name, "error", err)
	if d, ok := s.cfg.Store.(distruster); ok {
		d.Distrust(name)
	}
}

// get is Store.Get; it counts and logs what is neither a hit nor a miss. The
// caller goes on without the cache.
func (s *Server) get(ctx context.Context, name string) (*cache.Object, error) {
	obj, err := s.cfg.Store.Get(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
		s.metrics.cacheErrors.WithLabelValues("get").Inc()
		s.log.Warn("the cache could not be read", "name", name, "error", err)
	}
	return obj, err
}
