package policy

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"pgregory.net/rapid"
)

// TestIndexMatchesLikeGOPRIVATE holds the tree against the go command's own
// matching.
func TestIndexMatchesLikeGOPRIVATE(t *testing.T) {
	t.Parallel()
	elem := rapid.SampledFrom([]string{"a", "b", "ab", "ba", "a.b", "aab"})
	glob := rapid.SampledFrom([]string{"a", "b", "ab", "*", "a*", "*b", "*.b", "?", "a?", "[ab]", "[^a]*", "*a*", "**", `\a`, "a*b"})
	rapid.Check(t, func(t *rapid.T) {
		var x index
		var patterns []string
		for i := range rapid.IntRange(1, 8).Draw(t, "patterns") {
			p := strings.Join(rapid.SliceOfN(glob, 1, 4).Draw(t, "pattern"), "/")
			if rapid.Bool().Draw(t, "slash") {
				p += "/"
			}
			if checkPattern(p) != nil {
				t.Skip()
			}
			patterns = append(patterns, p)
			x.add(p, int32(i))
		}
		path := strings.Join(rapid.SliceOfN(elem, 1, 5).Draw(t, "path"), "/")
		got := x.find(path, nil)
		for i, p := range patterns {
			if want := module.MatchPrefixPatterns(p, path); want != slices.Contains(got, int32(i)) {
				t.Fatalf("%q matches %q: %v for the go command, not here", p, path, want)
			}
		}
		if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("not in order, each once: %v", got)
		}
	})
}

func TestNoPatternIsEveryPath(t *testing.T) {
	t.Parallel()
	var x index
	x.add("", 7)
	if got := x.find("example.com/a", nil); !slices.Equal(got, []int32{7}) {
		t.Errorf("got %v", got)
	}
}
