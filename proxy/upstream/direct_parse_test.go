package upstream

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func packets(lines ...string) string {
	var b strings.Builder
	for _, l := range lines {
		if l == "" {
			b.WriteString("0000")
			continue
		}
		fmt.Fprintf(&b, "%04x%s", len(l)+4, l)
	}
	return b.String()
}

const hashA, hashB, hashC = "1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222", "3333333333333333333333333333333333333333"

func TestParseRefs(t *testing.T) {
	list := []string{hashA + " HEAD\x00multi_ack symref=HEAD:refs/heads/main agent=x\n", hashA + " refs/heads/main\n", hashA + " refs/pull/1/head\n", hashB + " refs/tags/v1.0.0\n", hashC + " refs/tags/v1.0.0^{}\n", hashA + " refs/tags/sub/v0.1.0\n", ""}
	for _, in := range []string{packets(list...), packets(append([]string{"# service=git-upload-pack\n", ""}, list...)...), packets(append([]string{"version 1\n"}, list...)...)} {
		r, err := parseRefs(strings.NewReader(in + "0008left"))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.hash) != 5 || r.head != "refs/heads/main" || r.hash["refs/tags/v1.0.0^{}"] != hashC {
			t.Errorf("%+v", r)
		}
		for version, want := range map[string]bool{"v1.0.0": true, "v0.1.0": true, "v1.0.0+incompatible": true, "v1.0.1": false, "0.1.0": false} {
			if r.hasVersion(version) != want {
				t.Errorf("has %s: %v", version, !want)
			}
		}
	}
	empty := packets("0000000000000000000000000000000000000000 capabilities^{}\x00agent=x\n", "")
	if r, err := parseRefs(strings.NewReader(empty)); err != nil || len(r.hash) != 0 {
		t.Errorf("empty repository: %+v %v", r, err)
	}
	for _, in := range []string{"", "00", "0004", "zzzz", "<html>", packets("ERR no such repository\n"), packets(list[:3]...), packets("hello\n", ""), packets("# service=git-upload-pack\n", "x"), "ffff" + strings.Repeat("x", 100)} {
		if r, err := parseRefs(strings.NewReader(in)); err == nil {
			t.Errorf("%.40q: %+v", in, r)
		}
	}
}

func TestRefsDigest(t *testing.T) {
	digest := func(lines ...string) string {
		return must[*refs](t)(parseRefs(strings.NewReader(packets(append(lines, "")...)))).digest
	}
	a := digest(hashA+" refs/heads/main\n", hashB+" refs/tags/v1.0.0\n")
	if a == digest(hashA+" refs/heads/main\n", hashA+" refs/tags/v1.0.0\n") || a == digest(hashA+" refs/heads/main\n") {
		t.Error("another state has the same digest")
	}
	if a != digest(hashB+" refs/tags/v1.0.0\n", hashA+" refs/heads/main\n", hashC+" refs/pull/1/head\n") {
		t.Error("what does not matter changes the digest")
	}
}

func TestAnswerToLsRefs(t *testing.T) {
	r := &refs{head: "refs/heads/main", hash: map[string]string{"HEAD": hashA, "refs/heads/main": hashA, "refs/tags/v1.0.0": hashB, "refs/tags/v1.0.0^{}": hashC, "refs/tags/sub/v1.0.0": hashA, "refs/tags/v2.0.0": hashA}}
	want := packets(hashA+" HEAD symref-target:refs/heads/main\n", hashA+" refs/heads/main\n", hashA+" refs/tags/sub/v1.0.0\n", hashB+" refs/tags/v1.0.0 peeled:"+hashC+"\n", "")
	if got := r.about("v1.0.0").answer(nil); string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := r.answer([]string{"refs/tags/v2", "refs/heads/x"}); string(got) != packets(hashA+" refs/tags/v2.0.0\n", "") {
		t.Errorf("with prefixes: %q", got)
	}
	for in, ok := range map[string]bool{
		packets("command=ls-refs\n", "agent=x", "object-format=sha1") + "0001" + packets("peel\n", "symrefs\n", "ref-prefix refs/tags/\n", ""): true,
		packets("command=ls-refs\n") + "0001" + packets("symrefs\n", ""):                                                                       false,
		packets("command=fetch\n") + "0001" + packets("want "+hashA+"\n", ""):                                                                  false,
		packets("command=ls-refs\n", "peel"):                                                                                                   false,
		"":                                                                                                                                     false,
	} {
		prefixes, got := parseListRefs(strings.NewReader(in))
		if got != ok || ok && !slices.Equal(prefixes, []string{"refs/tags/"}) {
			t.Errorf("%q: %q %v", in, prefixes, got)
		}
	}
}

