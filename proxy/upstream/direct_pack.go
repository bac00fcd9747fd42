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
	run := &packing{done: make(chan struct{}), cancel: cancel}
	m, r := w.m, w.r // w belongs to the next request when the run is done
	r.what = runDownload
	d.mu.Lock()
	w.users++
	d.mu.Unlock()
	w.packing = run
	d.wg.Go(func() { // the request is in d.wg, so that Run waits
		defer cancel()
		run.err = d.goRun(ctx, w, r, func(ctx context.Context, f *goproxy.GoFetcher) error {
			info, mod, zip, err := f.Download(ctx, m.Path, m.Version)
			if err != nil {
				return err
			}
			return errors.Join(info.Close(), mod.Close(), zip.Close())
		})
		close(run.done)
		d.leave(w)
		if run.err == nil {
			d.lookAhead(r, m)
		}
		d.tidy(ctx, r.place)
	})
	return nil
}
