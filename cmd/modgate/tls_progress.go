package main

import (
	"net/http"
	"time"

	"github.com/modgate/modgate/internal/conn"
)

// http2Progress gives each answer over HTTP/2 a deadline for progress, as
// conn.Listener does for a connection: there a client can stop one answer alone,
// by its window, while the connection goes on.
func http2Progress(patience time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			growStack(r.ProtoMajor)
			w = &streamWriter{ResponseWriter: w, patience: patience}
		}
		next.ServeHTTP(w, r)
	})
}

// hitStack is more than a hit takes of the stack, in bytes.
const hitStack = 5000

// growStack makes room for a hit on the stack of the goroutine. Each request of
// HTTP/2 has a new goroutine of 2 KiB, which would grow twice, and be copied with
// all its frames, deep in the handler. Here there are few frames to copy: that
// saves a tenth of what a hit costs. i is for the compiler, which would leave out
// room if nobody chose from it.
//
//go:noinline
func growStack(i int) byte {
	var room [hitStack]byte
	return room[i]
}

// streamWriter is an answer of which conn.LeastProgress bytes must leave within
// patience.
type streamWriter struct {
	http.ResponseWriter
	patience time.Duration
	renewed  time.Time
}

// Unwrap lets http.ResponseController find what is below.
func (w *streamWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write writes p in pieces, and moves the deadline if the last time is a while
// ago.
func (w *streamWriter) Write(p []byte) (n int, err error) {
	for {
		if now := time.Now(); now.Sub(w.renewed) > w.patience/4 {
			w.renewed = now
			if err := http.NewResponseController(w.ResponseWriter).SetWriteDeadline(now.Add(w.patience)); err != nil {
				return n, err
			}
		}
		m, err := w.ResponseWriter.Write(p[n:min(n+conn.LeastProgress, len(p))])
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}
