package proxy

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"
)

// What was found out is forgotten after a while, when something of its module is
// removed, and not remembered at all if that happened while it was found out.
func TestAliasesAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAliases()
		mods := mods("a", "b")
		key := func(m module.Version) [32]byte { return aliasKey(m, []string{"v1.0.0"}) }
		put := func() {
			for _, m := range mods {
				_, _, began := a.get(m.Path, key(m))
				a.put(m.Path, key(m), []string{"v1.0.0"}, began)
			}
		}
		want := func(what string, known ...bool) {
			t.Helper()
			for i, m := range mods {
				tags, ok, _ := a.get(m.Path, key(m))
				if ok != known[i] || ok && !slices.Equal(tags, []string{"v1.0.0"}) {
					t.Errorf("%s: %s: %v, %v", what, m.Path, tags, ok)
				}
			}
			if _, ok, _ := a.get(mods[0].Path, aliasKey(mods[0], []string{"v1.1.0"})); ok {
				t.Errorf("%s: another question has that answer", what)
			}
		}
		want("at first", false, false)
		put()
		want("put", true, true)
		a.forget(mods[0].Path)
		want("one forgotten", false, true)
		put()
		time.Sleep(aliasesFor - time.Nanosecond)
		want("soon", true, true)
		time.Sleep(time.Nanosecond)
		want("later", false, false)
		put()
		a.clear()
		want("cleared", false, false)

		_, _, began := a.get(mods[0].Path, key(mods[0]))
		a.forget(mods[0].Path)
		a.put(mods[0].Path, key(mods[0]), []string{"v1.0.0"}, began)
		want("removed while it was read", false, false)
	})
}

func TestAliasesAreBounded(t *testing.T) {
	t.Parallel()
	a := newAliases()
	for n := range 3 * maxAliases {
		m := module.Version{Path: fmt.Sprintf("example.com/m%d", n%7), Version: fmt.Sprintf("v1.0.%d", n)}
		for range 2 { // the same answer twice counts once
			_, _, began := a.get(m.Path, aliasKey(m, nil))
			a.put(m.Path, aliasKey(m, nil), nil, began)
		}
		total := 0
		if n%1000 == 0 {
			for _, of := range a.about {
				total += len(of)
			}
			if total != a.size || total > maxAliases {
				t.Fatalf("%d answers are remembered, counted as %d", total, a.size)
			}
		}
	}
}
