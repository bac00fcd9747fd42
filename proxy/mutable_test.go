package proxy_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

const (
	listPath   = "/example.com/m/@v/list"
	latestPath = "/example.com/m/@latest"
	mainPath   = "/example.com/m/@v/main.info"
)

// ttl is a configuration with these times.
func ttl(list, negative time.Duration) func(*proxy.Config) {
	return func(c *proxy.Config) { c.ListTTL, c.NegativeTTL = list, negative }
}

// aged makes what is stored under path look as if it was confirmed that long
// ago.
func (w *world) aged(path string, age time.Duration) {
	w.Helper()
	w.must(w.store.Checked.Touch(w.Context(), strings.TrimPrefix(path, "/"), time.Now().Add(-age)))
}

// TestMutable: list, @latest and queries are asked for once per TTL.
func TestMutable(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	w := newWorld(t, options{config: ttl(time.Hour, time.Hour)}, m)
	branch := infoOf("v1.0.1-0.20240102030405-0123456789ab")
	w.up.SetFile(mainPath, branch)
	for path, body := range map[string][]byte{listPath: []byte("v1.0.0\n"), latestPath: m.Info, mainPath: branch} {
		a := w.get(path)
		w.want(a, body, access.Miss)
		if a.header.Get("Cache-Control") != "public, max-age=3600" {
			t.Errorf("%s: %v", path, a.header)
		}
		w.want(w.get(path), body, access.Hit)
		w.aged(path, 40*time.Minute)
		a = w.get(path)
		w.want(a, body, access.Hit)
		if age := a.header.Get("Cache-Control"); age != "public, max-age=1199" && age != "public, max-age=1200" {
			t.Errorf("%s may be kept for %s after 40 minutes", path, age)
		}
		if again := w.get(path, "If-None-Match", a.header.Get("ETag")); again.status != 304 {
			t.Errorf("%s: conditional request: %d", path, again.status)
		}
		puts := w.store.puts.Load()
		for _, age := range []time.Duration{time.Hour + time.Second, -10 * time.Hour} { // the latter: the clock was put back
			w.aged(path, age)
			w.want(w.get(path), body, access.Miss)
			w.want(w.get(path), body, access.Hit)
		}
		if n := w.up.Count(path); n != 3 {
			t.Errorf("%s was asked for %d times", path, n)
		}
		if w.store.puts.Load() != puts || w.store.touches.Load() < 2 {
			t.Errorf("%s: what has not changed was written again", path)
		}
		w.aged(path, 10*time.Hour)
		w.want(w.get(path, "Disable-Module-Fetch", "true"), body, access.Hit)
	}
	// @v/latest.info is the same question.
	w.want(w.get("/example.com/m/@v/latest.info"), m.Info, access.Miss)
	w.want(w.get(latestPath), m.Info, access.Hit)
}

// TestStale: while the source is in trouble the old answer is given, and says
// how old it is; when it is back, so is the new one.
func TestStale(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	for name, trouble := range map[string]proxytest.Fault{
		"500": proxytest.Status(500, "x"), "429": proxytest.Status(429, "x"), "reset": proxytest.Reset(0), "a page": proxytest.HTML(), "a stall": proxytest.Stall(-1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{config: ttl(time.Minute, time.Hour), patience: 300 * time.Millisecond}, m)
			w.up.SetFile(mainPath, m.Info)
			for path, body := range map[string][]byte{listPath: []byte("v1.0.0\n"), latestPath: m.Info, mainPath: m.Info} {
				w.want(w.get(path), body, access.Miss)
				w.aged(path, time.Hour)
				w.up.SetFault("*", trouble)
				w.up2.SetFault("*", trouble)
				a := w.get(path)
				w.want(a, body, access.Stale)
				if age, err := strconv.Atoi(a.header.Get("Age")); err != nil || age < 3600 || age > 3660 || a.header.Get("Cache-Control") != "public, max-age=0" || a.cause == nil {
					t.Errorf("header %v, cause %v", a.header, a.cause)
				}
				w.up.SetFault("*", nil)
				w.up2.SetFault("*", nil)
				a = w.get(path)
				w.want(a, body, access.Miss)
				if a.header.Get("Age") != "" {
					t.Errorf("a fresh answer has Age %q", a.header.Get("Age"))
				}
			}
		})
	}
}

