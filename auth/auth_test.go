package auth_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/auth"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
)

// answer is what came of one request.
type answer struct {
	status int
	body   string
	header http.Header
	record access.Record
	passed bool
}

func ask(a *auth.Auth, method string, set func(*http.Request)) answer {
	var out answer
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { out.passed = true })
	h := access.Handler(a.Handler(next), access.Reports{Observe: func(r *access.Record, _ time.Duration) { out.record = *r }})
	r := httptest.NewRequest(method, "https://go.corp.example:8443/example.com/m/@v/list", nil)
	set(r)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	out.status, out.body, out.header = w.Code, w.Body.String(), w.Header()
	return out
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func newAuth(t *testing.T, required bool, tokens ...auth.Token) *auth.Auth {
	t.Helper()
	a, err := auth.New(auth.Config{Required: required, Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestHandler(t *testing.T) {
	t.Parallel()
	token := auth.NewToken()
	ci := auth.Token{Name: "ci", SHA256: auth.Sum(token), Groups: []string{"build", "release"}}
	tests := []struct {
		name     string
		set      func(*http.Request)
		required bool
		status   int
		caller   string
		text     string
	}{
		{"nothing, wanted", func(*http.Request) {}, true, 401, "", "machine go.corp.example:8443 login NAME password TOKEN"},
		{"nothing", func(*http.Request) {}, false, 200, "", ""},
		{"bearer", bearer(token), true, 200, "ci", ""},
		{"bearer, where none is wanted", bearer(token), false, 200, "ci", ""},
		{"basic", func(r *http.Request) { r.SetBasicAuth("whoever", token) }, true, 200, "ci", ""},
		{"user alone", func(r *http.Request) { r.SetBasicAuth(token, "") }, true, 200, "ci", ""},
		{"scheme in capitals", func(r *http.Request) { r.Header.Set("Authorization", "BEARER "+token) }, true, 200, "ci", ""},
		{"another token", bearer(auth.NewToken()), true, 401, "", "does not know the token"},
		{"another token, where none is wanted", bearer(auth.NewToken()), false, 401, "", "does not know the token"},
		{"the hash", bearer(auth.Sum(token)), true, 401, "", "does not know the token"},
		{"a part", bearer(token[:len(token)-1]), true, 401, "", "does not know the token"},
		{"an empty one", bearer(""), false, 401, "", "does not know the token"},
		{"nobody and nothing", func(r *http.Request) { r.SetBasicAuth("", "") }, false, 401, "", "does not know the token"},
		{"another scheme", func(r *http.Request) { r.Header.Set("Authorization", "Digest "+token) }, true, 401, "", "does not know the token"},
		{"garbage", func(r *http.Request) { r.Header.Set("Authorization", "Basic \x00!") }, false, 401, "", "does not know the token"},
		{"a host that is none", func(r *http.Request) { r.Host = "a b\n" }, true, 401, "", "machine HOST login"},
	}
	for _, test := range tests {
		for _, method := range []string{"GET", "HEAD"} {
			got := ask(newAuth(t, test.required, ci), method, test.set)
			if got.status != test.status || got.passed != (test.status == 200) || got.record.Caller != test.caller {
				t.Errorf("%s: %d, passed on: %v, from %q; want %d from %q", test.name, got.status, got.passed, got.record.Caller, test.status, test.caller)
			}
			if want := test.caller != ""; slices.Equal(got.record.Groups, ci.Groups) != want {
				t.Errorf("%s: groups %v", test.name, got.record.Groups)
			}
			if got.status != 401 {
				if private := got.header.Get("Cache-Control") == "private, no-cache"; private != (test.caller != "") {
					t.Errorf("%s: caches in front may keep it: %v", test.name, !private)
				}
				continue
			}
			if got.header.Get("WWW-Authenticate") == "" || got.header.Get("Content-Type") != "text/plain; charset=utf-8" || got.record.Outcome != access.Denied {
				t.Errorf("%s: %v, outcome %v", test.name, got.header, got.record.Outcome)
			}
			if method == "GET" && (!strings.Contains(got.body, test.text) || len(got.body) > 640 || strings.Count(got.body, "\n") > 8) {
				t.Errorf("%s: %q", test.name, got.body)
			}
			if strings.Contains(got.body+got.record.Err.Error(), token) || method == "HEAD" && got.body != "" {
				t.Errorf("%s: %s: %q, logged as %v", test.name, method, got.body, got.record.Err)
			}
		}
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		day, instant := auth.NewToken(), auth.NewToken()
		last := time.Now().Add(24 * time.Hour).UTC()
		a := newAuth(t, true,
			auth.Token{Name: "day", SHA256: auth.Sum(day), Expires: last.Format(time.DateOnly)},
			auth.Token{Name: "instant", SHA256: auth.Sum(instant), Expires: last.Format(time.RFC3339)})
		want := func(token string, status int) {
			t.Helper()
			if got := ask(a, "GET", bearer(token)); got.status != status {
				t.Errorf("%s: %d %s, want %d", time.Now(), got.status, got.body, status)
			}
		}
		want(day, 200)
		want(instant, 200)
		time.Sleep(24 * time.Hour)
		want(day, 200) // the last day counts
		want(instant, 401)
		time.Sleep(24 * time.Hour)
		want(day, 401)
	})
}

// A new file takes the place of the old one as a whole, and a bad one of nothing.
func TestSetTokens(t *testing.T) {
	t.Parallel()
	first, second := auth.NewToken(), auth.NewToken()
	a := newAuth(t, true, auth.Token{Name: "a", SHA256: auth.Sum(first)})
	if err := a.SetTokens([]auth.Token{{Name: "b", SHA256: second}}); err == nil {
		t.Error("a token in place of its hash was taken")
	}
	if got := ask(a, "GET", bearer(first)); got.status != 200 {
		t.Errorf("after a bad file: %d", got.status)
	}
	if err := a.SetTokens([]auth.Token{{Name: "b", SHA256: auth.Sum(second)}, {Name: "b", SHA256: strings.ToUpper(auth.Sum(first + "x"))}}); err != nil {
		t.Error(err)
	}
	for token, status := range map[string]int{first: 401, second: 200, first + "x": 200} {
		if got := ask(a, "GET", bearer(token)); got.status != status {
			t.Errorf("after a good one: %d, want %d", got.status, status)
		}
	}
}

// TestKeep: what is not listed is revoked, and what is stays as it was.
func TestKeep(t *testing.T) {
	t.Parallel()
	gone, stays, last := auth.NewToken(), auth.NewToken(), auth.NewToken()
	a := newAuth(t, false,
		auth.Token{Name: "z", SHA256: auth.Sum(gone)}, auth.Token{Name: "b", SHA256: strings.ToUpper(auth.Sum(stays)), Groups: []string{"dev"}}, auth.Token{Name: "a", SHA256: auth.Sum(last)})
	for range 2 { // the second time there is nothing left to revoke
		revoked := a.Keep(map[string]bool{auth.Sum(stays): true, auth.Sum("a new one"): true})
		if len(revoked) != 0 && !slices.Equal(revoked, []string{"a", "z"}) {
			t.Errorf("revoked %v", revoked)
		}
		for token, status := range map[string]int{gone: 401, stays: 200, last: 401, "a new one": 401} {
			if got := ask(a, "GET", bearer(token)); got.status != status {
				t.Errorf("%d, want %d", got.status, status)
			}
		}
	}
	if got := ask(a, "GET", bearer(stays)); got.record.Caller != "b" || !slices.Equal(got.record.Groups, []string{"dev"}) {
		t.Errorf("kept as %q in %v", got.record.Caller, got.record.Groups)
	}
	if err := a.SetTokens(nil); err != nil {
		t.Error(err)
	}
	if got := ask(a, "GET", bearer(stays)); got.status != 401 {
		t.Errorf("without any token: %d", got.status)
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	sum, token := auth.Sum("a"), auth.NewToken()
	for _, test := range []struct {
		want   string
		tokens []auth.Token
	}{
		{`line 3: tokens[0].name: "" is not a name`, []auth.Token{{Line: 3, SHA256: sum}}},
		{`tokens[0].name: "a b" is not a name`, []auth.Token{{Name: "a b", SHA256: sum}}},
		{"tokens[0].sha256: this is not the SHA-256 of a token", []auth.Token{{Name: "a", SHA256: token}}},
		{"tokens[0].sha256: this is the SHA-256 of nothing", []auth.Token{{Name: "a", SHA256: auth.Sum("")}}},
		{"tokens[1].sha256: this is also the token in line 3", []auth.Token{{Line: 3, Name: "a", SHA256: sum}, {Line: 4, Name: "b", SHA256: strings.ToUpper(sum)}}},
		{`tokens[0].groups[1]: "a\nb" is not a group`, []auth.Token{{Name: "a", SHA256: sum, Groups: []string{"x", "a\nb"}}}},
		{`tokens[0].expires: "tomorrow" is not a day`, []auth.Token{{Name: "a", SHA256: sum, Expires: "tomorrow"}}},
	} {
		_, err := auth.New(auth.Config{Tokens: test.tokens})
		var m *policy.Mistake
		if err == nil || !strings.Contains(err.Error(), test.want) || !errors.As(err, &m) || m.Advice == "" || strings.Contains(err.Error(), token) {
			t.Errorf("%v; want %s", err, test.want)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	token := auth.NewToken()
	a := newAuth(t, false, auth.Token{Name: "a", SHA256: auth.Sum(token)})
	for range 2 {
		ask(a, "GET", bearer(token))
	}
	ask(a, "GET", bearer("x"))
	ask(a, "GET", func(*http.Request) {})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(a.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
	}
	for result, n := range map[string]float64{"known": 2, "wrong": 1, "anonymous": 1, "missing": 0, "expired": 0} {
		if v, ok := got[result]; !ok || v != n {
			t.Errorf("%s: %v, want %v", result, v, n)
		}
	}
}

// Who is in front of what must have a record: else rules for groups would not apply.
func TestNoRecordNoAnswer(t *testing.T) {
	t.Parallel()
	token := auth.NewToken()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	bearer(token)(r)
	newAuth(t, false, auth.Token{Name: "a", SHA256: auth.Sum(token)}).Handler(http.NotFoundHandler()).ServeHTTP(w, r)
	if w.Code != http.StatusInternalServerError {
		t.Errorf("%d", w.Code)
	}
}

func BenchmarkHandler(b *testing.B) {
	token := auth.NewToken()
	a, err := auth.New(auth.Config{Required: true, Tokens: []auth.Token{{Name: "a", SHA256: auth.Sum(token)}}})
	if err != nil {
		b.Fatal(err)
	}
	h := a.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.SetBasicAuth("a", token)
	w := &access.Response{ResponseWriter: httptest.NewRecorder()}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}
