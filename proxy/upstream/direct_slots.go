package upstream

import (
	"context"
	"errors"
)

// errWanted is why the context of a spare slot ends when somebody needs it.
var errWanted = errors.New("somebody waits for the slot")

// slots bound how many programs that reach repositories run at once. Those that
// somebody waits for queue for one; those that nobody asked for have one only
// while it is spare.
type slots struct {
	taken chan struct{}
	want  chan struct{} // received from by those that have a spare one
}

func newSlots(n int) slots {
	return slots{taken: make(chan struct{}, n), want: make(chan struct{})}
}

// take takes a slot, and lets one that is used without need become free.
func (s slots) take(ctx context.Context) error {
	select {
	case s.taken <- struct{}{}:
		return nil
	default:
	}
	want := s.want
	for {
		select {
		case s.taken <- struct{}{}:
			return nil
		case want <- struct{}{}:
			want = nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// spare takes a slot if one is free now. The context that it returns ends when
// somebody needs it (errWanted); then, or when the work is done, it is to be
// given back.
func (s slots) spare(ctx context.Context) (_ context.Context, give func(), ok bool) {
	select {
	case s.taken <- struct{}{}:
	default:
		return nil, nil, false
	}
	ctx, cancel := context.WithCancelCause(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-s.want:
			cancel(errWanted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-over
		s.give()
	}, true
}

func (s slots) give() { <-s.taken }
