package proxy_test

import (
	"bytes"
	"context"
	"io/fs"
	"net/http"
	"testing"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// located is a store whose objects are elsewhere, too.
type located struct {
	*inFleet
	where string
}

func (l *located) Locate(ctx context.Context, name string) (string, cache.Attrs, error) {
	o, err := l.Get(ctx, name)
	if err != nil {
		return "", cache.Attrs{}, err
	}
	return l.where + name + "?signed", o.Attrs, o.Close()
}

var _ cache.Locator = (*located)(nil)

// Who goes elsewhere for a zip may have it, and takes nothing along.
func TestRedirect(t *testing.T) {
	t.Parallel()
	big, small := proxytest.Big(t, "example.com/m", "v1.0.0", 1<<20), proxytest.Simple(t, "example.com/m", "v1.1.0")
	denied, private := proxytest.Big(t, "example.com/denied", "v1.0.0", 1<<20), proxytest.Big(t, "git.corp.example/m", "v1.0.0", 1<<20)
	rules, err := policy.New(policy.Config{Private: "git.corp.example", Rules: policy.Rules{Rules: []policy.Rule{{Name: "no", Modules: []string{"example.com/denied"}, Action: deny, Reason: "no"}}}})
	if err != nil {
		t.Fatal(err)
	}
	store := &located{newInFleet(t), "https://s3.example/"}
	w := newWorld(t, options{store: store, config: func(c *proxy.Config) { c.Redirect, c.Private, c.Policy = true, c.Public, rules }}, big, small, denied, private)
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	zip := func(m *proxytest.Module) string { return "/" + w.name(m, "zip") }
	w.want(w.get(zip(big)), big.Zip, access.Miss) // nothing is there yet
	w.want(w.get(zip(small)), small.Zip, access.Miss)
	w.want(w.get(zip(private)), private.Zip, access.Miss)

	a := w.get(zip(big))
	if a.status != 302 || a.header.Get("Location") != "https://s3.example/"+w.name(big, "zip")+"?signed" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", a.status, a.header)
	}
	w.want(w.get(zip(small)), small.Zip, access.Hit)
	w.want(w.get(zip(private)), private.Zip, access.Hit)
	if a := w.ask(http.MethodHead, zip(big)); a.status != 200 {
		t.Errorf("HEAD: %d", a.status)
	}
	if a := w.get("/" + w.name(big, "mod")); a.status != 200 {
		t.Errorf("its go.mod: %d", a.status)
	}
	if err := store.Put(t.Context(), w.name(denied, "zip"), bytes.NewReader(denied.Zip), cache.PutOptions{Attrs: cache.Attrs{H1: denied.H1}}); err != nil {
		t.Fatal(err)
	}
	w.wantNo(w.get(zip(denied)), 403, access.Denied)

	for _, c := range []struct {
		where, host, header, value string
		status                     int
	}{
		{"https://s3.corp.example/", "corp.example", "Authorization", "Bearer x", 200},
		{"https://corp.example/", "corp.example:8080", "Cookie", "x=y", 200},
		{"https://s3.corp.example/", "corp.example", "User-Agent", "go", 302},
		{"https://s3.corp.example/", "go.corp.example", "Authorization", "Bearer x", 302},
		{"https://notcorp.example/", "corp.example", "Authorization", "Bearer x", 302},
		{"http://s3.corp.example/", "go.corp.example", "X-Forwarded-Proto", "https", 200},
		{"http://s3.corp.example/", "go.corp.example", "X-Forwarded-Proto", "http", 302},
	} {
		store.where = c.where
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+zip(big), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		req.Header.Set(c.header, c.value)
		resp, err := w.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%+v: %d", c, resp.StatusCode)
		}
	}
	// What the store cannot find is answered here.
	if err := store.Delete(t.Context(), w.name(big, "zip")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Locate(t.Context(), w.name(big, "zip")); !isAbsent(err) {
		t.Fatal(err, fs.ErrNotExist)
	}
	if a := w.get(zip(big)); a.status != 200 {
		t.Errorf("%d", a.status)
	}
}
