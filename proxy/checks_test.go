package proxy

import (
	"context"
	"errors"
	"testing"
)

// A fetch that is over does not wait for the checks of others, and is not taken
// for one of wrong bytes.
func TestSumZipLeavesTheQueue(t *testing.T) {
	t.Parallel()
	s := &Server{checks: make(chan struct{}, 1)}
	s.checks <- struct{}{}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errClosed)
	_, err := s.sumZip(ctx, newSpool(nil, nil, 0), request{from: new(supply)}, scan{})
	if !errors.Is(err, errClosed) || worthless(err) {
		t.Errorf("got %v", err)
	}
	if len(s.checks) != 1 {
		t.Error("it has given back what it did not take")
	}
}
