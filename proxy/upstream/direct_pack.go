package upstream

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/goproxy/goproxy"
)

// packing is a run of the go command that makes the zip of a version. It goes
// on when those who waited for the first of its files have gone.
type packing struct {
	sure   chan struct{} // closed when what the run writes is about the refs as they are
	done   chan struct{} // closed when err is final
	err    error
	cancel context.CancelFunc
}

// look is how often it is looked which files the go command has written.
const look = 3 * time.Millisecond

// pack has the go command fetch the version of w, if it is not at it
// already. It returns when a file is there: .info (then also w.info and w.mod
// are known) long before the zip, and the zip before the go command has ended.
func (d *Direct) pack(ctx context.Context, w *work, kind string) error {
	if kind == "info" && w.info != nil {
		return nil
	}
	if w.packing == nil {
		if err := d.startPacking(w); err != nil {
			return err
		}
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !w.packing.isSure() {
				continue
			}
			if there, err := w.early(kind); err != nil {
				return troubled(broken, err, "modgate cannot read its work files")
			} else if there {
				return nil
			}
		case <-w.packing.done:
			err := w.packing.err
			if learnt := w.learn(); err == nil && learnt != nil {
				err = troubled(broken, learnt, "the go command did not do what is expected of it")
			} else if kind == "info" && learnt == nil && w.mod != nil {
				return nil // a zip that cannot be made is for who wants it
			}
			if err != nil {
				w.packing = nil // the next one tries again
			}
			return err
		case <-ctx.Done():
			d.mu.Lock()
			alone := w.users <= 2 // this one and the download
			d.mu.Unlock()
			if alone {
				w.packing.cancel()
				<-w.packing.done
				w.packing = nil
			}
			return explained(context.Cause(ctx), w.r.place.url.Host)
		}
	}
}

// early reports whether a file is complete although the go command runs.
func (w *work) early(kind string) (bool, error) {
	if kind == "zip" {
		// It gets its name when it is complete and was hashed.
		name, err := w.file("zip")
		if err != nil {
			return false, err
		}
		if _, err = os.Stat(name); err != nil {
			return false, ignoreAbsent(err)
		}
	}
	if err := w.learn(); err != nil || w.mod == nil {
		w.info, w.mod = nil, nil
		return false, ignoreAbsent(err)
	}
	return true, nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// startPacking starts the run for w. It belongs to d, not to the request.
func (d *Direct) startPacking(w *work) error {
	if dir, err := w.unpacked(); err == nil {
		// The go command does not unpack what is there already. If one day it
		// does, nothing but time is lost.
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return troubled(broken, err, "modgate cannot write its work files")
		}
	}
	// Not the values of the request either: it may be over.
	ctx, cancel := context.WithCancel(d.life)
	run := &packing{sure: make(chan struct{}), done: make(chan struct{}), cancel: cancel}
	m, r := w.m, w.r // w belongs to the next request when the run is done
	r.what = runDownload
	d.mu.Lock()
	w.users++
	d.mu.Unlock()
	w.packing = run
	fetched := make(chan struct{})
	r.fetched = sync.OnceFunc(func() { close(fetched) })
	d.wg.Go(func() { // the request is in d.wg, so that Run waits
		select {
		case <-fetched:
		case <-run.done:
		}
		d.lookAhead(r, m)
	})
	d.wg.Go(func() {
		defer cancel()
		run.err = d.goGuess(ctx, w, r, run.sure, func(ctx context.Context, f *goproxy.GoFetcher) error {
			info, mod, zip, err := f.Download(ctx, m.Path, m.Version)
			if err != nil {
				return err
			}
			return errors.Join(info.Close(), mod.Close(), zip.Close())
		})
		close(run.done)
		d.leave(w)
		d.tidy(ctx, r.place)
	})
	return nil
}

// isSure reports whether the files of the run may be believed.
func (p *packing) isSure() bool {
	select {
	case <-p.sure:
		return true
	default:
		return false
	}
}

// goGuess is goRun for a version. If there is a guess what the refs are, the
// run begins with that, while the host is asked for them; when the host says
// otherwise, it begins again. sure is closed when what the run writes is about
// the refs as they are, unless it fails.
func (d *Direct) goGuess(ctx context.Context, w *work, r run, sure chan<- struct{}, do func(context.Context, *goproxy.GoFetcher) error) error {
	guess := r.guess
	if r.guess = nil; guess == nil {
		close(sure)
		return d.goRun(ctx, w, r, do)
	}
	guessed := r
	guessed.refs = promised(guess)
	d.forgetMoved(ctx, r.place, guess)
	runCtx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	result := make(chan error, 1)
	go func() { result <- d.goRun(runCtx, w, guessed, do) }()
	now, err := r.refs.get(ctx)
	if err == nil && maps.Equal(now.versionTags(r.only), guess.versionTags(r.only)) {
		close(sure)
		return <-result
	}
	giveUp()
	<-result
	if err != nil {
		return err
	}
	if err := w.clear(); err != nil {
		return troubled(broken, err, "modgate cannot write its work files")
	}
	close(sure)
	d.forgetMoved(ctx, r.place, now)
	return d.goRun(ctx, w, r, do)
}
