package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// longestPause is how long a retry waits at most because the upstream asks
// for it; if it asks for more, there is no retry.
const longestPause = 5 * time.Second

// remote is a GOPROXY server, or a checksum database, over HTTP.
type remote struct {
	label   string // in errors and logs
	series  string // in metrics, where few names may be
	base    *url.URL
	cfg     Config
	client  *client
	metrics *metrics
	breaker *gobreaker.CircuitBreaker[struct{}]
	last    atomic.Pointer[Error] // that spoke against the upstream; nil: none yet
}

func newRemote(c *Chain, label string, base *url.URL) *remote {
	r := &remote{label: label, series: label, base: base, cfg: c.cfg, client: c.client, metrics: c.metrics}
	r.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         label,
		Timeout:      c.cfg.BreakPause,
		ReadyToTrip:  func(n gobreaker.Counts) bool { return int(n.ConsecutiveFailures) >= c.cfg.BreakAfter },
		IsSuccessful: func(err error) bool { return err == nil || !failure(err) },
		IsExcluded:   func(err error) bool { return errors.Is(err, errGivenUp) },
		OnStateChange: func(name string, from, to gobreaker.State) {
			c.cfg.Logger.Warn("upstream circuit", "upstream", name, "from", from.String(), "to", to.String())
		},
	})
	return r
}

func (r *remote) name() string { return r.label }

// broken reports whether the circuit is open or on probation.
func (r *remote) broken() bool { return r.breaker.State() != gobreaker.StateClosed }

// errGivenUp marks requests that the caller ended: they say nothing about the
// upstream.
var errGivenUp = errors.New("given up by the caller")

// failure reports whether err speaks against the upstream as a whole. An
// answer below 500 does not, even a wrong one: a broken file must not make
// all others unreachable.
func failure(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return true
	}
	return e.Status == 0 || e.Status >= 500 || e.Status == http.StatusTooManyRequests
}

// try runs attempt until it succeeds, further attempts are pointless, or
// there were enough. It does nothing while the circuit is open.
func (r *remote) try(ctx context.Context, path string, attempt func() *Error) error {
	var last *Error
	_, err := r.breaker.Execute(func() (struct{}, error) {
		for n := 0; ; n++ {
			if last = attempt(); last == nil {
				return struct{}{}, nil
			}
			if ctx.Err() != nil && !last.Timeout() {
				return struct{}{}, errGivenUp
			}
			if final(last) || n >= r.cfg.Retries || last.RetryAfter > longestPause {
				return struct{}{}, last
			}
			if !pause(ctx, n, last.RetryAfter) {
				return struct{}{}, errGivenUp
			}
		}
	})
	if r.cfg.Answered != nil && (err == nil || last != nil && last.kind == absentNow) {
		r.cfg.Answered(r.label)
	}
	switch {
	case err == nil:
		return nil
	case last != nil:
		if failure(last) {
			r.last.Store(last)
		}
		return last
	}
	e := &Error{Upstream: r.label, Path: path, kind: trouble, Err: err, Before: r.last.Load(),
		text: "it failed again and again and is left alone for some seconds"}
	if e.Before != nil {
		e.text += ": " + e.Before.text
	}
	return e
}

// pause waits before attempt n+1 (from 0): 200 ms, then thrice as long, give
// or take half, but not less than asked for. It reports false if ctx ended.
func pause(ctx context.Context, n int, asked time.Duration) bool {
	d := 200 * time.Millisecond
	for range n {
		d *= 3
	}
	d = max(asked, d/2+rand.N(d))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *remote) get(ctx context.Context, f file) ([]byte, error) {
	var data []byte
	err := r.try(ctx, f.path, func() *Error {
		a, err := r.ask(ctx, f.path, nil, r.cfg.HeaderTimeout)
		if err != nil {
			return err
		}
		defer a.close()
		if data, err = a.readAll(f); err != nil {
			return err
		}
		if err := checkStart(f, data[:min(len(data), sniff)]); err != nil {
			return invalid(r.label, f.path, err)
		}
		return nil
	})
	return data, err
}

func (r *remote) open(ctx context.Context, f file) (io.ReadCloser, int64, error) {
	b := &body{remote: r, file: f, left: r.cfg.Retries}
	b.ctx, b.cancel = context.WithCancel(ctx)
	if err := r.try(ctx, f.path, b.begin); err != nil {
		b.cancel()
		return nil, 0, err
	}
	return b, b.size, nil
}

// ask sends one request and returns its answer if the status is 200, or 206
// where a Range was asked for. wait bounds the time to the header.
func (r *remote) ask(parent context.Context, path string, extra http.Header, wait time.Duration) (*answer, *Error) {
	ctx, cancel := context.WithCancelCause(parent)
	tooLate := tooSlow(fmt.Sprintf("no answer within %v", wait))
	late := time.AfterFunc(wait, func() { cancel(tooLate) })
	begin := time.Now()
	resp, err := r.client.get(ctx, r.url(path), extra)
	took := time.Since(begin)
	good := err == nil && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent && extra != nil)
	if good && late.Stop() {
		r.metrics.observe(r.series, resp.StatusCode, nil, took)
		a := &answer{Response: resp, ctx: ctx, cancel: cancel, remote: r, window: r.cfg.NoProgress, patience: r.cfg.NoProgress}
		if err := checkHeader(resp.Header); err != nil {
			a.close()
			return nil, invalid(r.label, path, err)
		}
		return a, nil
	}
	defer cancel(nil)
	defer late.Stop() // but not before the text of a refusal was read
	if err == nil {
		defer resp.Body.Close()
	}
	var e *Error
	switch {
	case good: // the timer was faster by a hair
		e = failed(r.label, path, tooLate)
	case err == nil:
		e = statusError(r.label, path, resp)
	case ctx.Err() != nil:
		e = failed(r.label, path, context.Cause(ctx)) // the caller's reason, or tooLate
	default:
		e = failed(r.label, path, err)
	}
	if parent.Err() == nil || e.Status != 0 || e.Timeout() {
		r.metrics.observe(r.series, e.Status, e, took)
	}
	return nil, e
}

func (r *remote) url(path string) *url.URL {
	u := *r.base
	u.RawPath = strings.TrimSuffix(u.EscapedPath(), "/") + (&url.URL{Path: path}).EscapedPath()
	u.Path += path
	return &u
}
