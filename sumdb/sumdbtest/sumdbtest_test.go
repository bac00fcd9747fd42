package sumdbtest

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/modgate/modgate/sumdb"
	"golang.org/x/mod/module"
)

func TestOwnStorage(t *testing.T) {
	t.Parallel()
	TestStorage(t, func(*testing.T) sumdb.Storage { return NewStorage() })
}

func TestLog(t *testing.T) {
	t.Parallel()
	l, err := New("sum.test")
	if err != nil {
		t.Fatal(err)
	}
	m := module.Version{Path: "example.com/x", Version: "v1.0.0"}
	l.Fill(300)
	if id := l.Add(m, Hash("zip"), Hash("mod")); id != 300 || l.Size() != 301 {
		t.Errorf("id %d of %d", id, l.Size())
	}
	for path, want := range map[string]int{
		"/supported": 200, "/latest": 200, "/lookup/example.com/x@v1.0.0": 200, "/lookup/example.com/y@v1.0.0": 404,
		"/tile/8/0/000": 200, "/tile/8/0/001": 404, "/tile/8/0/001.p/45": 200, "/tile/8/0/001.p/46": 404, "/x": 404,
	} {
		rec := httptest.NewRecorder()
		l.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		_, err := l.SumDB(t.Context(), "sum.test", path)
		if rec.Code != want || (err == nil) != (want == 200) || errors.Is(err, fs.ErrNotExist) != (want == 404) {
			t.Errorf("%s: %d and %v, want %d", path, rec.Code, err, want)
		}
		if n := len(l.Requests(path)); n < 2 {
			t.Errorf("%s: %d requests counted, want 2", path, n)
		}
	}
	if _, err := l.SumDB(t.Context(), "other.test", "/latest"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("other database: %v", err)
	}
	l.Forget()
	l.Lie(Say("/lookup/", 418, "tea"), FlipBit("/tile/", 9), Replace("/latest", "tree", "bush"))
	for path, want := range map[string]string{"/lookup/example.com/x@v1.0.0": "tea", "/latest": "go.sum database bush\n"} {
		rec := httptest.NewRecorder()
		l.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if got := rec.Body.String(); len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	if n := len(l.Requests("/")); n != 2 {
		t.Errorf("%d requests counted", n)
	}
}
