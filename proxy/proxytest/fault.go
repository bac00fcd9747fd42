package proxytest

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"time"
)

// Exchange is one request that a Fault answers.
type Exchange struct {
	W      http.ResponseWriter
	R      *http.Request
	N      int             // how often this path was asked for, this time included
	Honest http.Handler    // what would have answered
	Done   <-chan struct{} // closed when the test ends
}

// Fault answers instead of the server, or lets Honest answer into something
// that spoils it.
type Fault func(Exchange)

// Status answers with a status and a text.
func Status(code int, text string) Fault {
	return func(x Exchange) { http.Error(x.W, text, code) }
}

// HTML answers like a captive portal: 200 and a page.
func HTML() Fault {
	return func(x Exchange) {
		x.W.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(x.W, "<!DOCTYPE html><html><body>Please sign in to CANARY-PORTAL</body></html>")
	}
}

// Bytes answers 200 with these bytes, whatever was asked, as a body of known
// length.
func Bytes(contentType string, data []byte) Fault {
	return func(x Exchange) {
		x.W.Header().Set("Content-Type", contentType)
		x.W.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = x.W.Write(data)
	}
}

// Reset breaks the connection (or HTTP/2 stream) after n bytes of the body,
// whose length was announced. With 0 no answer comes at all.
func Reset(n int64) Fault {
	return func(x Exchange) {
		if n > 0 {
			x.Honest.ServeHTTP(&spoiler{ResponseWriter: x.W, left: n, then: abort}, x.R)
		}
		abort()
	}
}

// Short ends the body cleanly after n bytes, without having told its length.
func Short(n int64) Fault {
	return func(x Exchange) {
		x.Honest.ServeHTTP(&spoiler{ResponseWriter: x.W, left: n, hide: true}, x.R)
	}
}

// Append adds garbage behind an honest body, without having told its length.
func Append(garbage []byte) Fault {
	return func(x Exchange) {
		x.Honest.ServeHTTP(&spoiler{ResponseWriter: x.W, left: 1 << 62, hide: true}, x.R)
		_, _ = x.W.Write(garbage)
	}
}

// Stall sends n bytes of the body and then nothing, until the client leaves
// or the test ends. A negative n withholds even the header.
func Stall(n int64) Fault {
	return func(x Exchange) {
		if n < 0 {
			x.wait(1 << 62)
			return
		}
		s := &spoiler{ResponseWriter: x.W, left: n, then: func() { x.wait(1 << 62); abort() }}
		if n == 0 {
			x.W.WriteHeader(http.StatusOK)
			s.flush()
			s.then()
		}
		x.Honest.ServeHTTP(s, x.R)
	}
}

// Dribble sends the body byte by byte with a pause before each.
func Dribble(pause time.Duration) Fault {
	return func(x Exchange) {
		x.Honest.ServeHTTP(&spoiler{ResponseWriter: x.W, left: 1 << 62, pause: func() bool { return x.wait(pause) }}, x.R)
	}
}

// Endless answers 200 and never stops sending: first prefix, then the filling
// again and again.
func Endless(contentType, prefix, filling string) Fault {
	return func(x Exchange) {
		x.W.Header().Set("Content-Type", contentType)
		_, err := io.WriteString(x.W, prefix)
		for block := repeat(filling, 32<<10); err == nil && x.R.Context().Err() == nil; {
			_, err = x.W.Write(block)
		}
	}
}

// Redirect sends the client elsewhere.
func Redirect(code int, url string) Fault {
	return func(x Exchange) { http.Redirect(x.W, x.R, url, code) }
}

// FirstN lets f answer the first n requests for a path, then the server.
func FirstN(n int, f Fault) Fault {
	return func(x Exchange) {
		if x.N <= n {
			f(x)
			return
		}
		x.Honest.ServeHTTP(x.W, x.R)
	}
}

// NoRange answers honestly but as if ranges were unknown.
func NoRange() Fault {
	return func(x Exchange) {
		x.R.Header.Del("Range")
		x.Honest.ServeHTTP(x.W, x.R)
	}
}

// Delay answers honestly after a while.
func Delay(d time.Duration) Fault {
	return func(x Exchange) {
		if x.wait(d) {
			x.Honest.ServeHTTP(x.W, x.R)
		}
	}
}

// wait reports whether d passed before the client left or the test ended.
func (x Exchange) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.R.Context().Done():
	case <-x.Done:
	}
	return false
}

// abort makes net/http break the connection without a log line.
func abort() { panic(http.ErrAbortHandler) }

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func repeat(s string, n int) []byte {
	b := make([]byte, 0, n+len(s))
	for len(b) < n {
		b = append(b, s...)
	}
	return b
}

// spoiler passes a body on until it has had enough.
type spoiler struct {
	http.ResponseWriter
	left  int64       // bytes until the end
	then  func()      // called at the end; nil swallows the rest
	hide  bool        // announce no length
	pause func() bool // before each byte; false ends all
}

func (s *spoiler) WriteHeader(code int) {
	if s.hide {
		s.Header().Del("Content-Length")
		s.Header().Del("ETag")
	}
	s.ResponseWriter.WriteHeader(code)
	s.flush()
}

func (s *spoiler) flush() {
	if f, ok := s.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

func (s *spoiler) Write(p []byte) (int, error) {
	if s.pause != nil {
		return s.writeSlowly(p)
	}
	n := min(int64(len(p)), s.left)
	if _, err := s.ResponseWriter.Write(p[:n]); err != nil {
		return 0, err
	}
	s.left -= n
	if n < int64(len(p)) && s.then != nil {
		s.flush()
		s.then()
	}
	return len(p), nil
}

func (s *spoiler) writeSlowly(p []byte) (int, error) {
	for i := range p {
		if !s.pause() {
			return i, fmt.Errorf("client left")
		}
		if _, err := s.ResponseWriter.Write(p[i : i+1]); err != nil {
			return i, err
		}
		s.flush()
	}
	return len(p), nil
}
