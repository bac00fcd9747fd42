package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/modgate/modgate/internal/access"
)

const (
	// logBuffer holds about a hundred lines; a full one is written at once.
	logBuffer = 32 << 10
	// logRoom is the length of a long line.
	logRoom = 1 << 10
	// logDelay bounds how long a line waits for others. One write per line
	// would cost more than serving the request that it is about.
	logDelay = 100 * time.Millisecond
)

// newLog returns a logger that writes to a logSink, which the caller runs.
func newLog(w io.Writer, cfg Log) (*slog.Logger, *logSink) {
	sink := &logSink{out: w, pending: make([]byte, 0, logBuffer)}
	opts := &slog.HandlerOptions{Level: slog.Level(cfg.Level)}
	var h slog.Handler = slog.NewTextHandler(sink, opts)
	if cfg.Format == "json" {
		h = slog.NewJSONHandler(sink, opts)
	}
	return slog.New(logHandler{flushing{h, sink}, cfg.Format == "json"}), sink
}

// logSink gathers log lines and writes many at once. Safe for concurrent use.
// What cannot be written is dropped: a full disk below the log must not end
// the service.
type logSink struct {
	mu      sync.Mutex // guards what follows
	out     io.Writer
	pending []byte
	direct  bool // every line is written at once
}

// Write takes one line.
func (s *logSink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending)+len(line) > logBuffer {
		s.flush()
	}
	s.pending = append(s.pending, line...)
	if s.direct {
		s.flush()
	}
	return len(line), nil
}

// append lets build append a line to what waits.
func (s *logSink) append(flush bool, build func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = build(s.pending)
	if flush || s.direct || len(s.pending) > logBuffer-logRoom {
		s.flush()
	}
}

// Flush writes what waits.
func (s *logSink) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
}

func (s *logSink) flush() {
	if len(s.pending) > 0 {
		s.out.Write(s.pending)
		s.pending = s.pending[:0]
	}
}

// Direct writes what waits, and from now on every line at once.
func (s *logSink) Direct() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.direct = true
	s.flush()
}

// Run flushes every logDelay until ctx ends. From then on every line is
// written at once, so that nothing is lost however the process ends.
func (s *logSink) Run(ctx context.Context) error {
	tick := time.NewTicker(logDelay)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.Direct()
			return nil
		case <-tick.C:
			s.Flush()
		}
	}
}

// flushing flushes the sink behind every line that somebody should see now.
type flushing struct {
	slog.Handler
	sink *logSink
}

// Handle writes the line.
func (h flushing) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		h.sink.Flush()
	}
	return err
}

// WithAttrs returns the handler with attrs on every line.
func (h flushing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return flushing{h.Handler.WithAttrs(attrs), h.sink}
}

// WithGroup returns the handler with a group open.
func (h flushing) WithGroup(name string) slog.Handler {
	return flushing{h.Handler.WithGroup(name), h.sink}
}

// logHandler also takes the finished lines of requests. With attributes or in
// a group it would no longer be the same line, so those are only flushing.
type logHandler struct {
	flushing
	json bool
}

// AppendLine implements access.Liner.
func (h logHandler) AppendLine(level slog.Level, l access.Line) {
	h.sink.append(level >= slog.LevelWarn, func(dst []byte) []byte { return l.Append(dst, h.json) })
}
