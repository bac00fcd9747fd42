package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"pgregory.net/rapid"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/mem"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// What there is to know about the modules of ruleWorld, so that nobody has to ask
// the server, which would learn by that.
var (
	ruledPaths    = []string{"example.com/a", "example.com/A"}
	ruledTags     = []string{"v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0-rc.1", "v2.0.0+incompatible"}
	ruledCommits  = map[string]string{"v1.0.1-0.20240101000000-aaaaaaaaaaaa": "v1.0.0", "v0.0.0-20240103000000-cccccccccccc": "v1.2.0", "v1.2.1-0.20240104000000-dddddddddddd": ""}
	ruledVersions = slices.Concat(ruledTags, slices.Sorted(keysOf(ruledCommits)))
)

func keysOf(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// oracle explains by all there is to know. seen are the versions that were here.
func oracle(p *policy.Policy, caller policy.Caller, m module.Version, seen map[module.Version]bool) policy.Explanation {
	known := &policy.Module{Versions: ruledTags, Newest: "v1.2.0", Retractions: []policy.Retraction{{Low: "v1.1.0", High: "v1.1.0", Rationale: "broken"}}}
	ask := func(version string, tags ...string) policy.Explanation {
		f := policy.Facts{Now: time.Now(), Known: policy.FactFirstSeen | policy.FactTags | policy.FactVersions | policy.FactNewest, Module: known, Tags: tags}
		known.FirstSeen = map[string]time.Time{}
		for v := range seen {
			if v.Path == m.Path {
				known.FirstSeen[v.Version] = time.Unix(0, 0)
			}
		}
		f.FirstSeen = known.FirstSeen[version]
		return p.Explain(caller, module.Version{Path: m.Path, Version: version}, f)
	}
	if tag := ruledCommits[m.Version]; tag != "" && ask(tag).Verdict.Deny {
		return ask(m.Version, tag)
	}
	return ask(m.Version)
}

// orderWorld is one run of TestNoWayAround.
type orderWorld struct {
	*rapid.T
	up    *proxytest.Server
	store cache.Store
	s     *proxy.Server
	rules *swapped
	h     http.Handler
}

// everywhere is a store with a Locator that sends clients away for each zip.
type everywhere struct{ *mem.Store }

func (e *everywhere) Locate(ctx context.Context, name string) (string, cache.Attrs, error) {
	o, err := e.Get(ctx, name)
	if err != nil {
		return "", cache.Attrs{}, err
	}
	o.Attrs.Size, o.Attrs.H1 = 1<<20, "h1:"
	return "https://s3.example/" + name, o.Attrs, o.Close()
}

// sure has proof of everything.
type sure struct{}

func (sure) Verify(context.Context, module.Version, string, string) error { return nil }

// question is one request.
type question struct {
	mod    module.Version
	file   string
	method string
	header [2]string
	caller policy.Caller
}

func (q question) String() string {
	return fmt.Sprintf("%s %s %s %v as %v", q.method, q.mod, q.file, q.header, q.caller.Groups)
}

// TestNoWayAround asks a server that knows nothing for random files, several at
// once, in random orders, by GET and HEAD, whole and in parts, of the server or of the
// bucket that it sends to, while rules are replaced, files are evicted and the
// upstream is in trouble. No zip is ever
// completed that an explanation, by all there is to know, calls refused under all
// rules of the moment.
func TestNoWayAround(t *testing.T) {
	t.Parallel()
	up := ruleWorld(t)
	chain := newChain(t, up.URL)
	rapid.Check(t, func(t *rapid.T) {
		store, err := mem.New(mem.Config{MaxBytes: 64 << 20, MaxObject: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		w := &orderWorld{T: t, up: up, store: store, rules: new(swapped)}
		w.rules.Store(randomRules(t))
		w.s, err = proxy.New(proxy.Config{Store: &everywhere{store}, Public: chain, Verifier: sure{}, Policy: w.rules, Redirect: rapid.Bool().Draw(t, "redirect"), ListTTL: rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "ttl")})
		if err != nil {
			t.Fatal(err)
		}
		w.h = access.Handler(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			access.From(rw).Groups = r.Header["Groups"]
			w.s.ServeHTTP(rw, r)
		}), access.Reports{})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- w.s.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			w.batch()
		}
		w.agree()
		w.rules.Store(randomRules(w.T))
		w.agree()
	})
}

