package upstream

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
)

// databaseAt answers like a checksum database, with its path.
func databaseAt(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/lookup/absent") {
		http.Error(w, "no such module", http.StatusNotFound)
		return
	}
	_, _ = w.Write([]byte(r.URL.Path))
}

// directDatabase is a server that is a database itself.
func directDatabase(t *testing.T) *proxytest.Server {
	s := proxytest.New(t)
	s.SetFault("*", func(x proxytest.Exchange) { databaseAt(x.W, x.R) })
	return s
}

// The way to a database is that of the go command.
func TestSumDBRoute(t *testing.T) {
	t.Parallel()
	supported := "/sumdb/sum.test/supported"
	for _, c := range []struct {
		name  string
		sep   string
		first proxytest.Fault // answers "supported" at the first upstream; the second has the database
		want  string          // first, second, direct or trouble
		only  bool            // there is no second
	}{
		{"offered", ",", nil, "first", false},
		{"not found", ",", proxytest.Status(404, ""), "second", false},
		{"gone", ",", proxytest.Status(410, ""), "second", false},
		{"refused", ",", proxytest.Status(403, ""), "second", false},
		{"bad request", ",", proxytest.Status(400, ""), "second", false},
		{"not found anywhere", ",", proxytest.Status(404, ""), "direct", true},
		{"broken", ",", proxytest.Status(500, ""), "trouble", false},
		{"throttled", ",", proxytest.Status(429, ""), "trouble", false},
		{"wrong credentials", ",", proxytest.Status(401, ""), "trouble", false},
		{"web page", ",", proxytest.HTML(), "trouble", false},
		{"broken, any error", "|", proxytest.Status(500, ""), "second", false},
		{"broken, any error, only", "|", proxytest.Status(500, ""), "direct", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			first, second, direct := proxytest.New(t), proxytest.New(t), directDatabase(t)
			first.SumDB("sum.test", http.HandlerFunc(databaseAt))
			second.SumDB("sum.test", http.HandlerFunc(databaseAt))
			first.SetFault(supported, c.first)
			list := first.URL + c.sep + second.URL
			if c.only {
				list = first.URL + c.sep
			}
			cfg := local(list)
			cfg.Retries = -1
			cfg.SumDBURL = map[string]string{"sum.test": direct.URL + "/base"}
			chain := newChain(t, cfg)
			data, err := chain.SumDB(t.Context(), "sum.test", "/lookup/example.com/!a@v1.0.0")
			got := map[bool]string{true: "trouble", false: "none"}[verdict(err) == "trouble"]
			want := "/lookup/example.com/!a@v1.0.0"
			for name, s := range map[string]*proxytest.Server{"first": first, "second": second} {
				if s.Count("/sumdb/sum.test"+want) == 1 && string(data) == want {
					got = name
				}
			}
			if direct.Count("/base"+want) == 1 && string(data) == "/base"+want {
				got = "direct"
			}
			if got != c.want {
				t.Errorf("through %s (%q, %v), want %s", got, data, err, c.want)
			}
		})
	}
}

