package gittest

import (
	"fmt"
	"strings"
)

// A Shape is a repository that is hard to pack right.
type Shape struct {
	Repo    *Repo
	Modules []string // module paths that may have versions in it
	Queries []string // "path@query" beside the tagged versions
}

// Shapes makes repositories below group (host/path) whose versions depend on
// what a client of git could do otherwise: attributes, links, nested modules,
// licences of the directory above, line ends, names of files, tags that are no
// versions.
func Shapes(tb TB, root, group string) []Shape {
	tb.Helper()
	var shapes []Shape
	add := func(name string, modules []string, commits ...Commit) *Shape {
		tb.Helper()
		path := group + "/" + name
		for i := range modules {
			modules[i] = path + modules[i]
		}
		for _, c := range commits {
			for f, text := range c.Files {
				c.Files[f] = strings.ReplaceAll(text, "REPO", path)
			}
		}
		shapes = append(shapes, Shape{Repo: NewRepo(tb, root, path, commits...), Modules: modules})
		return &shapes[len(shapes)-1]
	}
	plain := add("plain", []string{""},
		Commit{Files: map[string]string{"a.go": "package a\n"}, Tags: []string{"v0.1.0"}}, // no go.mod: it is made up
		Commit{Files: map[string]string{"go.mod": "module REPO\n\ngo 1.20\n"}, Tags: []string{"v1.0.0-rc.1", "v1.0"}},
		Commit{Files: map[string]string{"b.go": "package a\n\nconst B = 1\n"}, Tags: []string{"v1.0.0", "v1.0.1", "release", "v1.0.2+meta"}, Annotated: true},
		Commit{Files: map[string]string{"b.go": "package a\n\nconst B = 2\n"}, Tags: []string{"v1.1.0"}},
		Commit{Files: map[string]string{"go.mod": "module REPO\n\ngo 1.20\n\nretract v1.0.1 // broken\n"}, Tags: []string{"v1.2.0"}},
		Commit{Branch: "feature/x", From: "main", Files: map[string]string{"x.go": "package a\n\nconst X = 1\n"}},
	)
	plain.Queries = []string{plain.Modules[0] + "@main", plain.Modules[0] + "@feature/x", plain.Modules[0] + "@" + plain.Repo.Git(tb, "rev-parse", "main~2")[:12]}
	add("links", []string{""}, Commit{
		Files: map[string]string{"go.mod": "module REPO\n", "a.go": "package a\n", "dir/b.go": "package b\n"},
		Links: map[string]string{"link.go": "a.go", "to-dir": "dir", "away": "../../etc/passwd", "dangling": "nowhere"}, Tags: []string{"v1.0.0"},
	})
	add("attributes", []string{""},
		Commit{Files: map[string]string{
			"go.mod": "module REPO\n", ".gitattributes": "secret export-ignore\n*.txt export-subst\nt/** export-ignore\n",
			"secret": "still here\n", "id.txt": "$Format:%H %h %d %an$\n", "t/t.go": "package t\n",
		}, Tags: []string{"v1.0.0"}},
		Commit{Remove: []string{".gitattributes"}, Tags: []string{"v1.1.0"}})
	add("lines", []string{""}, Commit{Files: map[string]string{
		"go.mod": "module REPO\r\n\r\ngo 1.20\r\n", ".gitattributes": "*.go text eol=crlf\n*.bat text eol=crlf\n*.txt text=auto\n*.u16 working-tree-encoding=UTF-16\n*.i ident\n",
		"a.go": "package a\n\nconst A = 1\n", "b.bat": "echo\n", "c.txt": "one\r\ntwo\n", "d.u16": "text\n", "e.i": "$Id$\n", "f": "\r\n\n\r",
	}, Tags: []string{"v1.0.0"}})
	add("nested", []string{"", "/sub", "/sub/deep", "/gone"},
		Commit{Files: map[string]string{
			"go.mod": "module REPO\n", "a.go": "package a\n", "LICENSE": "of the root\n",
			"sub/go.mod": "module REPO/sub\n", "sub/b.go": "package b\n",
			"sub/deep/go.mod": "module REPO/sub/deep\n", "sub/deep/c.go": "package c\n", "sub/deep/LICENSE": "of its own\n",
			"gone/go.mod": "module REPO/gone\n", "gone/d.go": "package d\n", "dir/go.mod/trap": "a directory called go.mod\n",
		}, Tags: []string{"v1.0.0", "sub/v0.1.0", "sub/deep/v1.0.0", "gone/v1.0.0"}},
		Commit{Remove: []string{"gone", "LICENSE"}, Files: map[string]string{"sub/LICENSE/text": "a directory\n"}, Tags: []string{"v1.1.0", "sub/v0.2.0", "sub/deep/v1.1.0", "gone/v1.1.0"}})
	add("vendored", []string{"", "/sub"}, Commit{Files: map[string]string{
		"go.mod": "module REPO\n\ngo 1.24\n", "a.go": "package a\n", "vendor/modules.txt": "# x.example/x v1.0.0\n", "vendor/x.example/x/x.go": "package x\n",
		"pkg/vendor/y.example/y/y.go": "package y\n", "pkg/vendor/vendor.go": "package vendor\n", "vendor/v.go": "package vendor\n",
		"sub/go.mod": "module REPO/sub\n\ngo 1.20\n", "sub/vendor/modules.txt": "#\n", "sub/vendor/z.example/z/z.go": "package z\n", "sub/s.go": "package s\n",
	}, Tags: []string{"v1.0.0", "sub/v1.0.0"}})
	add("submodules", []string{""},
		Commit{Files: map[string]string{"go.mod": "module REPO\n", "a.go": "package a\n", ".gitmodules": "[submodule \"dep\"]\n\tpath = dep\n\turl = https://git.corp.example/elsewhere\n"},
			Submodules: map[string]string{"dep": plain.Repo.Git(tb, "rev-parse", "v1.0.0^{commit}")}, Tags: []string{"v1.0.0"}})
	many := map[string]string{"go.mod": "module REPO\n"}
	for i := range 3000 {
		many[fmt.Sprintf("p%d/q%d/f%d.go", i%10, i%100, i)] = fmt.Sprintf("package q\n\nconst F%d = %d\n", i, i)
	}
	add("many", []string{""}, Commit{Files: many, Tags: []string{"v1.0.0"}})
	add("majors", []string{"", "/v2", "/v3", "/v4"},
		Commit{Files: map[string]string{"go.mod": "module REPO\n", "a.go": "package a\n"}, Tags: []string{"v1.0.0"}},
		Commit{Files: map[string]string{"go.mod": "module REPO/v2\n"}, Tags: []string{"v2.0.0"}},                                                         // at the root
		Commit{Files: map[string]string{"go.mod": "module REPO\n", "v3/go.mod": "module REPO/v3\n", "v3/a.go": "package a\n"}, Tags: []string{"v3.0.0"}}, // in a directory
		Commit{Files: map[string]string{"go.mod": "module REPO/v5\n"}, Tags: []string{"v4.0.0", "v1.9.0"}})                                               // a mistake
	add("incompatible", []string{"", "/v2"},
		Commit{Files: map[string]string{"a.go": "package a\n"}, Tags: []string{"v1.0.0", "v2.0.0", "v2.1.0"}},
		Commit{Files: map[string]string{"go.mod": "module REPO\n"}, Tags: []string{"v3.0.0"}})
	add("mistakes", []string{"", "/v2", "/sub", "/other"},
		Commit{Files: map[string]string{"go.mod": "// no module line\n", "a.go": "package a\n"}, Tags: []string{"v1.0.0"}},
		Commit{Files: map[string]string{"go.mod": "module REPO/v2\n", "v2/go.mod": "module REPO/v2\n", "v2/a.go": "package a\n"}, Tags: []string{"v2.0.0"}},
		Commit{Files: map[string]string{"go.mod": "module REPO\n", "sub/go.mod": "module REPO/other\n", "sub/s.go": "package s\n"}, Tags: []string{"v1.1.0", "sub/v1.0.0", "other/v1.0.0"}},
		Commit{Files: map[string]string{"go.mod": "module REPO\n\nno such directive {\n"}, Tags: []string{"v1.2.0"}},
		Commit{Files: map[string]string{"sub/go.mod": "module REPO/sub\n"}, Remove: []string{"go.mod"}, Links: map[string]string{"go.mod": "sub/go.mod"}, Tags: []string{"v1.3.0"}})
	kinds := add("kinds", []string{""},
		Commit{Files: map[string]string{"go.mod": "module REPO\n", "a.go": "package a\n"}, Tags: []string{"v1.0.0"}},
		Commit{Branch: "v1.5.0", From: "main", Files: map[string]string{"a.go": "package a // a branch, not a tag\n"}}, // CVE-2022-23773
		Commit{Files: map[string]string{"b.go": "package a\n"}, Tags: []string{"v1.1.0"}, Annotated: true})
	for _, args := range [][]string{
		{"v1.2.0", "v1.1.0"}, {"v1.3.0", "v1.0.0^{tree}"}, {"v1.4.0", "v1.0.0:a.go"}, // a tag of a tag, one of a tree, one of a file
	} {
		kinds.Repo.Git(tb, "-c", "user.name=ci", "-c", "user.email=ci@corp.example", "tag", "-a", "-m", "x", args[0], args[1])
	}
	kinds.Queries = []string{kinds.Modules[0] + "@v1.5.0", kinds.Modules[0] + "@main", kinds.Modules[0] + "@v1", kinds.Modules[0] + "@v1.1"}
	add("Upper/Case", []string{"", "/Sub"},
		Commit{Files: map[string]string{"go.mod": "module REPO\n", "Sub/go.mod": "module REPO/Sub\n", "Sub/s.go": "package s\n"}, Tags: []string{"v1.0.0-RC.1", "Sub/v1.0.0-Beta"}})
	add("names", []string{"", "/sub"},
		Commit{Files: map[string]string{
			"go.mod": "module REPO\n", "with space.go": "package a\n", "ünï.go": "package a\n", "a:b": "not for Windows\n", "aux.txt": "nor this\n", "dot.": "\n", ".hidden/f": "\n",
			".git-like/config": "\n", "UPPER/File.GO": "package u\n", "empty": "", "sub/go.mod": "module REPO/sub\n", "sub/s.go": "package s\n",
		}, Tags: []string{"v1.0.0", "sub/v1.0.0"}},
		Commit{Remove: []string{"a:b", "aux.txt", "dot."}, Tags: []string{"v1.1.0"}},
		Commit{Files: map[string]string{"upper/file.go": "package u\n"}, Tags: []string{"v1.2.0"}}) // differs by case alone
	add("deep/group", []string{"", "/cmd"},
		Commit{Files: map[string]string{"go.mod": "module REPO\n", "cmd/go.mod": "module REPO/cmd\n", "cmd/main.go": "package main\n"}, Tags: []string{"v1.0.0", "cmd/v1.0.0"}})
	return shapes
}
