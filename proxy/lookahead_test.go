package proxy

import (
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

func TestPrunes(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{
		"":                             false,
		"go 1.9\n":                     false,
		"go 1.16\n":                    false,
		"go 1.17\n":                    true,
		"go 1.21rc1\n":                 true,
		"go 1.26.8\n":                  true,
		"go 2.0\n":                     true,
		"toolchain go1.21.0\ngo 1.1\n": false,
	}
	for text, want := range tests {
		f, err := modfile.ParseLax("go.mod", []byte("module example.com/m\n"+text), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := prunes(f); got != want {
			t.Errorf("prunes(%q) = %v, want %v", text, got, want)
		}
	}
}

// TestLookaheadQueuesWhatIsCertain follows the rules of graph pruning.
func TestLookaheadQueuesWhatIsCertain(t *testing.T) {
	t.Parallel()
	const require = "module example.com/m\nrequire example.com/r v1.0.0\n"
	tests := map[string]struct {
		text  string
		below bool
		want  int
	}{
		"an old module is loaded whole":               {require, false, 1},
		"a new module ends its branch":                {require + "go 1.17\n", false, 0},
		"unless the branch is loaded whole":           {require + "go 1.17\n", true, 1},
		"a broken go.mod requires nothing":            {"module (\n", true, 0},
		"a module without requirements has no branch": {"module example.com/m\n", false, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLookahead(nil, 1)
			m := module.Version{Path: "example.com/m", Version: "v1.0.0"}
			a := ahead{mod: m, data: []byte(test.text), below: test.below, budget: new(atomic.Int64)}
			a.budget.Store(10)
			l.expand(a)
			l.expand(a) // once is enough
			if got := len(l.queue); got != test.want {
				t.Errorf("%d queued, want %d", got, test.want)
			}
		})
	}
}

func TestLookaheadIsBoundedForEachRequest(t *testing.T) {
	t.Parallel()
	l := newLookahead(nil, 1)
	a := ahead{mod: module.Version{Path: "example.com/m", Version: "v1.0.0"}, below: true, budget: new(atomic.Int64)}
	a.budget.Store(3)
	a.data = []byte("module example.com/m\nrequire (\n" + strings.Repeat("example.com/r v1.0.0\n", 9) + ")\n")
	l.expand(a)
	if got := len(l.queue); got != 3 {
		t.Errorf("%d queued, want 3", got)
	}
	l.proven(a.mod, make([]byte, maxAheadMod+1))
	if got := len(l.queue); got != 3 {
		t.Errorf("a huge go.mod is looked into")
	}
}

func TestLookaheadOff(t *testing.T) {
	t.Parallel()
	l := newLookahead(nil, 0)
	l.proven(module.Version{Path: "example.com/m", Version: "v1.0.0"}, []byte("module example.com/m\nrequire example.com/r v1.0.0\n"))
	if len(l.queue) != 0 || len(l.seen) != 0 {
		t.Error("something is queued although it is off")
	}
}
