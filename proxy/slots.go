package proxy

import (
	"context"
	"sync/atomic"
)

// slots bound how many fetches of one class run at once. They are taken inside
// a flight, never in front of a hit.
type slots struct {
	free    chan struct{}
	waiting atomic.Int64
	most    int64 // that may wait
}

func newSlots(n int) *slots {
	return &slots{free: make(chan struct{}, n), most: 4096}
}

// take waits for a slot. Waiting is better than refusing, since the go command
// does not ask again, but not without end.
func (s *slots) take(ctx context.Context) error {
	select {
	case s.free <- struct{}{}:
		return nil
	default:
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > s.most {
		return errBusy
	}
	select {
	case s.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *slots) give() { <-s.free }