// Absence is told; a database that was chosen is not gone around.
func TestSumDBErrors(t *testing.T) {
	t.Parallel()
	s, direct := proxytest.New(t), directDatabase(t)
	s.SumDB("sum.test", http.HandlerFunc(databaseAt))
	cfg := local(s.URL)
	cfg.Retries = -1
	cfg.SumDBURL = map[string]string{"sum.test": direct.URL}
	c := newChain(t, cfg)
	if _, err := c.SumDB(t.Context(), "sum.test", "/lookup/absent@v1.0.0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	s.SetFault("/sumdb/sum.test/latest", proxytest.Status(500, ""))
	if _, err := c.SumDB(t.Context(), "sum.test", "/latest"); verdict(err) != "trouble" {
		t.Errorf("broken: %v", err)
	}
	if n := len(direct.Requests()); n != 0 {
		t.Errorf("gone around: %d requests", n)
	}
	for _, bad := range [][2]string{
		{"sum.test", "latest"}, {"sum.test", "/../x"}, {"sum.test", "/"}, {"sum.test", ""}, {"sum.test", "/a//b"},
		{"", "/latest"}, {"a/../b", "/latest"}, {"u@h", "/latest"}, {"h?q", "/latest"}, {"h#f", "/latest"}, {"file:///x", "/latest"}, {"plain", "/latest"},
	} {
		if _, err := c.SumDB(t.Context(), bad[0], bad[1]); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Whether a database is offered is asked once for many, remembered long if
// the answer was good and for seconds if it was not, and a good answer
// survives trouble.
func TestSumDBRemembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		status, asked := 500, 0
		var mu sync.Mutex
		c := fake(t, Config{List: "https://a.test", Retries: -1, BreakAfter: 100}, func(r *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(r.URL.Path, "/supported") {
				return respond(200, r.URL.Host), nil
			}
			mu.Lock()
			asked++
			mu.Unlock()
			time.Sleep(time.Second)
			return respond(status, ""), nil
		})
		ask := func(n int) (answers []string) {
			answers = make([]string, n)
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					data, err := c.SumDB(t.Context(), "sum.test", "/latest")
					answers[i] = string(data)
					if err != nil {
						answers[i] = verdict(err)
					}
				})
			}
			wg.Wait()
			return answers
		}
		for _, step := range []struct {
			wait   time.Duration
			status int
			want   string
			asked  int
		}{
			{0, 500, "trouble", 1},
			{4 * time.Second, 200, "trouble", 0}, // remembered
			{2 * time.Second, 200, "a.test", 1},
			{59 * time.Minute, 500, "a.test", 0},
			{2 * time.Minute, 500, "a.test", 1}, // asked again, in vain
			{time.Second, 404, "a.test", 0},
			{10 * time.Second, 404, "", 1}, // a.test or sum.test: some go on with what was true
			{time.Second, 404, "sum.test", 0},
		} {
			time.Sleep(step.wait)
			mu.Lock()
			status, asked = step.status, 0
			mu.Unlock()
			for _, got := range ask(50) {
				if got != step.want && step.want != "" {
					t.Fatalf("after %v with %d: %q, want %q", step.wait, step.status, got, step.want)
				}
			}
			if asked != step.asked {
				t.Errorf("after %v with %d: asked %d times, want %d", step.wait, step.status, asked, step.asked)
			}
		}
	})
}

// An upstream that said for a moment that it does not offer the database is
// asked again when the database itself is out of reach.
func TestSumDBDoubtsAWayThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		offered, reachable := 404, 200
		c := fake(t, Config{List: "https://a.test", Retries: -1, BreakAfter: 100}, func(r *http.Request) (*http.Response, error) {
			switch {
			case r.URL.Host != "a.test":
				return respond(reachable, r.URL.Host), nil
			case strings.HasSuffix(r.URL.Path, "/supported"):
				return respond(offered, ""), nil
			}
			return respond(200, r.URL.Host), nil
		})
		for _, step := range []struct {
			wait               time.Duration
			offered, reachable int
			want               string
		}{
			{0, 404, 200, "sum.test"},
			{10 * time.Minute, 200, 200, "sum.test"}, // remembered while it is good
			{time.Second, 404, 502, ""},
			{6 * time.Second, 404, 502, ""},
			{4 * time.Second, 200, 502, ""},
			{2 * time.Second, 200, 502, "a.test"},
		} {
			time.Sleep(step.wait)
			offered, reachable = step.offered, step.reachable
			data, err := c.SumDB(t.Context(), "sum.test", "/latest")
			if string(data) != step.want || (err != nil) != (step.want == "") {
				t.Errorf("%+v: from %q, %v", step, data, err)
			}
		}
	})
}

