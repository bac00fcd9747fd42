package proxy

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A client waits for a source that says nothing only as long as there is no
// older answer.
func TestWaitFresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, f := &Server{}, &flight{done: make(chan struct{})}
		begin := time.Now()
		if err := s.waitFresh(t.Context(), f, true); !errors.Is(err, errSlow) || time.Since(begin) != stalePatience {
			t.Errorf("with an older answer: %v after %v", err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin = time.Now()
		if err := s.waitFresh(ctx, f, false); errors.Is(err, errSlow) || time.Since(begin) != time.Minute {
			t.Errorf("without: %v after %v", err, time.Since(begin))
		}
		close(f.done)
		if err := s.waitFresh(t.Context(), f, true); err != nil {
			t.Error(err)
		}
	})
}
