package proxy

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/cache"
)

func TestParseAccepts(t *testing.T) {
	t.Parallel()
	long := "example.com/" + strings.Repeat("a", maxElement)
	for _, c := range []struct{ path, kind, mod, version, name string }{
		{"example.com/a/@v/list", kindList, "example.com/a", "", "example.com/a/@v/list"},
		{"example.com/a/@latest", kindLatest, "example.com/a", "", "example.com/a/@latest"},
		{"example.com/a/@v/latest.info", kindLatest, "example.com/a", "", "example.com/a/@latest"},
		{"example.com/a/@v/v1.2.3.info", KindInfo, "example.com/a", "v1.2.3", ""},
		{"example.com/a/@v/v1.2.3.mod", KindMod, "example.com/a", "v1.2.3", ""},
		{"example.com/a/@v/v1.2.3.zip", KindZip, "example.com/a", "v1.2.3", ""},
		{"example.com/a/@v/v1.2.3-pre.1.zip", KindZip, "example.com/a", "v1.2.3-pre.1", ""},
		{"example.com/a/@v/v0.0.0-20240102030405-0123456789ab.zip", KindZip, "example.com/a", "v0.0.0-20240102030405-0123456789ab", ""},
		{"example.com/a/@v/v2.0.0+incompatible.zip", KindZip, "example.com/a", "v2.0.0+incompatible", ""},
		{"example.com/a/@v/v2.0.0%2Bincompatible.zip", KindZip, "example.com/a", "v2.0.0+incompatible", "example.com/a/@v/v2.0.0+incompatible.zip"},
		{"example.com/a/%40v/v1.2.3.mod", KindMod, "example.com/a", "v1.2.3", "example.com/a/@v/v1.2.3.mod"},
		{"github.com/%21burnt%21sushi/toml/@v/v1.0.0.mod", KindMod, "github.com/BurntSushi/toml", "v1.0.0", "github.com/!burnt!sushi/toml/@v/v1.0.0.mod"},
		{"github.com/!burnt!sushi/toml/@v/v1.0.0-!r!c1.mod", KindMod, "github.com/BurntSushi/toml", "v1.0.0-RC1", ""},
		{"example.com/a/v2/@v/v2.0.0.mod", KindMod, "example.com/a/v2", "v2.0.0", ""},
		{"gopkg.in/yaml.v2/@v/v2.4.0.zip", KindZip, "gopkg.in/yaml.v2", "v2.4.0", ""},
		{"gopkg.in/yaml.v2/@v/v2.0.0-20240102030405-0123456789ab.zip", KindZip, "gopkg.in/yaml.v2", "v2.0.0-20240102030405-0123456789ab", ""},
		{"golang.org/toolchain/@v/v0.0.1-go1.26.1.linux-amd64.zip", KindZip, "golang.org/toolchain", "v0.0.1-go1.26.1.linux-amd64", ""},
		{"example.com/a/@v/v1.info", kindQuery, "example.com/a", "v1", ""},
		{"example.com/a/@v/v1.2.info", kindQuery, "example.com/a", "v1.2", ""},
		{"example.com/a/@v/master.info", kindQuery, "example.com/a", "master", ""},
		{"example.com/a/@v/!feature.x.info", kindQuery, "example.com/a", "Feature.x", ""},
		{"example.com/a/@v/list.info", kindQuery, "example.com/a", "list", ""},
		{"example.com/a/@v/0123abc.info", kindQuery, "example.com/a", "0123abc", ""},
		{"example.com/a/@v/v2.0.0.info", kindQuery, "example.com/a", "v2.0.0", ""}, // may be v2.0.0+incompatible
		{"example.com/~user/x/@v/list", kindList, "example.com/~user/x", "", ""},
		{"github.com/@v/list", kindList, "github.com", "", ""}, // policy says no, the protocol does not
		{long + "/@v/list", kindList, long, "", ""},
	} {
		r, err := parse(c.path)
		want := c.name
		if want == "" {
			want = c.path
		}
		if err != nil || r.kind != c.kind || r.mod != (module.Version{Path: c.mod, Version: c.version}) || r.name != want {
			t.Errorf("parse(%q) = %+v, %v", c.path, r, err)
		}
		checkName(t, c.path, r)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	deep := "example.com" + strings.Repeat("/"+strings.Repeat("b", 99), 11)
	for why, paths := range map[string][]string{
		"nothing": {"", "/", "@v/list", "/@v/list", "@latest", "/@latest", "list", "example.com", "example.com/a", "example.com/a/@v", "example.com/a/@v/"},
		"traversal": {"../@v/list", "example.com/../a/@v/list", "example.com/a/..//@v/list", "example.com/a/@v/../x.info", "example.com/a/@v/..info",
			"example.com/a/@v/....zip", "example.com/a/@v/.info", "example.com/a/@v/./v1.0.0.zip", "example.com/./a/@v/list", "example.com/a/@v/..%2fx.zip",
			"..%2f..%2fetc/@v/list", "example.com/a/@v/v1.0.0/../v1.0.0.zip", "example.com/.git/@v/list", "example.com/a./@v/list", "./@v/list"},
		"encodings": {"example.com/%61/@v/list", "example.com%2Fa/@v/list", "example.com/%2e%2e/a/@v/list", "example.com/a/@v/v1%2e0.0.zip", "example.com/a%00/@v/list",
			"example.com/a/@v/%2e%2e.info", "example.com/a/@v/v1.0.0.zip%00", "example.com/%", "example.com/%2", "example.com/a/@v/list%", "example.com/a%zz/@v/list",
			"example.com/a%2521/@v/list", "example.com/%E2%80%AE/@v/list", "example.com/a%5cb/@v/list", "example.com/a%20b/@v/list", "example.com/a/@v/a%20b.info"},
		"case":                   {"github.com/BurntSushi/toml/@v/list", "example.com/a/@v/V1.0.0.mod", "example.com/a/@V/list", "example.com/a/@v/v1.0.0.ZIP", "example.com/a/@v/v1.0.0-RC1.mod", "example.com/a/@Latest"},
		"misused bangs":          {"github.com/!/x/@v/list", "github.com/!B/x/@v/list", "github.com/!!b/x/@v/list", "github.com/a!/x/@v/list", "github.com/!1/x/@v/list", "example.com/a/@v/v1.0.0-!.mod", "example.com/a/@v/!.info", "!example.com/a/@v/list", "example.com/a/!@v/list"},
		"empty elements":         {"example.com//a/@v/list", "//example.com/a/@v/list", "example.com/a//@v/list", "example.com/a/@v//list", "example.com/a/@v//v1.0.0.zip", "/example.com/a/@v/list", "example.com/a//@latest"},
		"trailing slashes":       {"example.com/a/@v/list/", "example.com/a/@latest/", "example.com/a/@v/v1.0.0.mod/", "example.com/a/@v/v1.0.0.zip/x"},
		"control characters":     {"example.com/a\x00/@v/list", "example.com/a\n/@v/list", "example.com/a/@v/v1.0.0\r.mod", "example.com/a/@v/\x1b[2J.info", "example.com/a/@v/v1.0.0.mod\x00", "example.com/a\x7f/@v/list"},
		"other separators":       {`example.com\a/@v/list`, `example.com/a/@v/..\x.info`, "example.com/a/@v/c:x.info", "example.com/a:b/@v/list", "example.com/a;x/@v/list", "example.com/a?x/@v/list", "example.com/a#x/@v/list", "example.com/a*/@v/list"},
		"beyond ASCII":           {"example.com/ä/@v/list", "example.com/a/@v/ä.info", "example.com/a\xff/@v/list", "example.com/a/@v/\u202e.info"},
		"too long":               {"example.com/" + strings.Repeat("a", maxElement+1) + "/@v/list", deep + "/@v/list", "example.com/a/@v/" + strings.Repeat("a", maxElement+1) + ".info", "example.com/" + strings.Repeat("!a", maxElement/2+1) + "/@v/list"},
		"versions of no file":    {"example.com/a/@v/v1.zip", "example.com/a/@v/v1.2.mod", "example.com/a/@v/master.zip", "example.com/a/@v/latest.zip", "example.com/a/@v/latest.mod", "example.com/a/@v/v1.2.3+meta.zip", "example.com/a/@v/1.2.3.zip", "example.com/a/@v/v01.2.3.mod", "example.com/a/@v/v1.2.3-01.mod", "example.com/a/@v/v1.2.3.ziphash", "example.com/a/@v/v1.2.3.lock", "example.com/a/@v/v1.2.3", "example.com/a/@v/-x.info", "example.com/a/@v/--upload-pack.info"},
		"another major version":  {"example.com/a/@v/v2.0.0.mod", "example.com/a/v2/@v/v1.0.0.mod", "example.com/a/v2/@v/v3.0.0.info", "gopkg.in/yaml.v2/@v/v3.0.0.zip", "gopkg.in/yaml.v3/@v/v2.0.0.zip", "example.com/a/v1/@v/v1.0.0.mod", "example.com/a/v02/@v/v2.0.0.mod", "gopkg.in/yaml/@v/v1.0.0.mod"},
		"more than one question": {"example.com/a/@v/v1.0.0.mod/@v/list", "example.com/a/@latest/@v/list", "example.com/a/@v/list/@latest", "example.com/a/@v/@latest"},
		"names of devices":       {"example.com/con/@v/list", "example.com/a/@v/nul.info", "example.com/aux.c/@v/list"},
		"no domain":              {"std/@v/list", "a/@v/list", "a/b/@latest", "-example.com/a/@v/list"},
	} {
		for _, p := range paths {
			r, err := parse(p)
			if err == nil {
				t.Errorf("%s: parse(%q) = %+v", why, p, r)
				continue
			}
			if !errors.Is(err, errRequest) {
				t.Errorf("parse(%q): %v", p, err)
			}
			checkText(t, clientText(err.Error()))
		}
	}
}

// FuzzParse: whatever is accepted has one name, which is that of the protocol
// for what it means, can be stored and stays below the directory of its module.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"example.com/a/@v/list", "example.com/a/@latest", "example.com/a/@v/latest.info", "github.com/!burnt!sushi/toml/@v/v1.0.0-!r!c1.mod",
		"example.com/a/@v/v2.0.0%2Bincompatible.zip", "gopkg.in/yaml.v2/@v/v2.4.0.zip", "example.com/a/@v/../x.info", "example.com/%2e%2e/@v/list",
		"example.com/a/@v/[x](y)&=$.info", "example.com/a/@v/!feature.info", "example.com/a\x00/@v/v1.info",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r, err := parse(path)
		if err != nil {
			checkText(t, clientText(err.Error()))
			return
		}
		checkName(t, path, r)
		if again, err := parse(r.name); err != nil || again != r {
			t.Errorf("%q: name %q parses to %+v, %v; want %+v", path, r.name, again, err, r)
		}
		onWire := (&url.URL{Path: r.name}).EscapedPath()
		if again, err := parse(onWire); err == nil && again != r {
			t.Errorf("%q: on the wire as %q it is %+v; want %+v", path, onWire, again, r)
		}
	})
}

