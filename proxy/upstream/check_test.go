package upstream

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestCheckInfo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		data, path, query string
		ok                bool
	}{
		{`{"Version":"v1.0.0"}`, "example.com/a", "v1.0.0", true},
		{`{"Version":"v1.0.0","Time":"2024-01-01T00:00:00Z","Origin":{}}`, "example.com/a", "main", true},
		{`{"Version":"v2.0.0+incompatible"}`, "example.com/a", "v2.0.0+incompatible", true},
		{`{"Version":"v2.0.0+incompatible"}`, "example.com/a", "v2.0.0", true},
		{`{"Version":"v2.0.1+incompatible"}`, "example.com/a", "v2.0.0+incompatible", false},
		{`{"Version":"v0.0.0-20240102030405-0123456789ab"}`, "example.com/a", "latest", true},
		{`{"Version":"v0.0.1-go1.21.0.linux-amd64"}`, "golang.org/toolchain", "v0.0.1-go1.21.0.linux-amd64", true},
		{`{"Version":"v1.0.0"}`, "example.com/a", "v1.0.1", false},
		{`{"Version":"v1.0.0"}`, "example.com/a", "v1", true},
		{`{"Version":"v1.0"}`, "example.com/a", "v1", false},
		{`{"Version":"1.0.0"}`, "example.com/a", "main", false},
		{`{"Version":"v1.0.0+meta"}`, "example.com/a", "main", false},
		{`{"Version":"v2.0.0"}`, "example.com/a", "main", false},
		{`{"Version":"v1.0.0"}`, "example.com/a/v2", "main", false},
		{`{"Version":""}`, "example.com/a", "main", false},
		{`{}`, "example.com/a", "main", false},
		{`null`, "example.com/a", "main", false},
		{`[]`, "example.com/a", "main", false},
		{`{"Version":"v1.0.0"}{}`, "example.com/a", "v1.0.0", false},
		{`{"Version":"v1.0`, "example.com/a", "v1.0.0", false},
		{``, "example.com/a", "main", false},
		{`<html>`, "example.com/a", "main", false},
	} {
		if err := checkInfo([]byte(c.data), c.path, c.query); (err == nil) != c.ok {
			t.Errorf("%s for %s@%s: %v", c.data, c.path, c.query, err)
		}
	}
}

func TestParseList(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		data string
		want string // "error" or the versions
	}{
		{"", ""},
		{"\n\n", ""},
		{"v1.0.0\nv1.1.0\n", "v1.0.0 v1.1.0"},
		{"v1.1.0\r\nv1.0.0\r\nv1.1.0", "v1.0.0 v1.1.0"},
		{"v1.0.0 2024-01-01T00:00:00Z\n", "v1.0.0"},
		{"v0.0.0-20240102030405-0123456789ab\n", ""},
		{"v1.0.0\nv1.2\nv1.0.0+meta\nv3.0.0\nnonsense\nv2.0.0+incompatible\nv1.0.0-rc.1", "v1.0.0 v1.0.0-rc.1 v2.0.0+incompatible"},
		{"error: database is down\n", "error"},
		{`{"errors":[{"status":500}]}`, "error"},
	} {
		versions, err := parseList([]byte(c.data), "example.com/a")
		got := strings.Join(versions, " ")
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%q: got %q (%v), want %q", c.data, got, err, c.want)
		}
	}
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte("v1.0.0\nv1.1.0 2024-01-01T00:00:00Z\n\x00"))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		versions, err := parseList(data, "example.com/a")
		again, err2 := parseList([]byte(strings.Join(versions, "\n")), "example.com/a")
		if err == nil && (err2 != nil || !slices.Equal(versions, again)) {
			t.Errorf("%q: %v, then %v (%v)", data, versions, again, err2)
		}
	})
}

func TestCheckHeader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key, value string
		ok         bool
	}{
		{"Content-Type", "text/html; charset=utf-8", false},
		{"Content-Type", "TEXT/HTML", false},
		{"Content-Type", "application/xhtml+xml", false},
		{"Content-Type", "text/plain", true},
		{"Content-Type", "application/octet-stream", true},
		{"Content-Type", "", true},
		{"Content-Encoding", "gzip", false},
		{"Content-Encoding", "identity", true},
	} {
		if err := checkHeader(http.Header{c.key: {c.value}}); (err == nil) != c.ok {
			t.Errorf("%s: %s: %v", c.key, c.value, err)
		}
	}
}

func TestCheckStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind, start string
		ok          bool
	}{
		{"mod", "module example.com/a\n", true},
		{"mod", "\xef\xbb\xbf// a comment\n", true},
		{"mod", " \n<!DOCTYPE html>", false},
		{"mod", "<?xml", false},
		{"mod", "", false},
		{"zip", "PK\x03\x04...", true},
		{"zip", "PK\x05\x06...", true},
		{"zip", "", false},
		{"zip", "<html>", false},
		{"zip", "\x1f\x8b", false},
		{"list", "", true},
		{"list", "<html>", false},
		{"info", "<html>", false},
		{"sumdb", "<\x00\x01", true}, // a tile may begin with any byte
		{"sumdb", "\n<!doctype html>", false},
		{"sumdb", "<HTML>", false},
	} {
		if err := checkStart(file{kind: c.kind}, []byte(c.start)); (err == nil) != c.ok {
			t.Errorf("%s %q: %v", c.kind, c.start, err)
		}
	}
}
