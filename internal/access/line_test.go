package access

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"
)

// TestLineIsThatOfSlog holds the fast way against slog's own handlers.
func TestLineIsThatOfSlog(t *testing.T) {
	t.Parallel()
	texts := []string{"", "plain", "two words", "k=v", `"quoted"`, "line\r\nbreak", "\x1b[31m", "ünïcode", "\xff\xfe", "<a&b>", `back\slash`, "\u2028", "tab\t", "\x7f"}
	for _, text := range texts {
		for _, json := range []bool{false, true} {
			rec := Record{ids: newIDs(), seq: 7, Kind: "zip", Module: text, Version: "v1.0.0+incompatible", Outcome: Trouble, Status: 502, Bytes: 1 << 40, Err: errors.New(text)}
			n := line{&Response{Record: rec}, httptest.NewRequest("GET", "/%0a"+"x", nil), time.Date(2026, 11, 22, 1, 2, 3, 456789000, time.UTC), 1234567 * time.Nanosecond}
			var want, got bytes.Buffer
			newLines(slog.New(handler(&want, json))).write(n)
			newLines(slog.New(&collector{handler(&got, json), json, &got})).write(n)
			if got.String() != want.String() {
				t.Errorf("text %q:\n got %s\nwant %s", text, &got, &want)
			}
		}
	}
}

func handler(w io.Writer, json bool) slog.Handler {
	opts := &slog.HandlerOptions{Level: slog.LevelDebug}
	if json {
		return slog.NewJSONHandler(w, opts)
	}
	return slog.NewTextHandler(w, opts)
}

// collector is a Liner.
type collector struct {
	slog.Handler
	json bool
	out  *bytes.Buffer
}

func (c *collector) AppendLine(_ slog.Level, build func([]byte, bool) []byte) {
	c.out.Write(build(c.out.AvailableBuffer(), c.json))
}

func BenchmarkLine(b *testing.B) {
	var out bytes.Buffer
	l := newLines(slog.New(&collector{handler(&out, false), false, &out}))
	rec := Record{ids: newIDs(), seq: 123456, Kind: "mod", Module: "github.com/spf13/cobra", Version: "v1.10.1", Outcome: Hit, Status: 200, Bytes: 321}
	n := line{&Response{Record: rec}, httptest.NewRequest("GET", "/x", nil), time.Now(), 23 * time.Microsecond}
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		l.write(n)
	}
}
