package main

import (
	"io"
	"net"
	"strings"
	"testing"
)

// nobody returns an address at which nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestRedisInTroubleIsSaidAtTheStart starts with a Redis that is not there or
// refuses us: the log says so once, with what mends it, before any request.
func TestRedisInTroubleIsSaidAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	away, silent := nobody(t), speaks(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	refuses := speaks(t, func(c net.Conn) {
		for b := make([]byte, 4096); ; {
			if _, err := c.Read(b); err != nil {
				return
			}
			c.Write([]byte("-WRONGPASS invalid username-password pair or user is disabled.\r\n"))
		}
	})
	for about, c := range map[string]struct {
		addr string
		want string
		code string
	}{
		"away":     {away, "start the Redis at " + away, "server-shared-down"},
		"silent":   {silent, "look at the Redis at " + silent, "server-shared-down"},
		"password": {refuses, "set cache.redis.user and cache.redis.password", "server-shared"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			i := w.start(t, "--cache-redis-addr="+c.addr, "--cache-redis-password=s3cret")
			until(t, "the warning of "+about, func() bool { return strings.Contains(i.log(), c.want) })
			if codes := i.liveFindings(t); strings.Join(codes, " ") != c.code {
				t.Errorf("findings %q, want %s", codes, c.code)
			}
			if _, body := get(t, i.admin+"/-/status"); !strings.Contains(body, c.want) || !strings.Contains(body, "cache.redis") {
				t.Error(body)
			}
			if log := i.log(); strings.Count(log, "redis is in trouble") != 1 || strings.Contains(log, "s3cret") {
				t.Error(log)
			}
		})
	}
}
