package main

import (
	"net/http"
	"time"
)

// http2Progress gives each answer over HTTP/2 a deadline for progress, as
// progressConn does for a connection: there a client can stop one answer alone,
// by its window, while the connection goes on.
func http2Progress(patience time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			w = &streamWriter{ResponseWriter: w, patience: patience}
		}
		next.ServeHTTP(w, r)
	})
}

// streamWriter is an answer of which leastProgress bytes must leave within
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
		m, err := w.ResponseWriter.Write(p[n:min(n+leastProgress, len(p))])
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}
