package sumdbtest

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"
)

// Answer is what the log is about to say to one request.
type Answer struct {
	// Path that was asked for, such as "/lookup/golang.org/x/text@v0.20.0".
	Path   string
	Status int
	Body   []byte
	// Wait, if not nil, is waited for before the answer leaves; a client that
	// goes away ends the wait.
	Wait <-chan struct{}
	// Delay passes before the answer leaves.
	Delay time.Duration
}

// Lie changes an answer. It is called for each request, one at a time per
// request but concurrently for several, and may change any field but Path.
type Lie func(*Answer)

// Lie replaces the lies of the log; none makes it honest again.
func (l *Log) Lie(lies ...Lie) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lies = lies
}

// FlipBit turns over one bit of each body whose path starts with prefix. A bit
// past the end counts from the start again.
func FlipBit(prefix string, bit int) Lie {
	return on(prefix, func(a *Answer) {
		if n := len(a.Body) * 8; n > 0 {
			a.Body = append([]byte(nil), a.Body...)
			a.Body[bit%n/8] ^= 1 << (bit % 8)
		}
	})
}

// Say answers every path that starts with prefix by a status and a body.
func Say(prefix string, status int, body string) Lie {
	return on(prefix, func(a *Answer) { a.Status, a.Body = status, []byte(body) })
}

// Replace replaces old by new in each body whose path starts with prefix.
func Replace(prefix, old, new string) Lie {
	return on(prefix, func(a *Answer) { a.Body = []byte(strings.ReplaceAll(string(a.Body), old, new)) })
}

// Stall holds back every answer to a path that starts with prefix until
// release is closed.
func Stall(prefix string, release <-chan struct{}) Lie {
	return on(prefix, func(a *Answer) { a.Wait = release })
}

// Delay makes every answer take at least d.
func Delay(d time.Duration) Lie {
	return func(a *Answer) { a.Delay = d }
}

// As answers every path that starts with prefix as another log would: an
// unrelated record, a fork.
func As(prefix string, other *Log) Lie {
	return on(prefix, func(a *Answer) { *a = other.answer(a.Path) })
}

func on(prefix string, change Lie) Lie {
	return func(a *Answer) {
		if strings.HasPrefix(a.Path, prefix) {
			change(a)
		}
	}
}

// Requests returns the paths that were asked for and start with prefix, in the
// order in which they came.
func (l *Log) Requests(prefix string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, p := range l.asked {
		if strings.HasPrefix(p, prefix) {
			out = append(out, p)
		}
	}
	return out
}

// Forget empties the list of Requests.
func (l *Log) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = nil
}

// ServeHTTP answers one request.
func (l *Log) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, err := l.ask(r.Context(), r.URL.Path)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(a.Status)
	w.Write(a.Body)
}

// SumDB answers one request without HTTP. Statuses 404 and 410 are
// fs.ErrNotExist, as is a database of another name.
func (l *Log) SumDB(ctx context.Context, database, path string) ([]byte, error) {
	if database != l.name {
		return nil, fmt.Errorf("checksum database %s: %w", database, fs.ErrNotExist)
	}
	a, err := l.ask(ctx, path)
	switch {
	case err != nil:
		return nil, err
	case a.Status == http.StatusNotFound, a.Status == http.StatusGone:
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	case a.Status != http.StatusOK:
		return nil, fmt.Errorf("%s: status %d", path, a.Status)
	}
	return a.Body, nil
}

func (l *Log) ask(ctx context.Context, path string) (Answer, error) {
	l.mu.Lock()
	l.asked = append(l.asked, path)
	lies := l.lies
	l.mu.Unlock()

	a := l.answer(path)
	for _, lie := range lies {
		lie(&a)
	}
	if a.Wait != nil {
		select {
		case <-a.Wait:
		case <-ctx.Done():
		}
	}
	if a.Delay > 0 {
		select {
		case <-time.After(a.Delay):
		case <-ctx.Done():
		}
	}
	return a, ctx.Err()
}

// answer is what an honest log says.
func (l *Log) answer(path string) Answer {
	a := Answer{Path: path, Status: http.StatusOK}
	if path == "/supported" {
		return a
	}
	rec := httptest.NewRecorder()
	l.server.ServeHTTP(rec, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}})
	a.Status, a.Body = rec.Code, rec.Body.Bytes()
	return a
}
