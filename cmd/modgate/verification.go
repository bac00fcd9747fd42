package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"sync"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/breaker"
	"github.com/modgate/modgate/internal/ziphash"
	"github.com/modgate/modgate/proxy"
)

// tier is one place that keeps objects, as a verification sees it.
type tier struct {
	name string // tierDirectory and so on
	list func(ctx context.Context, prefix string) iter.Seq2[cache.Entry, error]
	// open opens an object without making it look used. What it finds wrong by
	// itself, and has put aside, is cache.ErrCorrupt.
	open func(ctx context.Context, name string) (*cache.Object, error)
	// aside puts a wrong object aside.
	aside func(ctx context.Context, name, reason string) error
	// heal gets from elsewhere what was put aside. nil: whoever wants it does.
	heal func(ctx context.Context, name string) error
	// quarantined counts what was put aside. nil: nothing is kept of it, or
	// somebody else counts.
	quarantined func(ctx context.Context) (int, error)
}

// Names of tiers, as in metrics.
const (
	tierDirectory = "directory"
	tierBucket    = "bucket"
	tierRedis     = "redis"
)

// verification reads all objects of a tier and compares them with what they were
// and, if there is somebody to ask, with what was published.
type verification struct {
	tier     tier
	spools   cache.Spooler  // for zips that are not in files
	verifier proxy.Verifier // nil: nobody is asked
	keep     bool           // put nothing aside
	pace     *pace
	workers  int
	after    string       // names up to this one are passed over; those of the tier are sorted then
	seen     func(string) // called for each object when it has been looked at

	end context.CancelCauseFunc // of a run

	mu     sync.Mutex // guards report
	report verifyReport
}

// run returns an error if it has not seen all objects.
func (v *verification) run(ctx context.Context) error {
	ctx, v.end = context.WithCancelCause(ctx)
	defer v.end(nil)
	var g errgroup.Group
	var torn error
	g.SetLimit(v.workers)
	for e, err := range v.tier.list(ctx, "") {
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			torn = fmt.Errorf("%s cannot be listed: %w", v.tier.name, err)
			break
		}
		if e.Name <= v.after && v.after != "" {
			continue
		}
		if err := v.pace.wait(ctx, cache.Taken(e.Size)); err != nil {
			break
		}
		g.Go(func() error {
			v.object(ctx, e.Name)
			v.seen(e.Name)
			return nil
		})
	}
	_ = g.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return torn
}

func (v *verification) note(f func(*verifyReport)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.report)
}

// errWrong says that bytes are not what they should be.
var errWrong = errors.New("wrong bytes")

// object verifies one object and notes what it finds.
func (v *verification) object(ctx context.Context, name string) {
	o, err := v.tier.open(ctx, name)
	if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, cache.ErrCorrupt) {
		return // evicted meanwhile
	}
	var size int64
	if err == nil {
		size = o.Attrs.Size
		err = errors.Join(v.bytes(ctx, o), o.Close())
	}
	if ctx.Err() != nil {
		return
	}
	v.note(func(r *verifyReport) {
		r.Objects++
		r.Bytes += size
	})
	switch {
	case err == nil:
	case errors.Is(err, errWrong), errors.Is(err, cache.ErrCorrupt):
		v.condemn(ctx, name, err)
	case errors.Is(err, breaker.ErrOpen): // and so would be all that follow
		v.end(fmt.Errorf("%s: %w", v.tier.name, err))
	default:
		v.note(func(r *verifyReport) { r.Failed = append(r.Failed, finding{name, err.Error()}) })
	}
}

// condemn puts a corrupt object aside and gets another.
func (v *verification) condemn(ctx context.Context, name string, why error) {
	found := finding{name, why.Error()}
	if !v.keep && !errors.Is(why, fs.ErrNotExist) { // else it was put aside when it was opened
		if err := v.tier.aside(ctx, name, why.Error()); err != nil {
			found.Reason += "; it could not be put aside: " + err.Error()
			v.note(func(r *verifyReport) { r.Failed = append(r.Failed, found) })
			return
		}
	}
	healed := !v.keep && v.tier.heal != nil && parseName(name).version != "" && v.tier.heal(ctx, name) == nil
	v.note(func(r *verifyReport) {
		r.Corrupt = append(r.Corrupt, found)
		if healed {
			r.Healed++
		}
	})
}

