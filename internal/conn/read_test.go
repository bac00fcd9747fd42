package conn

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pipe is an end of net.Pipe in place of a connection of TCP. It counts how often
// the deadline for reading is moved below.
type pipe struct {
	net.Conn
	moved int
}

func (*pipe) CloseWrite() error                     { return errors.ErrUnsupported }
func (*pipe) SyscallConn() (syscall.RawConn, error) { return nil, errors.ErrUnsupported }

func (p *pipe) SetReadDeadline(t time.Time) error {
	p.moved++
	return p.Conn.SetReadDeadline(t)
}

// piped calls test in a bubble with a connection that began there, and its client.
func piped(t *testing.T, test func(t *testing.T, c *conn, below *pipe, client net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer server.Close()
		defer client.Close()
		below := &pipe{Conn: server}
		test(t, &conn{Conn: below, tcp: below, start: time.Now()}, below, client)
	})
}

// readAside reads from c, and returns what tells how that ended and when.
func readAside(c *conn) func() (after time.Duration, err error) {
	begin := time.Now()
	var end time.Time
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err = c.Read(make([]byte, 10))
		end = time.Now()
	}()
	synctest.Wait()
	return func() (time.Duration, error) {
		<-done
		return end.Sub(begin), err
	}
}

// long is what net/http sets to end a read at once.
var long = time.Unix(1, 0)

func TestReadDeadline(t *testing.T) {
	in := func(d time.Duration) time.Time { return time.Now().Add(d) }
	for name, row := range map[string]struct {
		before func(*conn) // the read
		during func(*conn)
		want   time.Duration
	}{
		"kept":                    {func(c *conn) { c.SetReadDeadline(in(time.Second)) }, func(*conn) {}, time.Second},
		"both":                    {func(c *conn) { c.SetDeadline(in(time.Second)) }, func(*conn) {}, time.Second},
		"the last counts":         {func(c *conn) { c.SetReadDeadline(in(time.Minute)); c.SetReadDeadline(in(time.Second)) }, func(*conn) {}, time.Second},
		"the last counts, later":  {func(c *conn) { c.SetReadDeadline(in(time.Second)); c.SetReadDeadline(in(time.Minute)) }, func(*conn) {}, time.Minute},
		"over long ago":           {func(c *conn) { c.SetReadDeadline(long) }, func(*conn) {}, 0},
		"over by now":             {func(c *conn) { c.SetReadDeadline(in(time.Second)); time.Sleep(2 * time.Second) }, func(*conn) {}, 0},
		"set while it waits":      {func(*conn) {}, func(c *conn) { c.SetReadDeadline(in(time.Second)) }, time.Second},
		"sooner while it waits":   {func(c *conn) { c.SetReadDeadline(in(time.Minute)) }, func(c *conn) { c.SetReadDeadline(in(time.Second)) }, time.Second},
		"later while it waits":    {func(c *conn) { c.SetReadDeadline(in(time.Second)) }, func(c *conn) { c.SetReadDeadline(in(time.Minute)) }, time.Minute},
		"ended while it waits":    {func(*conn) {}, func(c *conn) { c.SetReadDeadline(long) }, 0},
		"taken back, set again":   {func(c *conn) { c.SetReadDeadline(in(time.Second)) }, func(c *conn) { c.SetReadDeadline(time.Time{}); c.SetReadDeadline(in(time.Hour)) }, time.Hour},
		"after one that was over": {func(c *conn) { c.SetReadDeadline(long); c.Read(nil); c.SetReadDeadline(in(time.Second)) }, func(*conn) {}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			piped(t, func(t *testing.T, c *conn, _ *pipe, _ net.Conn) {
				row.before(c)
				ended := readAside(c)
				row.during(c)
				if after, err := ended(); !errors.Is(err, os.ErrDeadlineExceeded) || after != row.want {
					t.Errorf("ended after %s with %v, want %s with %v", after, err, row.want, os.ErrDeadlineExceeded)
				}
			})
		})
	}
}

// TestDeadlineTakenBack: one that was taken back, or that ended a read, does not end
// a later read, however long ago it was.
func TestDeadlineTakenBack(t *testing.T) {
	for name, set := range map[string]func(*conn){
		"before a read": func(c *conn) { c.SetReadDeadline(time.Now().Add(time.Second)) },
		"during a read": func(c *conn) {
			ended := readAside(c)
			c.SetReadDeadline(time.Now().Add(time.Second))
			ended()
		},
		"to end a read": func(c *conn) { ended := readAside(c); c.SetReadDeadline(long); ended() },
	} {
		t.Run(name, func(t *testing.T) {
			piped(t, func(t *testing.T, c *conn, _ *pipe, client net.Conn) {
				set(c)
				c.SetReadDeadline(time.Time{})
				time.Sleep(time.Hour)
				ended := readAside(c)
				time.Sleep(time.Hour)
				go client.Write([]byte("hello"))
				if after, err := ended(); err != nil || after != time.Hour {
					t.Errorf("ended after %s with %v", after, err)
				}
			})
		})
	}
}

// TestDeadlinesOfRequests does what net/http does for requests of HTTP/1.1 on a
// connection: that moves the deadline below when a client was waited for, and not
// six times each.
func TestDeadlinesOfRequests(t *testing.T) {
	piped(t, func(t *testing.T, c *conn, below *pipe, client net.Conn) {
		const requests = 1000
		for range requests {
			c.SetReadDeadline(time.Now().Add(3 * time.Minute))
			go client.Write([]byte("GET"))
			if n, err := c.Read(make([]byte, 10)); n != 3 || err != nil {
				t.Fatal(n, err)
			}
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			c.SetReadDeadline(time.Time{}) // the request is whole
			c.SetReadDeadline(time.Time{}) // it has no body; the handler begins
			c.SetReadDeadline(long)        // it ends before anybody reads
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			c.SetReadDeadline(time.Time{})
			time.Sleep(time.Second)
		}
		if most := requests / 60; below.moved > most {
			t.Errorf("moved %d times for %d requests in as many seconds, want at most %d", below.moved, requests, most)
		}
	})
}

// TestReadOfAClosedConnection ends, with what net says.
func TestReadOfAClosedConnection(t *testing.T) {
	server, client := pair(t, time.Minute)
	client.Close()
	server.SetReadDeadline(time.Now().Add(time.Hour))
	if n, err := server.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error(n, err)
	}
	server.Close()
	server.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
