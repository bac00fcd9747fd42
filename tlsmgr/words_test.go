package tlsmgr

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// certmagic logs its storage with all that is in it, and words of others.
func TestZapLogger(t *testing.T) {
	var log text
	z := zapLogger(log.logger()).With(zap.Any("storage", struct{ Password string }{"pa55w0rd"}), zap.String("ca", "x"))
	z.Warn("trouble", zap.Any("storage", map[string]string{"Password": "pa55w0rd"}), zap.String("name", "a\nlevel=ERROR b"), zap.Error(errors.New("first\nsecond")), zap.Int("n", 7))
	z.Info("chatter")
	got := log.String()
	if strings.Contains(got, "pa55w0rd") || strings.Count(got, "\n") != 2 {
		t.Error(got)
	}
	for _, want := range []string{`level=WARN msg="certmagic: trouble" ca=x`, "error=first", "n=7", `level=DEBUG msg="certmagic: chatter"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		p    Problem
		want time.Duration
	}{
		{Problem{Type: "rateLimited", Status: 429, Detail: "too many, retry after 2026-11-22 15:00:00 UTC: see https://x"}, 3 * time.Hour},
		{Problem{Type: "rateLimited", Status: 429, Detail: "too many, retry after 2026-11-22T15:00:00Z"}, 3 * time.Hour},
		{Problem{Type: "rateLimited", Status: 429, Detail: "too many"}, time.Hour},
		{Problem{Status: 429, Detail: "too many"}, time.Hour},
		{Problem{Type: "rateLimited", Status: 429, Detail: "retry after 2099-01-01 00:00:00 UTC"}, time.Hour}, // not for ever
		{Problem{Type: "rateLimited", Status: 429, Detail: "retry after 2026-99-99 00:00:00 UTC"}, time.Hour},
		{Problem{Type: "rateLimited", Status: 503, Detail: "Service busy; retry later."}, 0},
		{Problem{Type: "connection", Status: 400, Detail: "retry after 2026-11-22 15:00:00 UTC"}, 0},
	} {
		got := c.p.retryAfter(now)
		if c.want == 0 != got.IsZero() || c.want != 0 && got.Sub(now) != c.want {
			t.Errorf("%+v: %v", c.p, got)
		}
	}
}

// What a CA or a user's program writes stays on one line of bearable length.
func TestFirstLine(t *testing.T) {
	for text, want := range map[string]string{
		"  one \ntwo": "one ", "a\x1b[31mb\rc": "a [31mb c", "": "", strings.Repeat("é", 2000): strings.Repeat("é", 500) + "…",
	} {
		if got := firstLine(text); got != want {
			t.Errorf("%.20q: %.40q", text, got)
		}
	}
}

// Lines that are not about handshakes pass as they are. Of handshakes each
// client's first of a cause is told, with the code of that cause, and what
// scanners do only to who wants to know everything.
func TestErrorLog(t *testing.T) {
	m := &Manager{metrics: newMetrics()}
	var log text
	code := func(cause, text string) string { return "code-of-" + cause + "-" + text[len(text)-3:] }
	l := slog.NewLogLogger(m.ErrorLog(slog.NewTextHandler(&log, nil), code).WithAttrs([]slog.Attr{slog.String("part", "http")}), slog.LevelWarn)
	l.Print("http: panic serving 192.0.2.1:9: boom")
	l.Print("http: TLS handshake error from 192.0.2.1:9: EOF")
	l.Print("http: TLS handshake error from 192.0.2.1:9: read tcp 192.0.2.2:1->192.0.2.1:9: i/o timeout")
	l.Print("http2: server: error reading preface from client 192.0.2.1:9: read tcp 192.0.2.2:1->192.0.2.1:9: read: connection reset by peer")
	l.Print("http2: server: error reading preface from client 192.0.2.1:9: timeout waiting for client preface")
	for _, client := range []string{"192.0.2.1:9", "[2001:db8::1]:9", "[2001:db8::1]:10"} {
		l.Print("http: TLS handshake error from " + client + ": remote error: tls: bad certificate")
		l.Print("http: TLS handshake error from " + client + ": tls: client offered only unsupported versions: [302 301]")
	}
	got := log.String()
	for _, want := range []string{
		`level=WARN msg="http: panic serving 192.0.2.1:9: boom" part=http`,
		"level=WARN msg=\"a client does not trust our certificate; modgate env says how it learns to\" part=http client=192.0.2.1 cause=refused code=code-of-refused-ate",
		"client=2001:db8::1 cause=refused code=",
		"level=INFO msg=\"handshake failed\" part=http client=192.0.2.1 cause=version code=code-of-version-01]",
		"client=2001:db8::1 cause=version code=",
	} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%q is not there once:\n%s", want, got)
		}
	}
	if strings.Count(got, "\n") != 5 {
		t.Error(got)
	}
}