// bytes compares an object with its digest and its hash; the error is errWrong
// if they differ.
func (v *verification) bytes(ctx context.Context, o *cache.Object) error {
	kind := parseName(o.Name)
	hashed := (kind.kind == "zip" || kind.kind == "mod") && (o.Attrs.H1 != "" || v.verifier != nil)
	at, got, drop, err := v.read(o, hashed)
	if err != nil {
		return err
	}
	defer drop()
	if o.Attrs.SHA256 != "" && got != o.Attrs.SHA256 {
		return fmt.Errorf("%w: SHA-256 is %s, was %s", errWrong, got, o.Attrs.SHA256)
	}
	if !hashed {
		if o.Attrs.SHA256 == "" {
			v.note(func(r *verifyReport) { r.NoDigest++ })
		}
		return nil
	}
	h1, err := hashOf(at, o.Attrs.Size, kind.kind)
	if errors.Is(err, ziphash.ErrFormat) || errors.Is(err, ziphash.ErrLimit) {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	if err != nil {
		return err
	}
	if o.Attrs.H1 != "" && h1 != o.Attrs.H1 {
		return fmt.Errorf("%w: hash is %s, was %s", errWrong, h1, o.Attrs.H1)
	}
	return v.ask(ctx, o.Name, kind, h1)
}

// read reads all of o and returns its SHA-256 and, if again is true, how to read
// it again at any place, until drop is called.
func (v *verification) read(o *cache.Object, again bool) (at io.ReaderAt, sum string, drop func(), err error) {
	digest := sha256.New()
	into, drop := io.Writer(digest), func() {}
	body := io.Reader(o.Body)
	if o.Body == nil {
		b := bytes.NewReader(o.Bytes)
		at, body = b, b
	} else if r, ok := o.Body.(io.ReaderAt); ok {
		at = r
	} else if again {
		var f *os.File
		if f, err = v.spools.NewSpool(); err != nil {
			return nil, "", nil, err
		}
		drop = func() { _, _ = v.spools.DropSpool(f), f.Close() }
		at, into = f, io.MultiWriter(digest, f)
	}
	if _, err := io.Copy(into, body); err != nil {
		drop()
		return nil, "", nil, err
	}
	return at, hex.EncodeToString(digest.Sum(nil)), drop, nil
}

// hashOf returns the h1 hash of a zip or go.mod file.
func hashOf(r io.ReaderAt, size int64, kind string) (string, error) {
	if kind == "zip" {
		return ziphash.File(r, size)
	}
	data, err := io.ReadAll(io.NewSectionReader(r, 0, size))
	return ziphash.Mod(data), err
}

// ask compares h1 with the checksum database, if there is one to ask.
func (v *verification) ask(ctx context.Context, name string, o object, h1 string) error {
	if v.verifier == nil {
		return nil
	}
	err := v.verifier.Verify(ctx, module.Version{Path: o.module, Version: o.version}, o.kind, h1)
	var mismatch interface{ Mismatch() (want, got string) }
	switch {
	case err == nil:
		v.note(func(r *verifyReport) { r.Proven++ })
	case errors.As(err, &mismatch):
		return fmt.Errorf("%w: %w", errWrong, err)
	default:
		v.note(func(r *verifyReport) { r.Unproven = append(r.Unproven, finding{name, err.Error()}) })
	}
	return nil
}

// pace bounds how many bytes per second are read, by making each object wait for
// those before it.
type pace struct {
	rate int64 // bytes per second; 0: as fast as it goes
	mu   sync.Mutex
	next time.Time // guarded by mu
}

// wait returns when the next size bytes may be read.
func (p *pace) wait(ctx context.Context, size int64) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	pause := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(float64(size) / float64(p.rate) * float64(time.Second)))
	p.mu.Unlock()
	if pause == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
