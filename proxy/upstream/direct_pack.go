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
	"golang.org/x/mod/module"
)

// packing is a run of the go command that makes the zip of a version. It goes
// on when those who waited for the first of its files have gone.
type packing struct {
	sure   chan struct{} // closed when what the run writes may be believed; see goGuess
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
		if err := w.skipUnpacking(); err != nil {
			return troubled(broken, err, "modgate cannot write its work files")
		}
		m := w.m
		d.startPacking(w, runDownload, func(ctx context.Context, f *goproxy.GoFetcher) error {
			info, mod, zip, err := f.Download(ctx, m.Path, m.Version)
			if err != nil {
				return err
			}
			return errors.Join(info.Close(), mod.Close(), zip.Close())
		})
	}
	return d.packed(ctx, w, kind)
}

// queryAndPack has the go command find out what a query means and fetch that
// version, in one run. It returns when the version is known.
func (d *Direct) queryAndPack(ctx context.Context, w *work, path, query string) error {
	w.m, w.r.zip = module.Version{Path: path}, true
	d.startPacking(w, runQuery, func(ctx context.Context, f *goproxy.GoFetcher) error {
		_, _, err := f.Query(ctx, path, query)
		return err
	})
	return d.packed(ctx, w, "info")
}

// packed waits until a file is there that the run for w makes.
func (d *Direct) packed(ctx context.Context, w *work, kind string) error {
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
			if w.packing.isSure() {
				if learnt := w.learn(); err == nil && learnt != nil {
					err = troubled(broken, learnt, "the go command did not do what is expected of it")
				} else if kind == "info" && learnt == nil && w.mod != nil {
					return nil // a zip that cannot be made is for who wants it
				}
			}
			if err != nil {
				w.forget()
			}
			return err
		case <-ctx.Done():
			d.mu.Lock()
			alone := w.users <= 2 // this one and the download
			d.mu.Unlock()
			if alone {
				w.packing.cancel()
				<-w.packing.done
				w.forget()
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

// startPacking starts the run for w that do is. It belongs to d, not to the
// request, and has not the values of that either: it may be over.
func (d *Direct) startPacking(w *work, what string, do func(context.Context, *goproxy.GoFetcher) error) {
	ctx, cancel := context.WithCancel(d.life)
	run := &packing{sure: make(chan struct{}), done: make(chan struct{}), cancel: cancel}
	m, r := w.m, w.r // w belongs to the next request when the run is done
	r.what = what
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
		run.err = d.goGuess(ctx, w, r, run.sure, do)
		close(run.done)
		d.leave(w)
		d.tidy(ctx, r.place)
	})
}

// isSure reports whether the files of the run may be believed. Until then, and
// if it fails before, nobody may look at them.
func (p *packing) isSure() bool { return isClosed(p.sure) }

// failed reports whether the run is over and trying again could do better. (A
// module that is too large, or made for a later go, will be tomorrow.)
func (p *packing) failed() bool {
	if p == nil || !isClosed(p.done) {
		return false
	}
	var e *DirectError
	lasting := errors.As(p.err, &e) && (reason(e.Reason) == tooBig || reason(e.Reason) == oldGo)
	return p.err != nil && !lasting
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// goGuess is goRun for a version. The run begins before the host has said what
// the refs are: with a guess what they are as to the version, if there is one.
// When the host says otherwise, it begins again, with nothing left of the
// guess. sure is closed once the host has confirmed what the run was told; if
// it never is, what was written must not be believed.
func (d *Direct) goGuess(ctx context.Context, w *work, r run, sure chan<- struct{}, do func(context.Context, *goproxy.GoFetcher) error) error {
	began := r
	if r.guess != nil {
		began.refs = promised(r.guess)
		d.forgetMoved(ctx, r.place, r.guess)
	}
	runCtx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	result := make(chan error, 1)
	go func() { result <- d.goRun(runCtx, w, began, do) }()
	now, err := r.refs.get(ctx)
	if err == nil && (r.guess == nil || maps.Equal(now.versionTags(r.only), r.guess.versionTags(r.only))) {
		close(sure)
		return <-result
	}
	giveUp()
	<-result
	if cleared := w.clear(); err == nil && cleared != nil {
		err = troubled(broken, cleared, "modgate cannot write its work files")
	}
	if err != nil {
		return err
	}
	close(sure)
	d.forgetMoved(ctx, r.place, now)
	return d.goRun(ctx, w, r, do)
}
