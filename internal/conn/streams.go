package conn

import (
	"net/http"
	"sync"
	"time"
)

// BoundStreams gives each answer of s over HTTP/2 a deadline for progress, as a
// Listener does for a connection: there a client can stop one answer alone, by
// its window, while the connection goes on.
//
// http.Server.WriteTimeout, which net/http arms as a stream begins, is the
// deadline of answers that are soon done, and costs a tenth of what
// http.ResponseController takes for one. It is moved for those that take longer.
// Over HTTP/1.1 it is one more deadline that the Listener moves.
func BoundStreams(s *http.Server, patience time.Duration) {
	s.WriteTimeout = patience
	next, open := s.Handler, &streams{patience: patience}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			next.ServeHTTP(w, r)
			return
		}
		growStack(r.ProtoMajor)
		st := &stream{ResponseWriter: w, conn: of(r.Context()), patience: patience, renewed: time.Now()}
		if st.conn != nil && !st.conn.gathers.Load() {
			st.conn.gathers.Store(true)
		}
		open.add(st)
		defer open.remove(st)
		next.ServeHTTP(st, r)
	})
}

// hitStack is more than a hit takes of the stack, in bytes.
const hitStack = 5000

// growStack makes room for a hit on the stack of the goroutine. Each request of
// HTTP/2 has a new goroutine of 2 KiB, which would grow twice, and be copied with
// all its frames, deep in the handler. Here there are few frames to copy: that
// saves a tenth of what a hit costs. i is for the compiler, which would leave out
// room if nobody chose from it.
//
//go:noinline
func growStack(i int) byte {
	var room [hitStack]byte
	return room[i]
}

// stream is an answer of which LeastProgress bytes must leave within patience.
type stream struct {
	http.ResponseWriter
	conn       *conn // nil if it is none of ours
	patience   time.Duration
	prev, next *stream // of those that are open; guarded by streams.mu

	mu      sync.Mutex // guards what follows, and the deadline
	renewed time.Time  // when the deadline was last moved, or the stream began
	writing bool
	over    bool // the handler has returned: net/http has the ResponseWriter back
}

// Unwrap lets http.ResponseController find what is below.
func (st *stream) Unwrap() http.ResponseWriter { return st.ResponseWriter }

// Write writes p in pieces of LeastProgress.
func (st *stream) Write(p []byte) (n int, err error) {
	for {
		piece := p[n:min(n+LeastProgress, len(p))]
		if err := st.begin(); err != nil {
			return n, err
		}
		m, err := st.ResponseWriter.Write(piece)
		st.mu.Lock()
		st.writing = false
		st.mu.Unlock()
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// begin notes that a piece is being written. From now on only the client's
// progress moves the deadline.
func (st *stream) begin() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.writing = true
	return st.renew(time.Now())
}

// renew moves the deadline if the last time is a while ago, with st.mu held.
func (st *stream) renew(now time.Time) error {
	if now.Sub(st.renewed) < st.patience/4 {
		return nil
	}
	st.renewed = now
	return http.NewResponseController(st.ResponseWriter).SetWriteDeadline(now.Add(st.patience))
}

// streams are those whose handlers have not returned. The deadline is moved for
// one that waits for an upstream, say, and for one that waits for its connection,
// which has a deadline itself: neither is what its client has stopped.
type streams struct {
	patience time.Duration

	mu       sync.Mutex
	first    *stream // guarded by mu
	watching bool    // a timer runs; guarded by mu
}

func (s *streams) add(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.next = s.first; st.next != nil {
		st.next.prev = st
	}
	s.first = st
	if !s.watching {
		s.watching = true
		time.AfterFunc(s.patience/4, s.watch)
	}
}

func (s *streams) remove(st *stream) {
	st.mu.Lock()
	st.over = true
	st.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.next != nil {
		st.next.prev = st.prev
	}
	if st.prev != nil {
		st.prev.next = st.next
	} else {
		s.first = st.next
	}
}

// watch moves the deadlines of those who wait, as long as there is anybody.
func (s *streams) watch() {
	var open []*stream
	s.mu.Lock()
	for st := s.first; st != nil; st = st.next {
		open = append(open, st)
	}
	s.watching = len(open) > 0
	s.mu.Unlock()
	if len(open) == 0 {
		return
	}
	now := time.Now()
	for _, st := range open {
		st.mu.Lock()
		if !st.over && (!st.writing || st.conn != nil && st.conn.stuck(s.patience/8)) {
			_ = st.renew(now) // of a connection that is gone; its handler finds out
		}
		st.mu.Unlock()
	}
	time.AfterFunc(s.patience/4, s.watch)
}