// batch asks several questions at once, and holds what is completed against the
// rules before and after.
func (w *orderWorld) batch() {
	faults := []string{"/example.com/a/@v/list", "/example.com/!a/@v/list", "/example.com/a/@v/v1.2.0.mod", "/example.com/a/@v/v1.0.0.info"}
	trouble := rapid.IntRange(0, 3).Draw(w.T, "trouble") == 0
	if trouble {
		fault := rapid.SampledFrom(faults).Draw(w.T, "fault")
		w.up.SetFault(fault, proxytest.Status(500, "down"))
		defer w.up.SetFault(fault, nil)
	}
	if rapid.IntRange(0, 4).Draw(w.T, "evict") == 0 {
		m := module.Version{Path: rapid.SampledFrom(ruledPaths).Draw(w.T, "path"), Version: rapid.SampledFrom(ruledVersions).Draw(w.T, "version")}
		if err := w.store.Delete(context.Background(), w.zip(m)); err != nil {
			w.Fatal(err)
		}
		w.s.Forget()
	}
	policies := []*policy.Policy{w.rules.Load()}
	var next *policy.Policy
	if rapid.IntRange(0, 4).Draw(w.T, "reload") == 0 {
		next = randomRules(w.T)
		policies = append(policies, next)
	}
	questions := rapid.SliceOfN(rapid.Custom(randomQuestion), 1, 5).Draw(w.T, "questions")
	before := w.seen()
	status := w.askAll(questions, next)
	after := w.seen()
	for i, q := range questions {
		may, must, mayMod, mustMod := false, true, false, true
		for _, p := range policies {
			seens := []map[module.Version]bool{before, with(after, q.mod, before[q.mod])}
			if mayBring(policies, questions, i, before) {
				seens = append(seens, after)
			}
			for _, seen := range seens {
				v := oracle(p, q.caller, q.mod, seen).Verdict
				strict := v.Deny && v.Strict
				may, must = may || !v.Deny, must && !v.Deny
				mayMod, mustMod = mayMod || !strict, mustMod && !strict
			}
		}
		judged := q.file == "zip" || q.file == "info"
		if q.file == "mod" {
			judged, may, must = true, mayMod, mustMod
		}
		switch code := status[i]; {
		case judged && !may && (code < 300 || code == http.StatusNotModified || code == http.StatusFound):
			w.Fatalf("%v: %d, and it is refused", q, code)
		case judged && must && !trouble && q.header[0] != "Disable-Module-Fetch" && code >= 400:
			w.Fatalf("%v: %d, and it may be had", q, code)
		case judged && !may && code == http.StatusNotFound && q.header[0] != "Disable-Module-Fetch":
			w.Fatalf("%v: not found, which leads around the rule", q)
		}
	}
}

// mayBring reports whether a question other than the one at i may have brought the
// zip that the one at i is about, so that it is not new any more.
func mayBring(policies []*policy.Policy, questions []question, i int, before map[module.Version]bool) bool {
	for j, q := range questions {
		for _, p := range policies {
			if j != i && q.mod == questions[i].mod && q.file == "zip" && !oracle(p, q.caller, q.mod, before).Verdict.Deny {
				return true
			}
		}
	}
	return false
}

