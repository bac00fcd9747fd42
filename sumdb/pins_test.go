package sumdb_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

var pinned = module.Version{Path: "git.corp.example/Team/repo", Version: "v1.0.0"}

func newPins(t *testing.T, storage sumdb.PinStorage) *sumdb.Pins {
	t.Helper()
	p, err := sumdb.NewPins(sumdb.PinsConfig{Storage: storage})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The first content is trusted, the same is proven, another is refused, by
// other processes too.
func TestPinsTrustTheFirst(t *testing.T) {
	t.Parallel()
	storage := sumdbtest.NewStorage()
	p := newPins(t, storage)
	ctx := t.Context()
	for range 2 {
		if err := p.Verify(ctx, pinned, "zip", "h1:first="); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Verify(ctx, pinned, "mod", "h1:mod="); err != nil {
		t.Fatalf("another file of the same version: %v", err)
	}
	err := newPins(t, storage).Verify(ctx, pinned, "zip", "h1:moved=")
	var wrong interface{ Mismatch() (want, got string) }
	if !errors.As(err, &wrong) {
		t.Fatalf("moved tag: %v", err)
	}
	if want, got := wrong.Mismatch(); want != "h1:first=" || got != "h1:moved=" {
		t.Errorf("Mismatch() = %s, %s", want, got)
	}
	if err := p.Verify(ctx, pinned, "zip", "h1:first="); err != nil {
		t.Errorf("the first content after a refusal: %v", err)
	}
	if got := metric(t, p, "modgate_pins_recorded_total", ""); got != 2 {
		t.Errorf("%v hashes recorded, want 2", got)
	}
}

// Files that come together are one: if one of them is not what it was, nothing
// is recorded of the rest, and all that differ can be accepted at once.
func TestPinsOfFilesTogether(t *testing.T) {
	t.Parallel()
	p := newPins(t, sumdbtest.NewStorage())
	ctx := t.Context()
	files := func(zip, mod string) map[string]string { return map[string]string{"zip": zip, "mod": mod} }
	moved := func(what string, err error, kind string) {
		t.Helper()
		var m *sumdb.Moved
		if !errors.As(err, &m) || m.Kind != kind {
			t.Errorf("%s: %v, want the %s to have moved", what, err, kind)
		}
	}
	if err := p.Verify(ctx, pinned, "mod", "h1:m="); err != nil {
		t.Fatal(err)
	}
	err := p.VerifyFiles(ctx, pinned, files("h1:b=", "h1:n="))
	moved("the zip of another commit", err, "mod")
	var public interface{ Public() string }
	if !errors.As(err, &public) || !strings.Contains(public.Public(), "with other go.mod") {
		t.Errorf("clients read %v", err)
	}
	if pin, err := p.Pin(ctx, pinned); err != nil || pin.Files["zip"] != nil || pin.Files["mod"].Refused != "h1:n=" {
		t.Errorf("after the refusal: %+v, %v", pin, err)
	}
	for range 2 {
		if err := p.VerifyFiles(ctx, pinned, files("h1:a=", "h1:m=")); err != nil {
			t.Fatalf("the zip of the same commit: %v", err)
		}
	}
	moved("both", p.VerifyFiles(ctx, pinned, files("h1:b=", "h1:n=")), "zip")
	if changes, err := p.Accept(ctx, pinned, nil, "anna", "why"); err != nil || len(changes) != 2 {
		t.Errorf("accepted %v, %v", changes, err)
	}
	if err := p.VerifyFiles(ctx, pinned, files("h1:b=", "h1:n=")); err != nil {
		t.Errorf("after both were accepted: %v", err)
	}
	if got := metric(t, p, "modgate_pins_recorded_total", ""); got != 2 {
		t.Errorf("%v hashes recorded, want 2", got)
	}
	if got := metric(t, p, "modgate_pin_mismatches_total", ""); got != 2 {
		t.Errorf("%v refusals counted, want 2", got)
	}
}

// Many that come first at once agree on one.
func TestPinsTogether(t *testing.T) {
	t.Parallel()
	storage := sumdbtest.NewStorage()
	var (
		wg sync.WaitGroup
		mu sync.Mutex
		ok = map[string]int{}
	)
	for i := range 6 {
		wg.Go(func() {
			hash := "h1:" + strings.Repeat("x", i%2+1)
			if newPins(t, storage).Verify(t.Context(), pinned, "zip", hash) == nil {
				mu.Lock()
				ok[hash]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(ok) != 1 {
		t.Errorf("accepted %v, want one of them", ok)
	}
}

func TestPinsAccept(t *testing.T) {
	t.Parallel()
	p := newPins(t, sumdbtest.NewStorage())
	ctx := t.Context()
	if _, err := p.Accept(ctx, pinned, nil, "anna", "why"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Accept of what was never fetched: %v", err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.Verify(ctx, pinned, "zip", "h1:a="))
	must(p.Verify(ctx, pinned, "mod", "h1:m="))
	if _, err := p.Accept(ctx, pinned, nil, "anna", "why"); err == nil {
		t.Error("Accept where nothing was refused: no error")
	}
	_ = p.Verify(ctx, pinned, "zip", "h1:b=")
	if _, err := p.Accept(ctx, pinned, []string{"h1:c="}, "anna", "why"); err == nil {
		t.Error("Accept of a hash that was not refused: no error")
	}
	changes, err := p.Accept(ctx, pinned, []string{"h1:b="}, "anna", "force push after a leak")
	must(err)
	if len(changes) != 1 || changes[0].Was != "h1:a=" || changes[0].Is != "h1:b=" {
		t.Errorf("changes %+v", changes)
	}
	must(p.Verify(ctx, pinned, "zip", "h1:b="))
	if err := p.Verify(ctx, pinned, "zip", "h1:a="); err == nil {
		t.Error("the old content is still proven")
	}
	pin, err := p.Pin(ctx, pinned)
	must(err)
	if len(pin.Accepted) != 1 || pin.Accepted[0].By != "anna" || pin.Accepted[0].Reason == "" {
		t.Errorf("history %+v", pin.Accepted)
	}
}

// What cannot be read proves nothing; what cannot be written contradicts
// nothing.
func TestPinsTrouble(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	storage := sumdbtest.NewStorage()
	name, err := sumdb.PinName(pinned)
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.Put(ctx, name, []byte("{torn")); err != nil {
		t.Fatal(err)
	}
	p := newPins(t, storage)
	err = p.Verify(ctx, pinned, "zip", "h1:a=")
	var text interface{ Public() string }
	if err == nil || errors.Is(err, fs.ErrNotExist) || !errors.As(err, &text) {
		t.Errorf("torn pin: %v", err)
	}
	var unkept interface{ Unkept() bool }
	err = newPins(t, fullStorage{sumdbtest.NewStorage()}).Verify(ctx, pinned, "zip", "h1:a=")
	if !errors.As(err, &unkept) || !unkept.Unkept() {
		t.Errorf("full disk: %v", err)
	}
}

// fullStorage takes nothing.
type fullStorage struct{ sumdb.PinStorage }

func (fullStorage) Swap(context.Context, string, []byte, []byte) error {
	return errors.New("no space left on device")
}
