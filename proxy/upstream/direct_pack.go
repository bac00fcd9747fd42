package upstream

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/goproxy/goproxy"
)

// packing is a run of the go command that makes the zip of a version. It goes
// on when those who waited for the first of its files have gone.
type packing struct {
	done   chan struct{} // closed when err is final
	err    error
	cancel context.CancelFunc
}

// look is how often it is looked whether the go command has written the first
// files of a version.
const look = 3 * time.Millisecond

// pack has the go command fetch the version of w, if it is not at it
// already. It returns when a file is there: .info (then also w.info and w.mod
// are known) long before the zip.
func (d *Direct) pack(ctx context.Context, w *work, kind string) error {
	if kind == "info" && w.info != nil {
		return nil
	}
	if w.packing == nil {
		if err := d.startPacking(ctx, w); err != nil {
			return err
		}
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		var early <-chan time.Time
		if kind == "info" {
			early = tick.C
		}
		select {
		case <-early:
			switch err := w.learn(); {
			case err == nil && w.mod != nil:
				return nil
			case err != nil && !errors.Is(err, fs.ErrNotExist):
				return troubled(broken, err, "modgate cannot read its work files")
			}
			w.info, w.mod = nil, nil
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

// startPacking starts the run for w. It belongs to d, not to the request.
func (d *Direct) startPacking(ctx context.Context, w *work) error {
	d.forgetMoved(ctx, w.r.place, w.r.refs)
	if dir, err := w.unpacked(); err == nil {
		// The go command does not unpack what is there already. If one day it
		// does, nothing but time is lost.
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return troubled(broken, err, "modgate cannot write its work files")
		}
	}
	// Not the values of the request either: it may be over.
	ctx, cancel := context.WithCancel(d.life)
	run := &packing{done: make(chan struct{}), cancel: cancel}
	r := w.r
	r.what = runDownload
	d.mu.Lock()
	w.users++
	d.mu.Unlock()
	w.packing = run
	d.wg.Go(func() { // the request is in d.wg, so that Run waits
		defer d.leave(w)
		defer close(run.done)
		defer cancel()
		run.err = d.goRun(ctx, w, r, func(ctx context.Context, f *goproxy.GoFetcher) error {
			info, mod, zip, err := f.Download(ctx, w.m.Path, w.m.Version)
			if err != nil {
				return err
			}
			return errors.Join(info.Close(), mod.Close(), zip.Close())
		})
	})
	return nil
}