func randomQuestion(t *rapid.T) question {
	q := question{
		mod:    module.Version{Path: rapid.SampledFrom([]string{"example.com/a", "example.com/a", "example.com/a", "example.com/A"}).Draw(t, "path"), Version: rapid.SampledFrom(ruledVersions).Draw(t, "version")},
		file:   rapid.SampledFrom([]string{"zip", "zip", "zip", "info", "mod", "list", "latest", "main", "v1", "v2.0.0"}).Draw(t, "file"),
		method: rapid.SampledFrom([]string{"GET", "GET", "GET", "HEAD"}).Draw(t, "method"),
		header: rapid.SampledFrom([][2]string{{}, {}, {}, {"Range", "bytes=0-9"}, {"Disable-Module-Fetch", "true"}, {"If-None-Match", "*"}}).Draw(t, "header"),
	}
	q.caller.Groups = rapid.SampledFrom([][]string{nil, nil, {"ci"}, {"dev"}}).Draw(t, "groups")
	return q
}

// path is what the request is for.
func (q question) path() string {
	escaped, _ := module.EscapePath(q.mod.Path)
	switch q.file {
	case "list":
		return "/" + escaped + "/@v/list"
	case "latest":
		return "/" + escaped + "/@latest"
	case "main", "v1", "v2.0.0":
		return "/" + escaped + "/@v/" + q.file + ".info"
	}
	return "/" + escaped + "/@v/" + q.mod.Version + "." + q.file
}

// askAll sends all questions at once, with next put into force meanwhile.
func (w *orderWorld) askAll(questions []question, next *policy.Policy) []int {
	status := make([]int, len(questions))
	var all sync.WaitGroup
	for i, q := range questions {
		if i == len(questions)/2 && next != nil {
			all.Go(func() { w.rules.Store(next) })
		}
		all.Go(func() {
			r := httptest.NewRequest(q.method, q.path(), nil)
			r.Header["Groups"] = q.caller.Groups
			if q.header[0] != "" {
				r.Header.Set(q.header[0], q.header[1])
			}
			rec := httptest.NewRecorder()
			defer func() {
				if recover() == http.ErrAbortHandler {
					status[i] = 599
				}
			}()
			w.h.ServeHTTP(rec, r)
			status[i] = rec.Code
		})
	}
	all.Wait()
	return status
}

func (w *orderWorld) zip(m module.Version) string {
	escaped, _ := module.EscapePath(m.Path)
	return escaped + "/@v/" + m.Version + ".zip"
}

// seen returns which zips are stored.
func (w *orderWorld) seen() map[module.Version]bool {
	seen := make(map[module.Version]bool)
	for _, path := range ruledPaths {
		for _, version := range ruledVersions {
			m := module.Version{Path: path, Version: version}
			if obj, err := w.store.Get(context.Background(), w.zip(m)); err == nil {
				_ = obj.Close()
				seen[m] = true
			}
		}
	}
	return seen
}

// with returns seen with another value for one of its keys.
func with(seen map[module.Version]bool, m module.Version, value bool) map[module.Version]bool {
	out := make(map[module.Version]bool)
	for k := range seen {
		out[k] = true
	}
	if delete(out, m); value {
		out[m] = true
	}
	return out
}

// agree holds the explanations of the server, whatever it has learnt, against those
// by all there is to know.
func (w *orderWorld) agree() {
	seen := w.seen()
	for _, path := range ruledPaths {
		for _, version := range ruledVersions {
			for _, groups := range [][]string{nil, {"ci"}} {
				m, caller := module.Version{Path: path, Version: version}, policy.Caller{Groups: groups}
				e, err := w.s.Explain(context.Background(), caller, path, version)
				want := oracle(w.rules.Load(), caller, m, seen)
				if err != nil || e.Verdict.Deny != want.Verdict.Deny || e.Rule != want.Rule || e.Newest != want.Newest {
					w.Fatalf("%v as %v: %v, explained as %v by %s (newest %s), want %v by %s (newest %s)\n%s", m, groups, err, e.Action, e.Rule, e.Newest, want.Action, want.Rule, want.Newest, strings.Join(e.Facts, "\n"))
				}
			}
		}
	}
}
