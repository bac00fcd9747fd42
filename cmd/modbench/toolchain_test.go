package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modgate/modgate/proxy/proxytest"
)

func TestToolchains(t *testing.T) {
	t.Parallel()
	m := proxytest.Build(t, module.Version{Path: toolchainPath, Version: toolchainVersion}, map[string][]byte{
		"VERSION": []byte("go1.25.0\n"), "bin/go": bytes.Repeat([]byte("go"), 5000), "src/a.go": []byte("package a\n"),
	})
	dir := t.TempDir()
	source := filepath.Join(dir, "source.zip")
	if err := os.WriteFile(source, m.Zip, 0o644); err != nil {
		t.Fatal(err)
	}
	tc, err := makeToolchains(t.Context(), source, filepath.Join(dir, "tree"), 3)
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen(t.Context(), "127.0.0.1:0", tc.Handler)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fetch := func(path string) string {
		var b bytes.Buffer
		if _, err := get(t.Context(), http.DefaultClient, l.URL+path, &b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	name, _, _ := strings.Cut(tc.SumDB, "+")
	fetch("/sumdb/" + name + "/supported")
	if len(tc.Paths) != 3 {
		t.Fatalf("%d paths", len(tc.Paths))
	}
	for i, p := range tc.Paths {
		got := fetch(p)
		if int64(len(got)) != tc.Size {
			t.Errorf("%s has %d bytes, want %d", p, len(got), tc.Size)
		}
		copied := filepath.Join(dir, "copy.zip")
		write(t, copied, got)
		// The hash is the one that every verifier would compute.
		want, err := dirhash.HashZip(copied, dirhash.Hash1)
		if err != nil {
			t.Fatal(err)
		}
		version := strings.TrimSuffix(filepath.Base(p), ".zip")
		record := fetch("/sumdb/" + name + "/lookup/" + toolchainPath + "@" + version)
		if !strings.Contains(record, toolchainPath+" "+version+" "+want+"\n") {
			t.Errorf("zip %d: record %q lacks %s", i, record, want)
		}
		mod, err := dirhash.Hash1([]string{"go.mod"}, openString(fetch(strings.TrimSuffix(p, "zip")+"mod")))
		if err != nil || !strings.Contains(record, version+"/go.mod "+mod+"\n") {
			t.Errorf("mod %d: record %q lacks %s, %v", i, record, mod, err)
		}
	}
}

func openString(s string) func(string) (io.ReadCloser, error) {
	return func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
}
