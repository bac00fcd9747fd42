package proxy

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"
)

func mods(paths ...string) []module.Version {
	var out []module.Version
	for _, p := range paths {
		out = append(out, module.Version{Path: "example.com/" + p, Version: "v1.0.0"})
	}
	return out
}

func TestWaitedAreTakenOnceByOneOfThem(t *testing.T) {
	t.Parallel()
	var w waited
	for _, m := range mods("a", "b", "c", "b") {
		w.note(m)
	}
	if got := w.take(mods("x")[0]); got != nil {
		t.Errorf("a module that nobody has waited for takes %v", got)
	}
	if got, want := w.take(mods("b")[0]), mods("a", "c"); !slices.Equal(got, want) {
		t.Errorf("took %v, want %v", got, want)
	}
	if got := w.take(mods("a")[0]); got != nil {
		t.Errorf("took %v a second time", got)
	}
}

func TestWaitedAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w waited
		w.note(mods("old")[0])
		time.Sleep(waitedFor - time.Second)
		w.note(mods("new")[0])
		w.note(mods("asked")[0])
		if got := w.take(mods("asked")[0]); len(got) != 2 {
			t.Errorf("took %v, want two", got)
		}
		w.note(mods("old")[0])
		time.Sleep(time.Second)
		w.note(mods("new")[0])
		w.note(mods("asked")[0])
		time.Sleep(waitedFor - time.Second)
		if got, want := w.take(mods("asked")[0]), mods("new"); !slices.Equal(got, want) {
			t.Errorf("took %v, want %v", got, want)
		}
	})
}

func TestWaitedAreBounded(t *testing.T) {
	t.Parallel()
	var w waited
	m := mods("m")[0]
	for range 3 * maxWaited {
		w.note(m)
		if len(w.list) > maxWaited {
			t.Fatalf("%d are remembered", len(w.list))
		}
	}
	w.note(mods("last")[0])
	if got := w.take(m); !slices.Equal(got, mods("last")) {
		t.Errorf("the newest were forgotten: %v", got)
	}
}

// Each .info that is not here is looked for in the list, most in vain.
func TestWaitedAreLookedForCheaply(t *testing.T) {
	var w waited
	for range maxWaited {
		w.note(mods("m")[0])
	}
	x := mods("x")[0]
	if n := testing.AllocsPerRun(10, func() { w.take(x) }); n != 0 {
		t.Errorf("%v allocations for a module that nobody has waited for", n)
	}
}

// TestOnlyPublicModulesAreWaitedFor: the names of others must not be in a list
// of what to fetch from public places.
func TestOnlyPublicModulesAreWaitedFor(t *testing.T) {
	t.Parallel()
	s := &Server{public: new(supply), private: new(supply)}
	m := mods("m")[0]
	for name, test := range map[string]struct {
		workers int
		req     request
		want    int
	}{
		"public":       {1, request{kind: KindMod, mod: m, from: s.public}, 1},
		"private":      {1, request{kind: KindMod, mod: m, from: s.private}, 0},
		"another kind": {1, request{kind: KindZip, mod: m, from: s.public}, 0},
		"switched off": {0, request{kind: KindMod, mod: m, from: s.public}, 0},
	} {
		l := newLookahead(s, test.workers)
		l.answered(test.req)
		if got := len(l.waited.list); got != test.want {
			t.Errorf("%s: %d noted, want %d", name, got, test.want)
		}
	}
}
