package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync"
)

// inside is an http.RoundTripper whose server is a handler of this process. The
// caller waits for its goroutines when all bodies are closed.
type inside struct {
	handler http.Handler
	from    string // RemoteAddr of its requests
	sync.WaitGroup
}

// insideKey marks the context of what this process asks itself.
type insideKey struct{}

// fromInside reports whether this process asks itself, which needs no token.
func fromInside(r *http.Request) bool { return r.Context().Value(insideKey{}) != nil }

// errCut says that the handler has aborted its answer.
var errCut = errors.New("the answer was cut short; the log says why")

// RoundTrip implements http.RoundTripper.
func (t *inside) RoundTrip(req *http.Request) (*http.Response, error) {
	r, w := io.Pipe()
	answer := &insideAnswer{header: http.Header{}, body: w, ready: make(chan struct{})}
	in := req.Clone(context.WithValue(req.Context(), insideKey{}, true))
	in.RemoteAddr, in.RequestURI = t.from, req.URL.RequestURI()
	if in.Body == nil {
		in.Body = http.NoBody
	}
	t.Go(func() {
		// net/http does the same for a handler that panics.
		defer func() {
			err := error(nil)
			if recover() != nil {
				err = errCut
			}
			answer.fail(err)
			_ = w.CloseWithError(err)
		}()
		t.handler.ServeHTTP(answer, in)
		answer.WriteHeader(http.StatusOK)
	})
	select {
	case <-answer.ready:
	case <-req.Context().Done():
		_ = r.CloseWithError(req.Context().Err())
		return nil, req.Context().Err()
	}
	if answer.err != nil {
		_ = r.Close()
		return nil, answer.err
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", answer.status, http.StatusText(answer.status)), StatusCode: answer.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: answer.sent, Body: r, ContentLength: -1, Request: req,
	}, nil
}

// insideAnswer is an http.ResponseWriter that a reader in this process gets. Only
// the handler uses it until ready is closed.
type insideAnswer struct {
	header http.Header
	body   *io.PipeWriter

	ready  chan struct{} // closed when what follows is final
	status int
	sent   http.Header
	err    error
}

// Header implements http.ResponseWriter.
func (a *insideAnswer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *insideAnswer) WriteHeader(status int) {
	if a.status != 0 || status < http.StatusOK {
		return
	}
	a.status, a.sent = status, a.header.Clone()
	close(a.ready)
}

// Write implements http.ResponseWriter.
func (a *insideAnswer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// fail ends an answer without a status.
func (a *insideAnswer) fail(err error) {
	if a.status == 0 && err != nil {
		a.err = err
		close(a.ready)
	}
}

// fetch has the handler of a fetch a file of the protocol, as a client would.
func (a *app) fetch(ctx context.Context, name string) error {
	if a.handler == nil {
		return fs.ErrNotExist // this is a command
	}
	through := &inside{handler: a.handler, from: "scrub"}
	defer through.Wait()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://modgate"+a.base+"/"+name, nil)
	if err != nil {
		return err
	}
	resp, err := through.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return drain(resp.Body)
}
