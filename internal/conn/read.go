package conn

import (
	"errors"
	"os"
	"sync"
	"time"
)

// reading keeps the deadline for reading, and tells the kernel's poller only of one
// that a read could meet. net/http moves it six times for a request of HTTP/1.1 and
// takes most of that back before anybody reads; each time costs readings of the
// clock and a change of a timer.
type reading struct {
	mu     sync.Mutex // guards what follows
	wanted time.Time  // zero: none
	armed  time.Time  // what the poller has; while busy not later than wanted
	busy   bool       // a read is in progress
}

// SetReadDeadline sets the deadline for reads to come and for one in progress.
func (c *conn) SetReadDeadline(t time.Time) error {
	r := &c.reading
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = t
	if r.busy && r.late() {
		return c.arm()
	}
	return nil
}

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// late reports whether the poller would let a read go on past what is wanted.
func (r *reading) late() bool {
	return !r.wanted.IsZero() && (r.armed.IsZero() || r.wanted.Before(r.armed))
}

// arm tells the poller what is wanted.
func (c *conn) arm() error {
	c.reading.armed = c.reading.wanted
	return c.tcp.SetReadDeadline(c.reading.armed)
}

// longAgo reports whether t was over before the connection began, as it is where
// net/http wants a read to end.
func (c *conn) longAgo(t time.Time) bool { return !t.IsZero() && t.Before(c.start) }

// Read reads what there is. One goroutine at a time may read.
func (c *conn) Read(p []byte) (int, error) {
	r := &c.reading
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if c.longAgo(r.wanted) {
			return 0, os.ErrDeadlineExceeded
		}
		if r.late() || c.longAgo(r.armed) {
			if err := c.arm(); err != nil {
				return 0, err
			}
		}
		r.busy = true
		r.mu.Unlock()
		n, err := c.tcp.Read(p)
		r.mu.Lock()
		r.busy = false
		if n > 0 || err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || r.over() {
			return n, err
		}
		// The poller had one that was moved since.
		if err := c.arm(); err != nil {
			return 0, err
		}
	}
}

// over reports whether what is wanted has passed.
func (r *reading) over() bool { return !r.wanted.IsZero() && !time.Now().Before(r.wanted) }
