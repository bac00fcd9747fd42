package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/mod/modfile"
	modzip "golang.org/x/mod/zip"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/ziphash"
)

// Limits of one fetch, queueing and retries included. What makes no progress
// is cut much earlier, by the Source.
const (
	smallLimit = 3 * time.Minute
	zipLimit   = time.Hour
)

// maxInfo bounds a .info file, in bytes.
const maxInfo = 64 << 10

// origin is a place that one file can be read from.
type origin struct {
	body io.ReadCloser
	size int64
	// adopted bytes are in the store already, but another program put them
	// there and nobody has proven them.
	adopted bool
}

// name is that of the place; "" if it has none. It is asked for when the bytes
// have come: a body may go on from another place than it began.
func (o origin) name() string {
	if o.adopted {
		return "adopted"
	}
	if named, ok := o.body.(interface{ Origin() string }); ok {
		return named.Origin()
	}
	return ""
}

// errStored says that an object has come into the store since it was missed.
var errStored = errors.New("stored meanwhile")

// fill is the miss of an immutable file: it fetches, proves and stores the
// file, and leaves it in f for those who wait.
func (s *Server) fill(ctx context.Context, f *flight, r request) error {
	limit := s.small
	if r.kind == KindZip {
		limit = s.zips
	}
	if err := limit.take(ctx); err != nil {
		return err
	}
	defer limit.give()
	s.metrics.fetching.Inc()
	defer s.metrics.fetching.Dec()

	adopted, err := s.adopted(ctx, r)
	if err != nil {
		return err
	}
	if r.kind != KindInfo {
		defer s.prepare(ctx, r)()
	}
	if adopted != nil {
		err := s.fillFrom(ctx, f, r, *adopted)
		if err == nil || f.followed || ctx.Err() != nil || !worthless(err) {
			return err
		}
		s.discard(ctx, r.name, err)
	}
	return s.fillFresh(ctx, f, r)
}

// fillFresh fetches from one origin after the other, until one has the right
// bytes or others read what comes already.
func (s *Server) fillFresh(ctx context.Context, f *flight, r request) error {
	o, err := s.openFirst(ctx, r)
	if err != nil {
		return err
	}
	for {
		err = s.fillFrom(ctx, f, r, o)
		if err == nil {
			s.suspects.forget(r.name)
			return nil
		}
		if ctx.Err() != nil || !worthless(err) {
			return err
		}
		// These bytes are wrong. Another upstream may have the right ones, but
		// the answer, if there is none, is what was wrong with these.
		if _, moved := isMismatch(err); !moved || r.from.authority { // else the pin has told it
			s.log.Error("an upstream sent wrong bytes", "module", r.mod.String(), "kind", r.kind, "upstream", o.name(), "error", err)
		}
		if _, able := r.from.source.(reopener); !able || o.name() == "" || r.kind == KindInfo {
			return err
		}
		s.suspects.remember(r.name, o.name())
		if f.followed {
			return err
		}
		next, e := s.open(ctx, r, o.name())
		if e != nil {
			return err
		}
		o = next
	}
}

// openFirst opens a file behind the origin whose bytes were wrong a moment ago.
// If none has it there, that one is asked again: it may have been mended.
func (s *Server) openFirst(ctx context.Context, r request) (origin, error) {
	if bad := s.suspects.of(r.name); bad != "" {
		o, err := s.open(ctx, r, bad)
		if err == nil || ctx.Err() != nil {
			return o, err
		}
	}
	return s.open(ctx, r, "")
}

// adopted looks once more into the store. An object without a digest is an
// origin; one with a digest has been stored while this flight was starting.
func (s *Server) adopted(ctx context.Context, r request) (*origin, error) {
	obj, err := s.get(ctx, r.name)
	switch {
	case err != nil:
		return nil, nil // get has counted it, and the fill goes on without the cache
	case obj.Attrs.SHA256 != "":
		obj.Close()
		return nil, errStored
	case obj.Body == nil:
		return &origin{body: io.NopCloser(bytes.NewReader(obj.Bytes)), size: obj.Attrs.Size, adopted: true}, nil
	}
	return &origin{body: storedBody{obj.Body}, size: obj.Attrs.Size, adopted: true}, nil
}

// storedBody is a body from the store. What cannot be read to its end is worth
// as little as wrong bytes: a bad sector must not stand between a client and
// the upstream.
type storedBody struct{ io.ReadCloser }

func (b storedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = &badContent{"the cached file cannot be read", err}
	}
	return n, err
}