// TestTooStale: where there is a bound, what is older is trouble, not an answer.
// It is not a bound for what upstream says has vanished.
func TestTooStale(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	w := newWorld(t, options{config: func(c *proxy.Config) {
		c.ListTTL, c.StaleTTL, c.NegativeTTL = time.Minute, time.Hour, 0
	}}, m)
	w.up.SetFile(mainPath, m.Info)
	for path, body := range map[string][]byte{listPath: []byte("v1.0.0\n"), latestPath: m.Info, mainPath: m.Info} {
		w.want(w.get(path), body, access.Miss)
		w.aged(path, 50*time.Minute)
		w.up.SetFault("*", proxytest.Status(500, "x"))
		w.up2.SetFault("*", proxytest.Status(500, "x"))
		w.want(w.get(path), body, access.Stale)
		w.aged(path, 70*time.Minute)
		if a := w.get(path); a.status != 502 || a.outcome != access.Trouble {
			t.Errorf("%s: %d %s", path, a.status, a.outcome)
		}
		if path != mainPath {
			w.up.SetFault("*", proxytest.Status(404, "x"))
			w.up2.SetFault("*", proxytest.Status(404, "x"))
			w.want(w.get(path), body, access.Stale)
		}
		w.up.SetFault("*", nil)
		w.up2.SetFault("*", nil)
		if path != mainPath {
			w.want(w.get(path), body, access.Miss)
		}
	}
}

// TestAbsent: absence is remembered for NegativeTTL, ends with a success, and
// outlives trouble; trouble is never absence and never remembered.
func TestAbsent(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	paths := map[string][]byte{listPath: []byte("v1.0.0\n"), latestPath: m.Info, mainPath: m.Info, "/example.com/m/@v/v1.0.0.info": m.Info, "/example.com/m/@v/v1.0.0.mod": m.Mod, "/example.com/m/@v/v1.0.0.zip": m.Zip}
	t.Run("remembered", func(t *testing.T) {
		w := newWorld(t, options{})
		for path := range paths {
			a := w.get(path)
			w.wantNo(a, 404, access.Absent, "example.com/m")
			if a.header.Get("Cache-Control") != "public, max-age=3600" {
				t.Errorf("%v", a.header)
			}
			w.wantNo(w.get(path), 404, access.Negative)
			if n := w.up.Count(path); n != 1 {
				t.Errorf("%s was asked for %d times", path, n)
			}
		}
	})
	t.Run("for a short time", func(t *testing.T) {
		w := newWorld(t, options{config: ttl(time.Hour, 150*time.Millisecond)})
		w.record(m)
		for path := range paths {
			w.wantNo(w.get(path), 404, access.Absent)
		}
		w.up.Add(t, m)
		w.up.SetFile(mainPath, m.Info)
		after := time.NewTimer(160 * time.Millisecond)
		<-after.C
		for path, body := range paths {
			w.want(w.get(path), body, access.Miss)
		}
	})
	t.Run("purged by a version that came", func(t *testing.T) {
		w := newWorld(t, options{})
		w.record(m)
		w.wantNo(w.get(listPath), 404, access.Absent)
		w.wantNo(w.get(latestPath), 404, access.Absent)
		w.up.Add(t, m)
		w.want(w.get("/example.com/m/@v/v1.0.0.mod"), m.Mod, access.Miss)
		w.want(w.get(listPath), []byte("v1.0.0\n"), access.Miss)
		w.want(w.get(latestPath), m.Info, access.Miss)
	})
	t.Run("outlives trouble", func(t *testing.T) {
		w := newWorld(t, options{config: ttl(time.Hour, 0)})
		for _, path := range []string{listPath, latestPath, mainPath, "/example.com/m/@v/v1.0.0.info"} {
			w.wantNo(w.get(path), 404, access.Absent)
			w.up.SetFault("*", proxytest.Status(500, "x"))
			a := w.get(path)
			w.wantNo(a, 404, access.Stale, "(remembered: the upstream cannot be reached now)")
			if a.cause == nil {
				t.Error("the record does not say why")
			}
			w.up.SetFault("*", proxytest.Status(403, "no"))
			w.up2.SetFault("*", proxytest.Status(403, "no"))
			w.wantNo(w.get(path), 403, access.Denied)
			w.up.SetFault("*", nil)
			w.up2.SetFault("*", nil)
		}
	})
	t.Run("is not trouble", func(t *testing.T) {
		for path, body := range paths {
			w := newWorld(t, options{}, m)
			w.up.SetFile(mainPath, m.Info)
			w.up.SetFault("*", proxytest.Status(500, "x"))
			a := w.get(path)
			w.wantNo(a, 502, access.Trouble)
			if a.header.Get("Retry-After") == "" || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%v", a.header)
			}
			w.up.SetFault("*", nil)
			w.want(w.get(path), body, access.Miss)
		}
	})
}