func FuzzParseRefs(f *testing.F) {
	f.Add([]byte(packets("# service=git-upload-pack\n", "", hashA+" HEAD\x00symref=HEAD:refs/heads/main\n", hashB+" refs/tags/v1.0.0\n", "")))
	f.Add([]byte("0001000200030004"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = parseListRefs(bytes.NewReader(data))
		_ = isVersion2(data)
		r, err := parseRefs(bytes.NewReader(data))
		if err != nil {
			return
		}
		for name, hash := range r.hash {
			if !isHash(hash) || strings.ContainsAny(name, "\n\x00") {
				t.Errorf("%q %q", name, hash)
			}
		}
		if _, err := parseRefs(bytes.NewReader(r.answer(nil))); err != nil && len(r.hash) > 0 && !bytes.Contains(data, []byte(" ")) {
			t.Error(err)
		}
	})
}

func TestParseGoImports(t *testing.T) {
	const tag = `<meta name="go-import" content="a.example/x git https://a.example/x.git">`
	one := []goImportTag{{"a.example/x", "git", "https://a.example/x.git", ""}}
	for page, want := range map[string][]goImportTag{
		tag: one, "<!DOCTYPE html><html><head>" + tag + "</head></html>": one, "<HTML><HEAD><META NAME='go-import' CONTENT='a.example/x git https://a.example/x.git'/></HEAD>": one,
		"<html><body>" + tag: nil, "<html><head></head>" + tag: nil, "<html><head><!-- " + tag + " --></head>": nil, "not html & at all <": nil, "": nil,
		`<meta name="go-source" content="a b c">`:                                   nil,
		`<meta name="go-import" content="a git">`:                                   nil,
		`<meta name="go-import" content="a git https://x/y sub/dir">`:               {{"a", "git", "https://x/y", "sub/dir"}},
		`<br><meta content="a git https://x/y" name="go-import"><p unclosed <b>`:    {{"a", "git", "https://x/y", ""}},
		`<?xml version="1.0" encoding="iso-8859-1"?><html><head>` + tag + `</head>`: one,
	} {
		got, err := parseGoImports(strings.NewReader(page))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v %v, want %v", page, got, err, want)
		}
	}
}

func FuzzParseGoImports(f *testing.F) {
	f.Add(`<html><head><meta name="go-import" content="a git https://x/y sub"></head>`)
	f.Fuzz(func(t *testing.T, page string) {
		tags, _ := parseGoImports(strings.NewReader(page))
		for _, tag := range tags {
			if tag.prefix == "" || tag.vcs == "" || tag.repo == "" {
				t.Errorf("%+v", tag)
			}
		}
	})
}

func TestStaticRoot(t *testing.T) {
	for path, want := range map[string]string{
		"github.com/a/b": "github.com/a/b", "github.com/a/b/c/v2": "github.com/a/b", "github.com/a": "error", "bitbucket.org/a/b/c": "bitbucket.org/a/b",
		"git.corp.example/x/y.git": "git.corp.example/x/y.git", "git.corp.example/x/y.git/sub/v2": "git.corp.example/x/y.git", "git.corp.example/x/y.hg/sub": "git.corp.example/x/y.hg", "git.corp.example/x/y.svn": "error",
		"git.corp.example/x/y.github": "", "git.corp.example/x/y": "", "githubb.com/a/b": "", "git.apache.org/thrift.git/lib": "git.apache.org/thrift.git",
	} {
		root, repo, ok, err := staticRoot(path)
		if want := strings.TrimSuffix(strings.TrimSuffix(root, ".git"), ".hg"); repo != want && !strings.HasPrefix(path, "git.apache.org") {
			t.Errorf("%s: fetched from %q, want %q", path, repo, want)
		}
		got := root
		if err != nil {
			got = "error"
		}
		if got != want || ok != (want != "") {
			t.Errorf("%s: %q %v %v, want %q", path, root, ok, err, want)
		}
	}
}
