package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/goproxy/goproxy"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// maxRemembered bounds what is remembered of queries and lookups.
const maxRemembered = 10_000

// remembered is the answer to a question whose answer follows from the refs of
// the repository.
type remembered struct {
	digest string
	info   []byte
	list   []string
	err    error // absence
}

// Info returns the .info JSON of what query means for the module, with Origin,
// as the go command writes it.
func (d *Direct) Info(ctx context.Context, path, query string) ([]byte, error) {
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return nil, d.metrics.fail(about(err, path+"@"+query))
	}
	defer done()
	info, err := d.info(ctx, path, query)
	if err != nil {
		return nil, d.metrics.fail(about(err, path+"@"+query))
	}
	return info, nil
}

func (d *Direct) info(ctx context.Context, path, query string) ([]byte, error) {
	if err := d.check(path, query); err != nil {
		return nil, err
	}
	if isExact(query) && fits(query, path) {
		var info []byte
		err := d.version(ctx, module.Version{Path: path, Version: query}, "info", func(ctx context.Context, w *work) error {
			// Who asks for the .info of one version wants its zip next. (The
			// .mod is also wanted of versions that nobody builds with.)
			err := d.pack(ctx, w, "info")
			info = w.info
			return err
		})
		return info, err
	}
	answer, err := d.fromRefs(ctx, "@"+query, path, func(ctx context.Context, p *place, r *refs) (remembered, error) {
		info, err := d.query(ctx, p, r, path, query)
		return remembered{info: info}, err
	})
	return answer.info, err
}

// List returns the tagged versions of the module, retracted ones included.
func (d *Direct) List(ctx context.Context, path string) ([]string, error) {
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return nil, d.metrics.fail(about(err, path))
	}
	defer done()
	answer, err := d.list(ctx, path)
	if err != nil {
		return nil, d.metrics.fail(about(err, path))
	}
	return answer.list, nil
}

func (d *Direct) list(ctx context.Context, path string) (remembered, error) {
	if err := d.check(path, "latest"); err != nil {
		return remembered{}, err
	}
	return d.fromRefs(ctx, "list", path, func(ctx context.Context, p *place, r *refs) (remembered, error) {
		w, err := d.scratch()
		if err != nil {
			return remembered{}, err
		}
		defer d.discard(w)
		var list []string
		err = d.goRun(ctx, w, run{what: runList, place: p, refs: promised(r)}, func(ctx context.Context, f *goproxy.GoFetcher) (err error) {
			list, err = f.List(ctx, path)
			return err
		})
		if err == nil && len(list) == 0 {
			_, err = d.query(ctx, p, r, path, "latest") // is there such a module at all?
		}
		return remembered{list: list}, err
	})
}

// Open returns a file of m. Its context may end before the body is read.
func (d *Direct) Open(ctx context.Context, m module.Version, kind string) (io.ReadCloser, int64, error) {
	what := m.Path + "@" + m.Version
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return nil, 0, d.metrics.fail(about(err, what))
	}
	defer done()
	body, size, err := d.open(ctx, m, kind)
	if err != nil {
		return nil, 0, d.metrics.fail(about(err, what))
	}
	return body, size, nil
}

func (d *Direct) open(ctx context.Context, m module.Version, kind string) (body io.ReadCloser, size int64, err error) {
	if err := d.check(m.Path, m.Version); err != nil {
		return nil, 0, err
	}
	if !isExact(m.Version) || !fits(m.Version, m.Path) {
		return nil, 0, troubled(unknownVersion, nil, "not a canonical version of this module")
	}
	err = d.version(ctx, m, kind, func(ctx context.Context, w *work) error {
		switch {
		case kind == "zip":
			if err := d.pack(ctx, w, kind); err != nil {
				return err
			}
			f, n, err := w.openZip()
			if err != nil {
				return troubled(broken, err, "the go command did not do what is expected of it")
			}
			body, size = f, n
			d.mu.Lock()
			w.spent = true
			d.mu.Unlock()
			return nil
		case w.info == nil:
			if err := d.ask(ctx, w, w.r, m.Path, m.Version); err != nil {
				return err
			}
		}
		if w.mod == nil {
			return troubled(broken, nil, "the go command left no go.mod")
		}
		body, size = io.NopCloser(bytes.NewReader(w.mod)), int64(len(w.mod))
		return nil
	})
	return body, size, err
}

