package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLogGathersLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		log, sink := newLog(&out, Log{Format: "text"})
		ctx, end := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { sink.Run(ctx) })
		synctest.Wait()

		log.Info("waits")
		if out.String() != "" {
			t.Errorf("written at once: %q", out.String())
		}
		time.Sleep(logDelay)
		synctest.Wait()
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Errorf("%d lines after %v", n, logDelay)
		}
		log.Info("waits again")
		log.With("k", "v").WithGroup("g").Warn("does not wait")
		if n := strings.Count(out.String(), "\n"); n != 3 {
			t.Errorf("%d lines after a warning:\n%s", n, out.String())
		}
		log.Info("last")
		end()
		run.Wait()
		log.Info("after the end")
		if n := strings.Count(out.String(), "\n"); n != 5 {
			t.Errorf("%d lines after the end:\n%s", n, out.String())
		}
	})
}

func TestLogIsWrittenWhenTheBufferIsFull(t *testing.T) {
	var out lockedBuffer
	log, _ := newLog(&out, Log{Format: "json"})
	text := strings.Repeat("x", 1000)
	for range 100 {
		log.Info(text)
	}
	if n := len(out.String()); n < 100*1000-logBuffer || strings.Count(out.String(), "\n") != strings.Count(out.String(), text) {
		t.Errorf("%d bytes were written", n)
	}
	log.Info(strings.Repeat("y", 2*logBuffer))
	log.Warn("end")
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 102 {
		t.Errorf("%d lines", len(lines))
	}
}

// fails is a log on a full disk.
type fails struct{ calls int }

func (f *fails) Write(p []byte) (int, error) { f.calls++; return 0, errors.New("full") }

func TestLogThatCannotBeWrittenHarmsNobody(t *testing.T) {
	w := new(fails)
	log, sink := newLog(w, Log{Format: "text"})
	for range 5 {
		log.Error("lost")
	}
	if w.calls != 5 || len(sink.pending) != 0 {
		t.Errorf("%d writes, %d bytes kept", w.calls, len(sink.pending))
	}
}

func TestLogLevel(t *testing.T) {
	var out lockedBuffer
	log, sink := newLog(&out, Log{Format: "text", Level: Level(slog.LevelWarn)})
	log.Info("no")
	log.Warn("yes")
	sink.Flush()
	if strings.Contains(out.String(), "no") || !strings.Contains(out.String(), "yes") {
		t.Error(out.String())
	}
}

func accessLine(log *slog.Logger) {
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs,
		slog.String("id", "mfl2k3-1z141z3"),
		slog.String("method", "GET"),
		slog.String("kind", "mod"),
		slog.String("module", "github.com/BurntSushi/toml"),
		slog.String("version", "v1.5.0"),
		slog.String("outcome", "hit"),
		slog.Int("status", 200),
		slog.Int64("bytes", 1234),
		slog.Duration("duration", 25*time.Microsecond),
		slog.String("client", "127.0.0.1:43210"))
	log.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
}

func BenchmarkAccessLine(b *testing.B) {
	for _, format := range []string{"text", "json"} {
		b.Run(format, func(b *testing.B) {
			log, _ := newLog(io.Discard, Log{Format: format})
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					accessLine(log)
				}
			})
		})
	}
}