// An upstream that has ceased to carry a database answers 404 to all of it, or
// 403. That is not the database's word that it does not know a version.
func TestSumDBUpstreamLosesTheDatabase(t *testing.T) {
	t.Parallel()
	const present, unknown = "/lookup/example.com/!a@v1.0.0", "/lookup/absent@v1.0.0"
	for _, c := range []struct {
		name              string
		lookup, supported int // what the upstream answers from now on; 0: as before
		direct            int
		file, want        string // "absent", "trouble" or what is read
	}{
		{"lost", 404, 404, 0, present, present},
		{"lost, and unknown", 404, 404, 0, unknown, "absent"},
		{"gone", 410, 410, 0, present, present},
		{"refused", 403, 403, 0, present, present},
		{"lost, database out of reach", 404, 404, 502, present, "trouble"},
		{"cannot be told", 404, 500, 0, present, "trouble"},
		{"wants credentials", 404, 401, 0, present, "trouble"},
		{"still offered", 0, 0, 0, unknown, "absent"},
		{"still offered, broken", 500, 0, 0, present, "trouble"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, direct := proxytest.New(t), directDatabase(t)
			s.SumDB("sum.test", http.HandlerFunc(databaseAt))
			cfg := local(s.URL)
			cfg.Retries = -1
			cfg.SumDBURL = map[string]string{"sum.test": direct.URL}
			chain := newChain(t, cfg)
			if _, err := chain.SumDB(t.Context(), "sum.test", "/latest"); err != nil || len(direct.Requests()) != 0 {
				t.Fatal(err)
			}
			set := func(s *proxytest.Server, path string, status int) {
				if status != 0 {
					s.SetFault(path, proxytest.Status(status, ""))
				}
			}
			set(s, "/sumdb/sum.test"+c.file, c.lookup)
			set(s, "/sumdb/sum.test/supported", c.supported)
			set(direct, "*", c.direct)
			data, err := chain.SumDB(t.Context(), "sum.test", c.file)
			got := string(data)
			if err != nil {
				got = verdict(err)
			}
			if got != c.want {
				t.Errorf("%q (%v), want %q", got, err, c.want)
			}
		})
	}
}

// One of several machines behind an upstream's name may have lost the database.
func TestSumDBUpstreamIsOfTwoMinds(t *testing.T) {
	t.Parallel()
	asked := 0
	c := fake(t, Config{List: "https://a.test", Retries: -1}, func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, "/supported") {
			return respond(404, ""), nil
		}
		asked++
		return respond(map[bool]int{true: 200, false: 404}[asked%2 == 1], ""), nil
	})
	_, err := c.SumDB(t.Context(), "sum.test", "/lookup/example.com/a@v1.0.0")
	if verdict(err) != "trouble" || !strings.Contains(asError(t, err).Public(), "sum.test") {
		t.Errorf("%v", err)
	}
}

// A person must be able to look for the host that an error names.
func TestSumDBErrorNamesTheHost(t *testing.T) {
	t.Parallel()
	c := fake(t, Config{List: "https://a.test", Retries: -1}, func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "a.test" {
			return respond(404, ""), nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: r.URL.Host, IsNotFound: true}
	})
	_, err := c.SumDB(t.Context(), "sum.test/db", "/latest")
	if e := asError(t, err); e.Upstream != "sum.test" || e.Public() != "upstream sum.test: its name does not resolve" {
		t.Errorf("%q: %q", e.Upstream, e.Public())
	}
	if strings.Contains(metricsText(t, c), "sum.test") || counter(t, c, sumdbLabel, "error") != 1 {
		t.Errorf("the series is not %s:\n%s", sumdbLabel, metricsText(t, c))
	}
}

// A caller that leaves while it looks for the way spoils nothing.
func TestSumDBFinderLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := fake(t, Config{List: "https://a.test"}, func(r *http.Request) (*http.Response, error) {
			select {
			case <-time.After(time.Second):
				return respond(200, "x"), nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		done := make(chan error)
		go func() { _, err := c.SumDB(ctx, "sum.test", "/latest"); done <- err }()
		synctest.Wait()
		if _, err := c.SumDB(t.Context(), "sum.test", "/latest"); err != nil {
			t.Error(err)
		}
		if err := <-done; verdict(err) != "trouble" {
			t.Error(err)
		}
	})
}

func TestTooManyDatabases(t *testing.T) {
	t.Parallel()
	s := proxytest.New(t)
	c := newChain(t, local(s.URL))
	var err error
	for i := range maxDatabases + 1 {
		_, err = c.database("sum" + strings.Repeat("x", i) + ".test")
	}
	if err == nil {
		t.Error("no bound on databases")
	}
}
