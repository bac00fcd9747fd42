package upstream

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// Spare slots are had only while there are any, and one is given up for each
// that somebody waits for.
func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2)
		var gave []context.Context
		for range 2 {
			ctx, give, ok := s.spare(t.Context())
			if !ok {
				t.Fatal("none is spare, but nobody has one")
			}
			gave = append(gave, ctx)
			go func() {
				<-ctx.Done()
				time.Sleep(time.Second)
				give()
			}()
		}
		if _, _, ok := s.spare(t.Context()); ok {
			t.Fatal("three of two")
		}
		begin := time.Now()
		if err := s.take(t.Context()); err != nil || time.Since(begin) != time.Second {
			t.Errorf("a slot after %v: %v", time.Since(begin), err)
		}
		synctest.Wait()
		if a, b := context.Cause(gave[0]), context.Cause(gave[1]); errors.Is(a, errWanted) == errors.Is(b, errWanted) {
			t.Errorf("one was wanted, and they ended with %v and %v", a, b)
		}
		if err := s.take(t.Context()); err != nil {
			t.Error(err)
		}
		if _, _, ok := s.spare(t.Context()); ok {
			t.Error("a slot is spare that somebody waited for")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.take(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("three of two: %v", err)
		}
		s.give()
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if _, give, ok := s.spare(ctx); ok {
			give()
		}
		s.give()
		if n := len(s.taken); n != 0 {
			t.Errorf("%d slots are taken at the end", n)
		}
	})
}

// A visit for what nobody has asked for makes nobody wait, and is not made when
// there is no slot for it.
func TestDirectLooksAheadInSpareSlots(t *testing.T) {
	w, _ := lookingAhead(t, 0, 2)
	must[[]byte](t)(w.read(lib, "v1.0.0", "mod"))
	begun := make(chan struct{}, 1)
	var hung atomic.Bool
	w.server.SetFault("*", gittest.Fetch, func(x proxytest.Exchange) {
		if hung.Swap(true) {
			x.Honest.ServeHTTP(x.W, x.R)
			return
		}
		begun <- struct{}{}
		proxytest.Stall(100)(x)
	})
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip")) // its commit has come with the .mod
	<-begun
	for range 2 { // without waiting for what hangs
		if err := w.direct.slots.take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p, err := w.direct.locate(t.Context(), lib)
	if err != nil {
		t.Fatal(err)
	}
	known := must[*refs](t)(w.direct.repository(p.url).refs(t.Context(), time.Time{}))
	fetches := w.server.Count("*", gittest.Fetch)
	lookAhead := func() {
		w.direct.lookAhead(run{place: p, refs: promised(known)}, module.Version{Path: lib, Version: "v1.0.0"})
	}
	lookAhead()
	if n := w.server.Count("*", gittest.Fetch); n != fetches {
		t.Error("a visit was made without a slot")
	}
	w.direct.slots.give()
	lookAhead()
	if n := w.server.Count("*", gittest.Fetch); n != fetches+1 {
		t.Errorf("%d visits when there is a slot again, want one for what did not come", n-fetches)
	}
	w.direct.slots.give()
}
