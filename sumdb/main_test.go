package sumdb_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
	"go.uber.org/goleak"
	"golang.org/x/mod/module"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mod is the i'th module of a test, with hashes by zipHash and modHash.
func mod(i int) module.Version {
	return module.Version{Path: fmt.Sprintf("example.com/Mod%d", i), Version: "v1.2.3"}
}

func zipHash(m module.Version) string { return sumdbtest.Hash("zip of " + m.String()) }
func modHash(m module.Version) string { return sumdbtest.Hash("mod of " + m.String()) }

func add(l *sumdbtest.Log, mods ...module.Version) {
	for _, m := range mods {
		l.Add(m, zipHash(m), modHash(m))
	}
}

func newLog(t testing.TB, fill int) *sumdbtest.Log {
	t.Helper()
	l, err := sumdbtest.New("sum.test/db")
	if err != nil {
		t.Fatal(err)
	}
	l.Fill(fill)
	return l
}

func newDB(t testing.TB, l *sumdbtest.Log, s sumdb.Storage, edit ...func(*sumdb.Config)) *sumdb.DB {
	t.Helper()
	cfg := sumdb.Config{Name: l.Key(), Remote: l, Storage: s, Timeout: 10 * time.Second}
	for _, e := range edit {
		e(&cfg)
	}
	d, err := sumdb.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// verify asks for both lines of m and wants them to be those of add.
func verify(t testing.TB, d *sumdb.DB, m module.Version) {
	t.Helper()
	if err := verifyErr(t.Context(), d, m); err != nil {
		t.Fatalf("verify %s: %v", m, err)
	}
}

func verifyErr(ctx context.Context, d *sumdb.DB, m module.Version) error {
	if err := d.Verify(ctx, m, "zip", zipHash(m)); err != nil {
		return err
	}
	return d.Verify(ctx, m, "mod", modHash(m))
}

func newMirror(t testing.TB, d ...*sumdb.DB) *sumdb.Mirror {
	t.Helper()
	m, err := sumdb.NewMirror(sumdb.MirrorConfig{DBs: d, PrivatePatterns: "corp.example,*.internal"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func get(t testing.TB, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "http://proxy.test/"+strings.TrimPrefix(path, "/"), nil))
	return rec
}

func wantRequests(t testing.TB, l *sumdbtest.Log, prefix string, want int) {
	t.Helper()
	if got := l.Requests(prefix); len(got) != want {
		t.Errorf("%d requests for %s…, want %d: %q", len(got), prefix, want, got)
	}
}
