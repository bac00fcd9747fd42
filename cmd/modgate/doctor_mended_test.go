package main

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream"
	"github.com/modgate/modgate/sumdb"
)

// A trouble is told until the same thing succeeds, and what others have met stays.
func TestMendedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var troubles seenTroubles
		meet := func(module string, err error) {
			troubles.observe(&access.Record{Module: module, Outcome: access.Trouble, Err: err, Code: string(codeOf(err))})
			time.Sleep(time.Second) // of the bubble: the next is later
		}
		want := func(when string, want ...string) {
			t.Helper()
			var all []string
			live := doctor.Live{Troubles: troubles.seen()}
			for _, f := range live.Findings(doctor.Config{OS: "linux", Now: time.Now}) {
				all = append(all, string(f.Code))
			}
			slices.Sort(all)
			if !slices.Equal(all, want) {
				t.Errorf("%s: %q, want %q", when, all, want)
			}
		}
		refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		meet("example.com/a", &upstream.Error{Upstream: "one.corp", Err: refused})
		meet("example.com/b", &upstream.Error{Upstream: "two.corp", Status: 500})
		meet("example.com/c", &upstream.Error{Upstream: "two.corp", Status: 200, Err: errors.New("no zip")})
		meet("example.com/d", sumdb.ErrForged)
		meet("git.corp/m", &upstream.DirectError{Reason: "unreachable", Err: errors.New("refused")})
		meet("example.com/e", sumdb.ErrClosed)
		want("all", "http-server-error", "proxy-bad-answer", "server-busy", "server-private", "sumdb-forged", "tcp-refused")
		troubles.answered("three.corp")
		troubles.observe(&access.Record{Module: "example.com/a", Outcome: access.Hit})
		want("others succeed", "http-server-error", "proxy-bad-answer", "server-busy", "server-private", "sumdb-forged", "tcp-refused")
		troubles.answered("one.corp")
		want("one.corp answers", "http-server-error", "proxy-bad-answer", "server-busy", "server-private", "sumdb-forged")
		troubles.answered("two.corp")
		want("two.corp answers", "proxy-bad-answer", "server-busy", "server-private", "sumdb-forged")
		troubles.observe(&access.Record{Module: "example.com/x", Outcome: access.Miss})
		want("another module is fetched", "proxy-bad-answer", "server-private", "sumdb-forged")
		troubles.observe(&access.Record{Module: "example.com/c", Outcome: access.Miss})
		want("the module is fetched", "server-private", "sumdb-forged")
		troubles.observe(&access.Record{Module: "git.corp/m", Outcome: access.Miss})
		want("the private module is fetched", "sumdb-forged")
		meet("example.com/a", &upstream.Error{Upstream: "one.corp", Err: io.ErrUnexpectedEOF})
		time.Sleep(11 * time.Minute)
		want("later", "sumdb-forged")
		if troubles.private != 0 {
			t.Errorf("%d private ones are counted", troubles.private)
		}
	})
}

// TestMendedUpstream mends an upstream under a running server: its next answer takes
// the finding away, be it that something is absent.
func TestMendedUpstream(t *testing.T) {
	w := newWorld(t)
	i := w.start(t)
	for _, path := range []string{"/example.com/greet/@v/v1.0.0.mod", "/example.com/none/@v/v1.0.0.mod"} {
		w.upstream.SetFault("*", proxytest.Status(500, "down"))
		if status, text := get(t, i.url+path); status != 502 {
			t.Fatalf("%d %s", status, text)
		}
		if codes := i.liveFindings(t); !slices.Equal(codes, []string{"http-server-error"}) {
			t.Errorf("while it is down: %q", codes)
		}
		w.upstream.SetFault("*", nil)
		until(t, "it is fetched", func() bool { // what was asked for a moment ago may still fail
			status, _ := get(t, i.url+path)
			return status < 500
		})
		if codes := i.liveFindings(t); len(codes) > 0 {
			t.Errorf("mended, asked for %s: %q", strings.TrimPrefix(path, "/"), codes)
		}
	}
}