// check refuses what cannot be a module or a version before anything else
// looks at it.
func (d *Direct) check(path, query string) error {
	if err := module.CheckPath(path); err != nil {
		return troubled(notModule, err, "not a module path")
	}
	if !d.isPrivate(path) {
		return troubled(misconfigured, nil, "no private pattern matches it, so it is not fetched from its repository")
	}
	if semver.IsValid(query) {
		if isExact(query) && !fits(query, path) && !fits(query+"+incompatible", path) {
			return troubled(unknownVersion, nil, "the major version does not go with the module path")
		}
		return nil
	}
	// As cmd/go/internal/modload does with the names of branches and commits.
	if query == "" || len(query) > 200 || strings.HasPrefix(query, "-") || strings.HasPrefix(query, "refs/") || strings.ContainsAny(query, "\\:*?[~^@{} \t") || strings.Contains(query, "..") ||
		strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r == 0x7f }) || strings.ContainsAny(query[:1], "<>=/") {
		return troubled(unknownVersion, nil, "not a version, a branch or a commit")
	}
	return nil
}

// isExact reports whether a query can only mean one version.
func isExact(query string) bool {
	return semver.IsValid(query) && module.CanonicalVersion(query) == query
}

// fits reports whether the major version goes with the module path.
func fits(version, path string) bool {
	_, major, _ := module.SplitPathVersion(path)
	return module.CheckPathMajor(version, major) == nil
}

// version calls use with the work of m, alone, once it is known that the
// repository could have it. kind is the file that is wanted.
func (d *Direct) version(ctx context.Context, m module.Version, kind string, use func(context.Context, *work) error) error {
	asked := time.Now()
	p, err := d.locate(ctx, m.Path)
	if err != nil {
		return err
	}
	return d.with(ctx, m, func(w *work) error {
		if kind == "zip" && w.packing.failed() {
			w.forget() // the host may have recovered since
		}
		if w.info == nil && w.packing == nil {
			// What a failed run wrote must not be taken for what the next finds.
			if err := w.clear(); err != nil {
				return troubled(broken, err, "modgate cannot write its work files")
			}
		}
		if p.hg {
			w.r = run{place: p, refs: promised(new(refs))}
		} else if w.info == nil && w.packing == nil {
			refs, guess, err := d.refsFor(ctx, p, m, asked)
			if err != nil {
				return err
			}
			w.r = run{place: p, refs: refs, guess: guess}
			if w.r.deep = module.IsPseudoVersion(m.Version); !w.r.deep {
				w.r.only = m.Version
			}
		}
		return use(ctx, w)
	})
}

// refsFor returns the refs for a run that is about one version, or a promise of
// them: the time in which they come is enough for the go command to start. But
// if a tag of the version is kept, that may have been moved, and the go command
// would look at it first: then it can start only with a guess, the refs that
// the repository had when it was last asked.
func (d *Direct) refsFor(ctx context.Context, p *place, m module.Version, asked time.Time) (_ *promise, guess *refs, _ error) {
	repo, version, notBefore := d.repository(p.url), m.Version, d.notBefore(m.Path, asked)
	get := func(ctx context.Context) (*refs, error) {
		r, err := repo.refs(ctx, notBefore)
		if err != nil || module.IsPseudoVersion(version) || r.hasVersion(version) {
			return r, err
		}
		// Absence is said of what is now, not of what was a while ago.
		if r, err = repo.refs(ctx, asked); err == nil && !r.hasVersion(version) {
			err = troubled(unknownVersion, nil, "unknown version: the repository has no such tag")
		}
		return r, err
	}
	if last := repo.known(); last != nil && last.asked.Before(notBefore) && !module.IsPseudoVersion(version) && last.hasVersion(version) {
		guess = last
	}
	kept := refs{hash: make(map[string]string)}
	for tag, hash := range keptTags(d.kept(p)) {
		kept.hash["refs/tags/"+tag] = hash
	}
	if guess == nil && (len(kept.hash) == 0 || module.IsPseudoVersion(version) || kept.hasVersion(version)) {
		r, err := get(ctx)
		if err != nil {
			return nil, nil, err
		}
		d.forgetMoved(ctx, p, r)
		return promised(r), nil, nil
	}
	promise := &promise{done: make(chan struct{})}
	ctx, cancel := context.WithCancel(d.life)
	d.wg.Go(func() { // the request is in d.wg, so that Run waits
		defer cancel()
		defer close(promise.done)
		promise.refs, promise.err = get(ctx)
	})
	return promise, guess, nil
}