// prepare starts the lookup in the checksum database, which takes as long as
// the download does. The returned function waits for its end.
func (s *Server) prepare(ctx context.Context, r request) func() {
	p, ok := r.from.verifier.(preparer)
	if !ok {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() {
			// Verify will show whether it can do without.
			if p := recover(); p != nil {
				s.log.Error("preparing a proof has panicked: please report this", "module", r.mod.String(), "panic", p, "stack", string(debug.Stack()))
			}
		}()
		p.Prepare(ctx, r.mod)
	})
	return func() { cancel(); wg.Wait() }
}

// open asks the source for a file; after names an origin whose bytes were
// wrong, if there was one.
func (s *Server) open(ctx context.Context, r request, after string) (origin, error) {
	if r.kind == KindInfo {
		data, err := r.from.source.Info(ctx, r.mod.Path, r.mod.Version)
		if err != nil {
			return origin{}, err
		}
		return origin{body: io.NopCloser(bytes.NewReader(data)), size: int64(len(data))}, nil
	}
	var (
		body io.ReadCloser
		size int64
		err  error
	)
	if after == "" {
		body, size, err = r.from.source.Open(ctx, r.mod, r.kind)
	} else {
		body, size, err = r.from.source.(reopener).OpenAfter(ctx, r.mod, r.kind, after)
	}
	if err != nil {
		return origin{}, err
	}
	return origin{body: body, size: size}, nil
}

// fillFrom fetches from one origin, which it closes.
func (s *Server) fillFrom(ctx context.Context, f *flight, r request, o origin) error {
	defer o.body.Close()
	switch r.kind {
	case KindInfo:
		return s.fillInfo(ctx, f, r, o)
	case KindMod:
		return s.fillMod(ctx, f, r, o)
	}
	return s.fillZip(ctx, f, r, o)
}

func (s *Server) fillInfo(ctx context.Context, f *flight, r request, o origin) error {
	data, err := readAll(o.body, maxInfo)
	if err != nil {
		return err
	}
	s.metrics.fetched.Add(float64(len(data)))
	var info struct{ Version string }
	if err := json.Unmarshal(data, &info); err != nil || info.Version != r.mod.Version {
		return &badContent{"the .info that came is not of this version", fmt.Errorf("version %q: %w", info.Version, errors.Join(err, errRequest))}
	}
	f.body, f.attrs = data, cache.Attrs{Source: o.name()}
	s.put(ctx, f, cache.Immutable)
	return nil
}

func (s *Server) fillMod(ctx context.Context, f *flight, r request, o origin) error {
	data, err := readAll(o.body, modzip.MaxGoMod)
	if err != nil {
		return err
	}
	s.metrics.fetched.Add(float64(len(data)))
	if !r.from.authority && modfile.ModulePath(data) == "" {
		return &badContent{"the go.mod that came has no module line", errRequest}
	}
	h1 := ziphash.Mod(data)
	if err := f.allow(s.verify(ctx, r, h1)); err != nil {
		return err
	}
	f.body, f.attrs = data, cache.Attrs{Source: o.name(), H1: h1}
	s.put(ctx, f, cache.Immutable)
	// The one place that sees a proven go.mod.
	s.ahead.proven(r.mod, data)
	return nil
}

// readAll reads at most limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &badContent{fmt.Sprintf("the file is larger than %d bytes, the limit of the go command", limit), errRequest}
	}
	return data, err
}

// fillZip fetches a zip into a spool, which those who wait read while it grows,
// all but its tail, which stays here until the whole is proven.
func (s *Server) fillZip(ctx context.Context, f *flight, r request, o origin) error {
	sp := newSpool(s.newSpoolFile(), s.dropSpoolFile(), o.size)
	sp.grow = s.growSpoolFile()
	streamed := o.size > inMemory && !o.adopted
	if streamed {
		f.spool = sp
		f.follow()
	}
	got, err := s.receive(ctx, sp, r, o)
	if err == nil {
		err = f.allow(s.verifyZip(ctx, r, got))
	}
	if err != nil {
		if !streamed {
			sp.release()
		}
		return err
	}
	f.attrs = cache.Attrs{Size: sp.size(), SHA256: got.digest, H1: got.zip, Source: o.name()}
	if sp.file == nil {
		// It never left the memory, so nobody has followed it.
		f.body = sp.mem
		sp.release()
		s.put(ctx, f, cache.Immutable)
		return nil
	}
	if !streamed { // else others read f.spool already
		f.spool = sp
	}
	s.publish(ctx, f)
	return nil
}
