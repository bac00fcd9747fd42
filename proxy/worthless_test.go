package proxy

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

func TestSuspects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSuspects()
		if s.of("a") != "" {
			t.Error("nobody has done anything")
		}
		s.remember("a", "one")
		s.remember("a", "two")
		if s.of("a") != "two" || s.of("b") != "" {
			t.Errorf("the last of a is %q, of b %q", s.of("a"), s.of("b"))
		}
		time.Sleep(suspicion - time.Second)
		if s.of("a") != "two" {
			t.Error("forgotten too early")
		}
		time.Sleep(time.Second)
		if s.of("a") != "" {
			t.Error("remembered for ever")
		}
		s.remember("a", "one")
		s.forget("a")
		if s.of("a") != "" {
			t.Error("not forgotten")
		}
		for i := range 3 * maxSuspects {
			s.remember(strconv.Itoa(i), "one")
		}
		if n := len(s.last); n > maxSuspects {
			t.Errorf("%d names are remembered", n)
		}
	})
}