// TestGone: a branch that is gone is gone, also when trouble follows; a module
// that is gone is still what builds depend on.
func TestGone(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	w := newWorld(t, options{config: ttl(0, 0)}, m)
	w.up.SetFile(mainPath, m.Info)
	w.want(w.get(mainPath), m.Info, access.Miss)
	w.want(w.get(listPath), []byte("v1.0.0\n"), access.Miss)
	w.want(w.get("/example.com/m/@v/v1.0.0.zip"), m.Zip, access.Miss)
	w.up.SetFault("*", proxytest.Status(404, "gone"))
	w.wantNo(w.get(mainPath), 404, access.Absent)
	w.want(w.get(listPath), []byte("v1.0.0\n"), access.Stale)
	w.want(w.get("/example.com/m/@v/v1.0.0.zip"), m.Zip, access.Hit)
	w.up.SetFault("*", proxytest.Status(500, "x"))
	w.wantNo(w.get(mainPath), 404, access.Stale)
	w.wantNo(w.get(mainPath, "Disable-Module-Fetch", "true"), 404, access.Absent)
}

// TestListKnowsWhatIsHere: a version that was fetched is in the list, whether
// the source lists it or not, or is there at all.
func TestListKnowsWhatIsHere(t *testing.T) {
	t.Parallel()
	m1, m2, m10 := proxytest.Simple(t, "example.com/m", "v1.2.0"), proxytest.Simple(t, "example.com/m", "v1.9.0"), proxytest.Simple(t, "example.com/m", "v1.10.0")
	pseudo := proxytest.Simple(t, "example.com/m", "v1.10.1-0.20240102030405-0123456789ab")
	t.Run("sorted, each once", func(t *testing.T) {
		w := newWorld(t, options{}, m10, m1, m2)
		w.up.SetFile(listPath, []byte("v1.10.0\nv1.2.0\nv1.10.0\n"))
		w.want(w.get(listPath), []byte("v1.2.0\nv1.10.0\n"), access.Miss)
		w.want(w.get("/example.com/m/@v/v1.9.0.mod"), m2.Mod, access.Miss)
		w.want(w.get(listPath), []byte("v1.2.0\nv1.9.0\nv1.10.0\n"), access.Hit)
		w.aged(listPath, 2*time.Hour)
		w.want(w.get(listPath), []byte("v1.2.0\nv1.9.0\nv1.10.0\n"), access.Miss)
	})
	t.Run("no pseudo-versions", func(t *testing.T) {
		w := newWorld(t, options{}, pseudo)
		w.want(w.get(listPath), nil, access.Miss)
		w.want(w.get("/example.com/m/@v/"+pseudo.Version.Version+".mod"), pseudo.Mod, access.Miss)
		w.want(w.get(listPath), nil, access.Hit)
		w.aged(listPath, 2*time.Hour)
		w.want(w.get(listPath), nil, access.Miss)
	})
	t.Run("without the source", func(t *testing.T) {
		w := newWorld(t, options{}, m1, m10, pseudo)
		for _, m := range []*proxytest.Module{m1, m10, pseudo} {
			w.want(w.get(proxytest.Path(t, m.Version, "mod")), m.Mod, access.Miss)
		}
		w.up.SetFault("*", proxytest.Status(500, "x"))
		a := w.get(listPath)
		w.want(a, []byte("v1.2.0\nv1.10.0\n"), access.Stale)
		if a.header.Get("Age") != "" || a.header.Get("Cache-Control") != "public, max-age=0" {
			t.Errorf("%v", a.header)
		}
		w.want(w.get(listPath, "Disable-Module-Fetch", "true"), []byte("v1.2.0\nv1.10.0\n"), access.Hit)
		w.wantNo(w.get(latestPath), 502, access.Trouble)
	})
}

// TestBadInfo: what is not the .info of a version of this module is refused.
func TestBadInfo(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	for name, data := range map[string][]byte{
		"no JSON": []byte("v1.0.0"), "no version": []byte(`{"Time":"2024-01-01T00:00:00Z"}`), "another version": infoOf("v1.0.1"), "traversal": infoOf("../../v1.0.0"),
		"no canonical version": infoOf("v1"), "nothing": nil, "too long": append(infoOf("v1.0.0"), make([]byte, 1<<20)...),
	} {
		w := newWorld(t, options{}, m)
		for _, path := range []string{latestPath, mainPath, "/example.com/m/@v/v1.0.0.info"} {
			if name == "another version" && path != "/example.com/m/@v/v1.0.0.info" {
				continue
			}
			w.up.SetFile(path, data)
			w.up2.SetFile(path, data)
			w.wantNo(w.get(path), 502, access.Trouble)
			if o, err := w.store.Checked.Get(t.Context(), path[1:]); err == nil {
				t.Errorf("%s: %s was stored", name, o.Name)
				o.Close()
			}
		}
	}
}

// TestMutableWithoutStore: a store that fails costs its speed, not the answer.
func TestMutableWithoutStore(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	w := newWorld(t, options{}, m)
	set(&w.store.get, errBroken)
	set(&w.store.put, cache.ErrFull)
	for range 2 {
		w.want(w.get(listPath), []byte("v1.0.0\n"), access.Miss)
		w.want(w.get(latestPath), m.Info, access.Miss)
	}
}