// checkName holds r.name against what r means.
func checkName(t *testing.T, path string, r request) {
	t.Helper()
	if err := cache.CheckName(r.name); err != nil {
		t.Errorf("parse(%q): name %q: %v", path, r.name, err)
	}
	if err := module.CheckPath(r.mod.Path); err != nil {
		t.Errorf("parse(%q): %v", path, err)
	}
	mod, err := module.EscapePath(r.mod.Path)
	if err != nil {
		t.Errorf("parse(%q): %v", path, err)
	}
	want := mod + "/@v/list"
	switch r.kind {
	case kindList:
	case kindLatest:
		want = mod + "/@latest"
	default:
		kind := r.kind
		if kind == kindQuery {
			kind = KindInfo
		}
		if want, err = fileName(r.mod, kind); err != nil {
			t.Errorf("parse(%q): %v", path, err)
		}
	}
	if r.name != want {
		t.Errorf("parse(%q): name %q, want %q", path, r.name, want)
	}
	for elem := range strings.SplitSeq(r.name, "/") {
		if len(elem) > maxElement+len(".info") {
			t.Errorf("parse(%q): an element has %d bytes", path, len(elem))
		}
	}
	if r.immutable() {
		if err := module.Check(r.mod.Path, r.mod.Version); err != nil {
			t.Errorf("parse(%q): %v", path, err)
		}
	}
}
