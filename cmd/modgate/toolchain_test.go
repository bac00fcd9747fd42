package main

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
)

// TestToolchain lets the go command change to another toolchain
// (go.dev/doc/toolchain): to modgate that is a public module like any other,
// proven by the checksum database.
func TestToolchain(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the toolchain of this test is a shell script")
	}
	w := newWorld(t)
	m := proxytest.Build(t, module.Version{Path: "golang.org/toolchain", Version: "v0.0.1-go1.99.1." + runtime.GOOS + "-" + runtime.GOARCH}, map[string][]byte{
		"go.mod":       []byte("module golang.org/toolchain\n"),
		"lib/x":        []byte("the same\n"),
		"bin/gofmt":    []byte("the same\n"),
		"src/_go.mod":  []byte("module std\n"),
		"pkg/tool/x/y": []byte("the go command makes what is here executable\n"),
		"bin/go":       []byte("#!/bin/sh\necho go version go1.99.1 through modgate\n"),
	})
	w.upstream.Add(t, m)
	w.log.Add(m.Version, m.H1, m.ModH1)
	i := w.start(t)
	for range 2 {
		dir := t.TempDir()
		cmd := exec.Command("go", "version")
		cmd.Dir = dir
		cmd.Env = append(goEnv(dir, i.url, w.log.Key()), "GOTOOLCHAIN=go1.99.1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "go1.99.1 through modgate") {
			t.Fatalf("%v\n%s\n%s", err, out, lastLines(i.log(), 10))
		}
	}
	if n := w.upstream.Count(proxytest.Path(t, m.Version, "zip")); n != 1 {
		t.Errorf("the toolchain was fetched %d times", n)
	}
}
