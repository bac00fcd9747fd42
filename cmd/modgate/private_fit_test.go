package main

import (
	"testing"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// TestPrivateFilesFit asks for the zip before the .mod where the go.mod in the
// one is not byte for byte the other: what is not there, and what
// .gitattributes rewrites (measured with git 2.39).
func TestPrivateFilesFit(t *testing.T) {
	t.Parallel()
	c := newCompany(t)
	root := c.repos
	lines := gittest.NewRepo(t, root, "git.corp.example/team/lines", gittest.Commit{
		Files: map[string]string{
			".gitattributes": "* text eol=crlf\n",
			"go.mod":         "module git.corp.example/team/lines\n\ngo 1.21\n", "a.go": "package a\n",
		}, Tags: []string{"v1.0.0"},
	})
	lines.Commit(t, gittest.Commit{
		Files: map[string]string{"go.mod": "module git.corp.example/team/lines\r\n\r\ngo 1.21\r\n"}, Remove: []string{".gitattributes"}, Tags: []string{"v1.1.0"},
	})
	gittest.NewRepo(t, root, "git.corp.example/team/old", gittest.Commit{
		Files: map[string]string{"a.go": "package a\n", "sub/go.mod": "module git.corp.example/team/old/sub\n", "sub/v2/a.go": "package a\n", "sub/v2/go.mod": "module git.corp.example/team/old/sub/v2\n"},
		Tags:  []string{"v1.0.0", "v3.0.0", "sub/v2.0.0", "sub/v0.1.0"},
	})
	i := c.start(t)
	for _, version := range []string{"lines/@v/v1.0.0", "lines/@v/v1.1.0", "old/@v/v1.0.0", "old/@v/v3.0.0+incompatible", "old/sub/@v/v0.1.0", "old/sub/v2/@v/v2.0.0"} {
		for _, kind := range []string{".zip", ".mod"} {
			if code, body := get(t, i.url+"/git.corp.example/team/"+version+kind); code != 200 {
				t.Errorf("%s%s: %d %s\n%s", version, kind, code, body, lastLines(i.log(), 5))
			}
		}
	}
}
