package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// repository is one that modules come from. It outlives requests, so that
// they can share what it says.
type repository struct {
	d    *Direct
	url  *url.URL
	busy lock // held while refs are asked for

	using sync.RWMutex // held for reading while the go command uses what is kept
	ahead ahead

	mu   sync.Mutex // guards what is below
	base *url.URL   // where url redirects to, or url
	last *refs
	caps []byte // announcement of version 2 of the protocol, nil if not known
	// asked is when an ssh host was last asked for it.
	asked time.Time
}

// repository returns the one at u.
func (d *Direct) repository(u *url.URL) *repository {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.repos[u.String()]
	if r == nil {
		if len(d.repos) >= maxRemembered {
			clear(d.repos)
		}
		r = &repository{d: d, url: u, base: u, busy: newLock()}
		d.repos[u.String()] = r
	}
	return r
}

func (r *repository) known() *refs {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Renew makes questions about the module path be answered by its repository as it
// is now or later. The other modules of the repository profit.
func (d *Direct) Renew(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.renewed) >= maxRemembered {
		clear(d.renewed)
	}
	d.renewed[path] = time.Now()
}

// notBefore returns since when the refs must be known that answer a question about
// the module path which is asked now.
func (d *Direct) notBefore(path string, now time.Time) time.Time {
	since := now.Add(-d.cfg.RefsTTL)
	d.mu.Lock()
	defer d.mu.Unlock()
	renewed, ok := d.renewed[path]
	switch {
	case !ok:
	case renewed.After(since):
		return renewed
	default:
		delete(d.renewed, path)
	}
	return since
}

// address returns where requests for the repository go.
func (r *repository) address(suffix string) *url.URL {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := *r.base
	u.Path = strings.TrimSuffix(u.Path, "/") + suffix
	u.RawPath = ""
	return &u
}

// refs returns the tags and branches as they were at notBefore or later.
// Requests at the same time share one question.
func (r *repository) refs(ctx context.Context, notBefore time.Time) (*refs, error) {
	if last := r.known(); last != nil && !last.asked.Before(notBefore) {
		return last, nil
	}
	if err := r.busy.lock(ctx); err != nil {
		return nil, explained(err, r.url.Host)
	}
	defer r.busy.unlock()
	if last := r.known(); last != nil && !last.asked.Before(notBefore) {
		return last, nil
	}
	r.d.metrics.refs.Inc()
	asked := time.Now()
	var (
		fresh *refs
		err   error
	)
	if r.url.Scheme == "ssh" {
		fresh, err = r.refsOverSSH(ctx)
	} else {
		fresh, err = r.refsOverHTTP(ctx)
	}
	if err != nil {
		return nil, explained(err, r.url.Host)
	}
	fresh.asked = asked
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = fresh
	return fresh, nil
}

// askAgain is how long it is not asked again whether an ssh host speaks
// version 2 of the protocol.
const askAgain = 10 * time.Minute

func (r *repository) refsOverSSH(ctx context.Context) (*refs, error) {
	r.mu.Lock()
	whether := r.caps == nil && time.Since(r.asked) > askAgain
	if whether {
		r.asked = time.Now()
	}
	r.mu.Unlock()
	fresh, caps, err := r.d.ssh.refs(ctx, r.url, whether)
	if caps != nil {
		r.mu.Lock()
		r.caps = caps
		r.mu.Unlock()
	}
	return fresh, err
}

func (r *repository) refsOverHTTP(ctx context.Context) (*refs, error) {
	u := r.address("/info/refs")
	u.RawQuery = "service=git-upload-pack"
	resp, last, err := r.d.get(ctx, u, http.Header{"Accept": {"*/*"}}, false)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusTrouble(last, resp)
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/x-git-upload-pack-advertisement" {
		if _, err := io.CopyN(io.Discard, resp.Body, 16<<10); err != nil && !errors.Is(err, io.EOF) {
			return nil, explained(err, last.Host)
		}
		return nil, troubled(noRepository, fmt.Errorf("content type %q", ct), "%s answers, but not as a git server: no repository is there", last.Host)
	}
	fresh, err := parseRefs(resp.Body)
	if err != nil {
		var t interface{ Timeout() bool }
		if errors.As(err, &t) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, explained(err, last.Host)
		}
		return nil, troubled(broken, err, "%s does not speak the git protocol", last.Host)
	}
	if path, ok := strings.CutSuffix(last.Path, "/info/refs"); ok {
		base := *last
		base.Path, base.RawPath, base.RawQuery = path, "", ""
		r.mu.Lock()
		r.base = &base
		r.mu.Unlock()
	}
	return fresh, nil
}
