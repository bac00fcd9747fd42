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
			n := &line{Response: Response{Record: rec}, req: httptest.NewRequest("GET", "/%0a"+"x", nil), at: time.Date(2026, 11, 22, 1, 2, 3, 456789000, time.UTC), elapsed: 1234567 * time.Nanosecond}
			var want, got bytes.Buffer
			newLines(slog.New(handler(&want, json))).write(n)
			newLines(slog.New(&collector{handler(&got, json), json, &got})).write(n)
			if got.String() != want.String() {
				t.Errorf("text %q:\n got %s\nwant %s", text, &got, &want)
			}
		}
	}
}

// TestTimesAreThoseOfSlog holds the times of many lines of one process against
// slog's, in places with several offsets.
func TestTimesAreThoseOfSlog(t *testing.T) {
	t.Parallel()
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 5*3600+30*60), time.FixedZone("", -9*3600)} {
		for _, json := range []bool{false, true} {
			var want, got bytes.Buffer
			slow := newLines(slog.New(handler(&want, json)))
			fast := newLines(slog.New(&collector{handler(&got, json), json, &got}))
			for _, nanos := range []int64{0, 1, 999, 1000, 100_000_000, 123_456_789, 999_999_999, 1e9, 1e9 + 5e6, 3600e9, 86400e9 + 1e6} {
				n := &line{Response: Response{Record: Record{ids: newIDs(), Kind: "mod", Module: "m"}}, req: httptest.NewRequest("GET", "/x", nil), at: time.Date(2026, 12, 31, 22, 59, 59, 0, zone).Add(time.Duration(nanos))}
				slow.write(n)
				fast.write(n)
				if got.String() != want.String() {
					t.Fatalf("after %d ns in %s:\n got %swant %s", nanos, zone, &got, &want)
				}
				want.Reset()
				got.Reset()
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

func (c *collector) AppendLine(_ slog.Level, l Line) {
	c.out.Write(l.Append(c.out.AvailableBuffer(), c.json))
}

func BenchmarkLine(b *testing.B) {
	var out bytes.Buffer
	l := newLines(slog.New(&collector{handler(&out, false), false, &out}))
	rec := Record{ids: newIDs(), seq: 123456, Kind: "mod", Module: "github.com/spf13/cobra", Version: "v1.10.1", Outcome: Hit, Status: 200, Bytes: 321}
	n := &line{Response: Response{Record: rec}, req: httptest.NewRequest("GET", "/x", nil), at: time.Now(), elapsed: 23 * time.Microsecond}
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		l.write(n)
	}
}
