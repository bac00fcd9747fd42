package gittest

import (
	"os"
	"strings"
	"testing"
)

func TestRepo(t *testing.T) {
	Need(t, "git")
	r := NewRepo(t, t.TempDir(), lib)
	first := r.Commit(t,
		Commit{Files: map[string]string{"a.txt": "a\r\n", "sub/go.mod": "module x/sub\n"}, Tags: []string{"v1.0.0", "sub/v0.1.0"}},
		Commit{Remove: []string{"a.txt"}, Links: map[string]string{"link": "sub/go.mod"}, Tags: []string{"v1.1.0"}, Annotated: true},
		Commit{Branch: "release", From: "main", Files: map[string]string{"r.txt": "r"}},
	)
	second := r.Commit(t, Commit{Submodules: map[string]string{"dep": first[0]}}, Commit{Branch: "release", Files: map[string]string{"s.txt": "s"}})
	for _, c := range []struct{ args, want string }{
		{"rev-parse v1.0.0", first[0]},
		{"rev-parse sub/v0.1.0", first[0]},
		{"rev-parse v1.1.0^{commit}", first[1]},
		{"cat-file -t v1.1.0", "tag"},
		{"rev-parse main", second[0]},
		{"rev-parse release~1", first[2]},
		{"rev-parse release", second[1]},
		{"rev-list --count main", "3"},
		{"rev-list --count release", "4"},
		{"ls-tree --name-only -r v1.0.0", "a.txt\nsub/go.mod"},
		{"ls-tree -r --format=%(objectmode)%x20%(path) main", "160000 dep\n120000 link\n100644 sub/go.mod"},
		{"cat-file blob main:link", "sub/go.mod"},
		{"show -s --format=%ct main", "1704067380"},
	} {
		if got := r.Git(t, strings.Fields(c.args)...); got != c.want {
			t.Errorf("git %s: %q, want %q", c.args, got, c.want)
		}
	}
	if got := r.Git(t, "cat-file", "-s", "v1.0.0:a.txt"); got != "3" {
		t.Errorf("a.txt has %s bytes, want 3", got)
	}
	r.Tag(t, "v1.0.0", "main")
	if got := r.Git(t, "rev-parse", "v1.0.0"); got != second[0] {
		t.Errorf("the moved tag is on %s", got)
	}
	r.Untag(t, "v1.0.0")
	if got := r.Git(t, "tag"); got != "sub/v0.1.0\nv1.1.0" {
		t.Errorf("tags: %q", got)
	}
	r.Delete(t)
	if _, err := os.Stat(r.Dir); !os.IsNotExist(err) {
		t.Errorf("the deleted repository: %v", err)
	}
}

func TestHistoryIsTheSameEachTime(t *testing.T) {
	Need(t, "git")
	a := NewRepo(t, t.TempDir(), lib, History(300)...)
	b := NewRepo(t, t.TempDir(), lib, History(300)...)
	if a.Git(t, "rev-parse", "main") != b.Git(t, "rev-parse", "main") {
		t.Error("two histories differ")
	}
	if n := a.Git(t, "rev-list", "--count", "main"); n != "300" {
		t.Errorf("%s commits", n)
	}
	one, again, two := Random(1000, 1), Random(1000, 1), Random(1000, 2)
	if one != again || one == two || len(one) != 1000 {
		t.Error("Random does not follow its seed")
	}
}

func TestRunOutsideOfTests(t *testing.T) {
	Need(t, "git")
	var made string
	end, err := Run(t.TempDir(), func(tb TB) {
		made = tb.TempDir()
		NewRepo(tb, made, lib).Git(tb, "no-such-command")
		t.Error("went on after Fatalf")
	})
	if err == nil || !strings.Contains(err.Error(), "no-such-command") {
		t.Errorf("error %v", err)
	}
	end()
	if _, err := os.Stat(made); !os.IsNotExist(err) {
		t.Errorf("the temporary directory: %v", err)
	}
}
