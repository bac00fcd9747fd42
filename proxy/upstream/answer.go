package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// sniff is how many bytes of a body are looked at before it is believed.
const sniff = 512

// errStalled is the cause of a read that brought nothing.
const errStalled = tooSlow("the body stalled")

// answer is one response with a body that cannot hang. It is not safe for
// concurrent use.
type answer struct {
	*http.Response
	ctx      context.Context // ends the response
	cancel   context.CancelCauseFunc
	remote   *remote
	window   time.Duration // over which minRate must be kept
	patience time.Duration // with a read that brings nothing

	timer  *time.Timer   // runs while a read is waiting
	waited time.Duration // in this window; only time in Read counts, so that a slow consumer is not blamed on the upstream
	got    int64         // bytes in this window
}

// Read reads from the body, but fails with an error whose Timeout is true if
// no byte comes for patience, or too few in a window.
func (a *answer) Read(p []byte) (int, error) {
	if a.timer == nil {
		a.timer = time.AfterFunc(a.patience, func() { a.cancel(errStalled) })
	} else {
		a.timer.Reset(a.patience)
	}
	begin := time.Now()
	n, err := a.Body.Read(p)
	a.timer.Stop()
	a.waited += time.Since(begin)
	a.got += int64(n)
	if err == io.EOF {
		return n, err
	}
	if a.waited >= a.window {
		if a.got < int64(minRate*a.window.Seconds()) {
			a.cancel(tooSlow(fmt.Sprintf("only %d bytes within %v", a.got, a.waited.Round(time.Second))))
		}
		a.waited, a.got = 0, 0
	}
	if a.ctx.Err() != nil {
		err = context.Cause(a.ctx)
	}
	return n, err
}

// close ends the response. Only a body that was read to its end leaves the
// connection to others.
func (a *answer) close() {
	a.Body.Close()
	a.cancel(nil)
}

// readAll reads a small file.
func (a *answer) readAll(f file) ([]byte, *Error) {
	if a.ContentLength > f.max {
		return nil, tooLarge(a.remote.label, f)
	}
	data, err := io.ReadAll(io.LimitReader(a, f.max+1))
	switch {
	case err != nil:
		return nil, failed(a.remote.label, f.path, err)
	case int64(len(data)) > f.max:
		return nil, tooLarge(a.remote.label, f)
	}
	return data, nil
}

// start reads the first bytes of a body and checks them.
func (a *answer) start(f file) ([]byte, *Error) {
	if a.ContentLength > f.max {
		return nil, tooLarge(a.remote.label, f)
	}
	head := make([]byte, sniff)
	n, err := io.ReadFull(a, head)
	switch {
	case err == nil, err == io.EOF:
	case errors.Is(err, io.ErrUnexpectedEOF) && (a.ContentLength == int64(n) || a.ContentLength < 0):
		// A small file, or a chunked one that was cut off: the next read tells.
	default:
		return nil, failed(a.remote.label, f.path, err)
	}
	if err := checkStart(f, head[:n]); err != nil {
		return nil, invalid(a.remote.label, f.path, err)
	}
	return head[:n], nil
}
