package upstream

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestParseGOPROXY(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		list string
		want string // "url," or "url|" for each entry, or "off", or "error: " and a part of it
	}{
		{"https://a.test", "https://a.test,"},
		{"https://a.test,https://b.test/x/", "https://a.test,https://b.test/x,"},
		{"https://a.test|https://b.test", "https://a.test|https://b.test,"},
		{" https://a.test , , b.test/path ", "https://a.test,https://b.test/path,"},
		{"https://a.test,off", "https://a.test,"},
		{"https://a.test,off,https://b.test", "https://a.test,"},
		{"off", "off"},
		{"off,direct", "off"},
		{"file:///srv/mods|http://127.0.0.1:3000", "file:///srv/mods|http://127.0.0.1:3000,"},
		{"https://user:secret@a.test", "https://user:secret@a.test,"},
		{"http://user:secret@127.0.0.1:1", "http://user:secret@127.0.0.1:1,"},
		{"", "error: empty"},
		{",|, ", "error: empty"},
		{"direct", "error: private patterns"},
		{"https://a.test,direct", "error: private patterns"},
		{"ftp://a.test", "error: scheme"},
		{"plain", "error: want https"},
		{"file://host/x", "error: file URL"},
		{"https:///x", "error: host is missing"},
		{"https://a.test?x=secret", "error: no query"},
		{"http://user:secret@a.test", "error: unencrypted"},
		{"https://user:secret@a.test:bad", "error: can be parsed"},
		{"http://user:secret@a.test,ftp://b.test,direct", "error: unencrypted"},
		{"http://user:secret@a.test,ftp://b.test,direct", "error: scheme"},
		{"http://user:secret@a.test,ftp://b.test,direct", "error: private patterns"},
	} {
		locs, off, err := parseGOPROXY(c.list)
		var b strings.Builder
		for _, l := range locs {
			b.WriteString(l.url.String() + map[bool]string{false: ",", true: "|"}[l.onAnyError])
		}
		got := b.String()
		switch {
		case err != nil:
			got = "error: " + err.Error()
		case off:
			got = "off"
		}
		if part, ok := strings.CutPrefix(c.want, "error: "); ok && strings.HasPrefix(got, "error: ") && strings.Contains(got, part) {
			got = c.want
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.list, got, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells the password: %v", c.list, err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	locs, _, err := parseGOPROXY("https://u:secret@a.test/x,https://a.test/y,https://b.test:8443,file:///x,sumdb:/x,https://sumdb,file:///y")
	if err == nil || len(locs) != 6 {
		t.Fatalf("%d locations, %v", len(locs), err)
	}
	if got := strings.Join(names(locs), " "); got != "a.test a.test#2 b.test:8443 file sumdb#2 file#2" {
		t.Errorf("names: %s", got)
	}
}

func TestNewReportsAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := New(Config{
		List:          "direct,ftp://x",
		SumDBURL:      map[string]string{"sum.test": "file:///x", "b.test": "gopher://"},
		RedirectHosts: []string{"[", "a/b"},
		NoProgress:    -1,
		MaxConns:      -1,
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"direct", "ftp", `"sum.test"`, `"b.test"`, `"["`, `"a/b"`, "no-progress", "most connections"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}
}

func TestOffIsNotAbsence(t *testing.T) {
	t.Parallel()
	c := newChain(t, Config{List: "off"})
	_, err1 := c.Info(t.Context(), "example.com/a", "v1.0.0")
	_, err2 := c.SumDB(t.Context(), "sum.test", "/latest")
	for _, err := range []error{err1, err2} {
		if e := asError(t, err); !e.Refused() || errors.Is(err, fs.ErrNotExist) || !strings.Contains(e.Public(), "off") {
			t.Errorf("got %v", err)
		}
	}
}

func FuzzParseGOPROXY(f *testing.F) {
	for _, s := range []string{"https://a.test,off", "a.b|file:///x", "https://u:p@h:1/%2f?x#y", "direct", "http://[::1]:80", "://,|"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		locs, off, err := parseGOPROXY(list)
		if err == nil && len(locs) == 0 && !off {
			t.Errorf("%q: nothing to ask and no error", list)
		}
		var again []string
		for _, l := range locs {
			u := l.url
			if u.Scheme != "file" && (u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "") {
				t.Errorf("%q: entry %q", list, u)
			}
			again = append(again, u.String())
		}
		if len(again) > 0 && !strings.ContainsAny(strings.Join(again, ""), ",|") {
			if locs2, _, err := parseGOPROXY(strings.Join(again, ",")); err != nil || len(locs2) != len(locs) {
				t.Errorf("%q: does not parse again: %v", list, err)
			}
		}
		for _, n := range names(locs) {
			if n == "" || strings.Contains(n, "@") && !strings.Contains(n, "#") {
				t.Errorf("%q: name %q", list, n)
			}
		}
	})
}
