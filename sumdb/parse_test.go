package sumdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"
)

const corpKey = "sum.corp.example/go+32b0a1b5+AeLsn28P"

func TestParse(t *testing.T) {
	t.Parallel()
	const golang = keySumGolangOrg
	tests := []struct {
		in   string
		want Database // zero for an error
	}{
		{"sum.golang.org", Database{"sum.golang.org", golang, ""}},
		{" sum.golang.org ", Database{"sum.golang.org", golang, ""}},
		{golang, Database{"sum.golang.org", golang, ""}},
		{"sum.golang.google.cn", Database{"sum.golang.org", golang, "https://sum.golang.google.cn"}},
		{"sum.golang.org https://mirror.example/db", Database{"sum.golang.org", golang, "https://mirror.example/db"}},
		{"", Database{}},
		{"off", Database{}},
		{"sum.corp.example/go", Database{}},
		{corpKey, Database{}}, // a hash that is not of this key
		{golang + ",sum.golang.org", Database{}},
		{"sum.golang.org https://a.example b", Database{}},
		{"sum.golang.org mirror.example", Database{}},
		{"sum.golang.org ://", Database{}},
	}
	for _, test := range tests {
		got, err := Parse(test.in)
		if got != test.want || (err == nil) != (test.want != Database{}) {
			t.Errorf("Parse(%q) = %+v, %v", test.in, got, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sum.golang.org", "sum.corp.example/go-1", "localhost:8080", "a/b/c"} {
		if err := checkName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", ".", "a/", "/a", "a//b", "a/../b", "a/.b", ".a", "a?b", "a#b", "u@a", "a b", "a\\b", "a%2fb", "a!b", "é", "a\x00", "a:x/", strings.Repeat("a", 300)} {
		if err := checkName(name); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestNewChecksConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{
		{},
		{Name: "sum.golang.org"},
		{Name: "off"},
		{Name: "sum.golang.org", Concurrency: -1},
	} {
		if d, err := New(cfg); err == nil || d != nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

func TestParseRecord(t *testing.T) {
	t.Parallel()
	m := module.Version{Path: "example.com/m", Version: "v1.0.0"}
	h, other := "h1:"+strings.Repeat("A", 43)+"=", "h1:"+strings.Repeat("B", 43)+"="
	zip, mod := "example.com/m v1.0.0 "+h+"\n", "example.com/m v1.0.0/go.mod "+other+"\n"
	tests := []struct {
		name, text string
		ok         bool
	}{
		{"both lines", zip + mod, true},
		{"the other way round", mod + zip, true},
		{"zip alone", zip, false},
		{"go.mod alone", mod, false},
		{"zip twice", zip + zip, false},
		{"one line more", zip + mod + "example.com/m v1.0.0 " + other + "\n", false},
		{"line of another module more", zip + mod + "example.com/n v1.0.0 " + h + "\n", false},
		{"another module", strings.ReplaceAll(zip+mod, "com/m", "com/n"), false},
		{"another version", strings.ReplaceAll(zip+mod, "v1.0.0", "v1.0.1"), false},
		{"longer path", strings.ReplaceAll(zip+mod, "com/m ", "com/m/v2 "), false},
		{"other case", strings.ReplaceAll(zip+mod, "com/m", "com/M"), false},
		{"hash of another kind", strings.ReplaceAll(zip+mod, "h1:", "h2:"), false},
		{"short hash", strings.ReplaceAll(zip+mod, "AA", "A"), false},
		{"space in the hash", strings.ReplaceAll(zip+mod, "AAAA", "A AA"), false},
	}
	for _, test := range tests {
		r, rest, err := parseRecord(m, []byte("7\n"+test.text+"\nrest"))
		if (err == nil) != test.ok {
			t.Errorf("%s: error %v", test.name, err)
		}
		if err == nil && (r.id != 7 || r.zip != h || r.mod != other || string(rest) != "rest" || string(r.block) != "7\n"+test.text+"\n") {
			t.Errorf("%s: %+v", test.name, r)
		}
	}
	for _, id := range []string{"-1", "", "x", "9223372036854775807", "99999999999999999999", "1e3"} {
		if _, _, err := parseRecord(m, []byte(id+"\n"+zip+mod+"\n")); err == nil {
			t.Errorf("id %q is accepted", id)
		}
	}
	if _, _, err := parseRecord(m, []byte("7\n"+zip+mod+"\n"+strings.Repeat("x", maxRecord))); err == nil {
		t.Error("an endless answer is accepted")
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	tests := []struct{ in, last, want string }{
		{"plain", "", "plain\n"},
		{"plain", "request 1", "plain\nrequest 1\n"},
		{"two\n\tlines", "", "two\n\tlines\n"},
		{"\x1b[31m\r\x00\x7f", "", "?[31m???\n"},
		{"é\xff", "", "??\n"},
		{strings.Repeat("l\n", 20), "", strings.Repeat("l\n", 8)},
		{strings.Repeat("l\n", 20), "request 1", strings.Repeat("l\n", 7) + "request 1\n"},
		{strings.Repeat("x", 2000), "", strings.Repeat("x", 647) + "\n"},
		{strings.Repeat("x", 2000), "request 1", strings.Repeat("x", 637) + "\nrequest 1\n"},
	}
	for _, test := range tests {
		if got := clean(test.in, test.last); got != test.want {
			t.Errorf("clean(%q) = %q", test.in, got)
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	m := newMemory[int](3 * (100 + 1 + keptOverhead))
	for i, name := range []string{"a", "b", "c"} {
		m.put(name, i, 100)
	}
	m.get("a")
	m.put("d", 3, 100)
	for name, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if _, ok := m.get(name); ok != want {
			t.Errorf("%s is kept: %t", name, ok)
		}
	}
	m.put("d", 4, 100)
	if v, _ := m.get("d"); v != 4 || m.used != 3*301 || m.order.Len() != 3 || len(m.items) != 3 {
		t.Errorf("after replacing: %d, %d bytes, %d items", v, m.used, len(m.items))
	}
	m.put("e", 5, 10000)
	if _, ok := m.get("e"); ok || m.order.Len() != 3 {
		t.Error("something larger than all there is was kept")
	}
}

func TestFlights(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := flights[int]{life: newLife(slog.New(slog.DiscardHandler)), timeout: time.Second}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := f.do(cancelled, "x", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before: %v", err)
		}
		stuck := func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, joined, err := f.do(short, "x", stuck); joined || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiter leaves: %v", err)
		}
		start := time.Now()
		if _, joined, err := f.do(t.Context(), "x", nil); !joined || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Second {
			t.Errorf("second waiter: joined %t, %v after %v", joined, err, time.Since(start))
		}
		if v, joined, err := f.do(t.Context(), "x", func(context.Context) (int, error) { return 7, nil }); v != 7 || joined || err != nil {
			t.Errorf("afterwards: %d %t %v", v, joined, err)
		}
		if len(f.runs) != 0 {
			t.Errorf("%d runs are kept", len(f.runs))
		}
	})
}

func TestWidthIn(t *testing.T) {
	t.Parallel()
	tree := tlog.Tree{N: 256*256 + 256 + 5}
	for path, want := range map[string]int{
		"tile/8/0/000": 256, "tile/8/0/256": 256, "tile/8/0/257.p/1": 5, "tile/8/0/258": 0,
		"tile/8/1/000": 256, "tile/8/1/001.p/1": 1, "tile/8/1/002": 0, "tile/8/2/000.p/1": 1, "tile/8/3/000": 0,
	} {
		tile, err := tlog.ParseTilePath(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := widthIn(tree, tile); got != want {
			t.Errorf("%s has width %d, want %d", path, got, want)
		}
	}
}

// A pin that could not be stored is a pin: nobody who knows only the stored one
// may replace it.
func TestSwapPinKnowsBoth(t *testing.T) {
	t.Parallel()
	n := &nowhere{t: t}
	d, err := New(Config{Name: "sum.golang.org", Remote: n, Storage: n})
	if err != nil {
		t.Fatal(err)
	}
	heads := make([]*head, 5)
	for i := range heads {
		heads[i] = &head{tlog.Tree{N: int64(i)}, fmt.Appendf(nil, "head %d", i)}
	}
	d.heads.pin.Store(heads[3])
	d.heads.saved = heads[1].note
	for _, known := range [][]*head{nil, {heads[1]}, {heads[2], heads[1]}} {
		other, err := d.swapPin(t.Context(), known, heads[4])
		if !errors.Is(err, ErrConflict) || other != heads[3] || d.heads.pinned() != heads[3] {
			t.Errorf("knowing %d heads: %v, %v", len(known), other, err)
		}
	}
	if _, err := d.swapPin(t.Context(), []*head{heads[3]}, heads[4]); err == nil || d.heads.pinned() != heads[3] {
		t.Errorf("knowing the pin alone: %v", err)
	}
	if _, err := d.swapPin(t.Context(), []*head{heads[3], heads[1]}, heads[4]); err != nil || d.heads.pinned() != heads[4] {
		t.Errorf("knowing both: %v", err)
	}
}

// nowhere is a remote and a storage that has nothing.
type nowhere struct {
	t     testing.TB
	mu    sync.Mutex
	paths []string
}

func (n *nowhere) SumDB(_ context.Context, _, path string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.paths = append(n.paths, path)
	return nil, errors.New("unreachable")
}

func (n *nowhere) Get(_ context.Context, name string) ([]byte, error) { return nil, n.check(name) }
func (n *nowhere) Put(_ context.Context, name string, _ []byte) error { return n.check(name) }
func (n *nowhere) Swap(_ context.Context, name string, _, _ []byte) error {
	return n.check(name)
}
func (n *nowhere) Delete(_ context.Context, name string) error { return n.check(name) }

func (n *nowhere) check(name string) error {
	if strings.Contains("/"+name, "/.") || strings.Contains(name, "//") || !strings.HasPrefix(name, "sumdb/sum.golang.org/") {
		n.t.Errorf("stored name %q", name)
	}
	return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

// Whatever is asked: no panic, no odd name in the storage, no odd path or
// private name at the remote, and a text that the go command shows.
func FuzzMirrorPath(f *testing.F) {
	for _, s := range []string{
		"sum.golang.org/supported", "sum.golang.org/latest", "sum.golang.org/lookup/golang.org/x/text@v0.20.0",
		"sum.golang.org/lookup/github.com/!burnt!sushi/toml@v1.0.0+incompatible", "sum.golang.org/tile/8/0/x123/009",
		"sum.golang.org/tile/8/2/003.p/244", "sum.golang.org/lookup/corp.example/x@v1.0.0", "sum.golang.org/tile/8/data/000",
		"sum.golang.org/lookup/../../x@v1.0.0", "sum.golang.org/lookup/a.b/\x00@v1.0.0", "//", "other/supported",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		n := &nowhere{t: t}
		private := func(p string) bool { return module.MatchPrefixPatterns("corp.example", p) }
		d, err := New(Config{Name: "sum.golang.org", Remote: n, Storage: n, Private: private})
		if err != nil {
			t.Fatal(err)
		}
		d.heads.loaded = true
		m, err := NewMirror(MirrorConfig{DBs: []*DB{d}})
		if err != nil {
			t.Fatal(err)
		}
		rec := httptest.NewRecorder()
		m.ServeHTTP(rec, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}})
		if body := rec.Body.String(); rec.Code != 200 && (len(body) > maxTextBytes || strings.Count(body, "\n") > maxTextLines || !utf8.ValidString(body)) {
			t.Errorf("text %q", body)
		}
		for _, p := range n.paths {
			if p == "/latest" {
				continue
			}
			if want, _ := strings.CutPrefix(strings.TrimPrefix(path, "/"), "sum.golang.org"); p != want && !strings.HasPrefix(want, strings.TrimSuffix(p, ".p/")) {
				t.Errorf("asked for %q, upstream for %q", path, p)
			}
			if strings.Contains(p, "corp.example/") && strings.HasPrefix(p, "/lookup/corp.example") {
				t.Errorf("upstream was asked for %q", p)
			}
		}
	})
}