// ask has the go command find out what a query means, in w.
func (d *Direct) ask(ctx context.Context, w *work, r run, path, query string) error {
	r.what = runQuery
	m := module.Version{Path: path}
	err := d.goGuess(ctx, w, r, make(chan struct{}), func(ctx context.Context, f *goproxy.GoFetcher) (err error) {
		m.Version, _, err = f.Query(ctx, path, query)
		return err
	})
	if err != nil {
		return err
	}
	w.m, w.r = m, r
	if err := w.learn(); err != nil {
		return troubled(broken, err, "the go command did not do what is expected of it")
	}
	return nil
}

// query answers what is not an exact version. What it finds is kept for the
// requests that follow.
func (d *Direct) query(ctx context.Context, p *place, r *refs, path, query string) ([]byte, error) {
	w, err := d.scratch()
	if err != nil {
		return nil, err
	}
	d.forgetMoved(ctx, p, r)
	w.r = run{place: p, refs: promised(r)}
	if query == "latest" || semver.IsValid(query) {
		err = d.ask(ctx, w, w.r, path, query)
	} else { // a branch or a commit: who asks what it is wants its zip next
		w.r.deep = !p.hg
		err = d.queryAndPack(ctx, w, path, query)
	}
	defer d.leave(w)
	if err != nil {
		return nil, err
	}
	info := w.info
	d.adopt(w)
	return info, nil
}

// scratch makes a work for a version that is not known yet. It has one user.
func (d *Direct) scratch() (*work, error) {
	dir, err := d.files.module()
	if err != nil {
		return nil, troubled(broken, err, "modgate cannot write its work files")
	}
	return &work{dir: dir, busy: newLock(), users: 1}, nil
}

// fromRefs answers a question about a module whose answer only changes when
// the refs of its repository do.
func (d *Direct) fromRefs(ctx context.Context, question, path string, answer func(context.Context, *place, *refs) (remembered, error)) (remembered, error) {
	asked := time.Now()
	p, err := d.locate(ctx, path)
	if err != nil {
		return remembered{}, err
	}
	if p.hg { // it can only be asked by a run of the go command
		return answer(ctx, p, new(refs))
	}
	repo := d.repository(p.url)
	key := p.url.String() + " " + path + " " + question
	for _, notBefore := range []time.Time{d.notBefore(path, asked), asked} {
		r, err := repo.refs(ctx, notBefore)
		if err != nil {
			return remembered{}, err
		}
		d.mu.Lock()
		last, ok := d.memo[key]
		d.mu.Unlock()
		if !ok || last.digest != r.digest {
			if last, err = answer(ctx, p, r); err != nil {
				var e *DirectError
				if !errors.As(err, &e) || !e.Is(os.ErrNotExist) {
					return remembered{}, err
				}
				last.err = e
			}
			last.digest = r.digest
			d.mu.Lock()
			if len(d.memo) >= maxRemembered {
				clear(d.memo)
			}
			d.memo[key] = last
			d.mu.Unlock()
		}
		if last.err == nil {
			return last, nil
		}
		// Absence is said of what is now, not of what was a while ago.
		if !r.asked.Before(asked) {
			return remembered{}, last.err
		}
	}
	return remembered{}, fmt.Errorf("refs of %s from the future", path)
}
