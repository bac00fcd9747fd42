package sumdb_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// Errors have the manners of the module errors: who reads one finds its request
// in the log, whatever had to be cut, and who keeps answers keeps no trouble.
func TestMirrorErrorManners(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	log.Lie(sumdbtest.Say("/lookup/example.com/!mod1@", 500, ""))
	d := newDB(t, log, sumdbtest.NewStorage(), func(c *sumdb.Config) {
		c.Private = func(path string) bool { return strings.HasPrefix(path, "corp.example/") }
	})
	patterns := strings.TrimSuffix(strings.Repeat("corp.example,", 19), ",") // the longest that is shown
	m, err := sumdb.NewMirror(sumdb.MirrorConfig{DBs: []*sumdb.DB{d}, PrivatePatterns: patterns})
	if err != nil {
		t.Fatal(err)
	}
	id := ""
	h := access.Handler(m, access.Reports{Observe: func(r *access.Record, _ time.Duration) { id = r.ID() }})
	for _, test := range []struct {
		method, path string
		code         int
	}{
		{"GET", "lookup/corp.example/" + strings.Repeat("x", 300) + "@v1.0.0", 403},
		{"POST", "supported", 405},
		{"GET", "lookup/example.com/!mod2@v1.2.3", 404},
		{"GET", "lookup/example.com/!mod1@v1.2.3", 502},
		{"HEAD", "lookup/example.com/!mod1@v1.2.3", 502},
	} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(test.method, "http://proxy.test/sum.test/db/"+test.path, nil))
		if rec.Code != test.code {
			t.Errorf("%s %.60s: %d", test.method, test.path, rec.Code)
		}
		if test.method == "HEAD" {
			if n := rec.Header().Get("Content-Length"); rec.Body.Len() != 0 || n == "0" || n == "" {
				t.Errorf("HEAD has a body of %d bytes, said to be %s", rec.Body.Len(), n)
			}
			continue
		}
		wantText(t, rec)
		if named := strings.HasSuffix(rec.Body.String(), "\nrequest "+id+"\n"); id == "" || named != (test.code != 404) {
			t.Errorf("%d, request %s: %q", test.code, id, rec.Body)
		}
		if wait := rec.Header().Get("Retry-After"); (wait == "5") != (test.code >= 500) {
			t.Errorf("%d: Retry-After %q", test.code, wait)
		}
	}
	// Where no access.Handler stands in front there is no id to tell.
	if rec := get(t, m, "sum.test/db/lookup/example.com/!mod1@v1.2.3"); strings.Contains(rec.Body.String(), "request") {
		t.Errorf("%q", rec.Body)
	}
}
