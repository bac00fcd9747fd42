package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream"
	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

var (
	_ proxy.Source   = (*upstream.Chain)(nil)
	_ proxy.Verifier = (*sumdb.DB)(nil)
)

// world is a proxy under test with all that it talks to, over HTTP on loopback:
// upstream servers, a checksum database that knows the honest modules, and a
// store on disk.
type world struct {
	testing.TB
	up, up2 *proxytest.Server // up2 is asked after up, whatever happened there
	log     *sumdbtest.Log
	dir     string // of the store
	store   *failing
	server  *proxy.Server
	url     string // with the base path, without a slash at the end
	client  *http.Client
	records chan access.Record
}

// options of a world; the zero value is the usual one.
type options struct {
	dir      string // of the store; a new one by default
	store    cache.Store
	noProofs bool
	private  string
	patience time.Duration // with a silent upstream; 10 s by default
	config   func(*proxy.Config)
	adopt    map[string][]byte // files of another program, by stored name
}

func newWorld(t testing.TB, o options, mods ...*proxytest.Module) *world {
	t.Helper()
	w := &world{TB: t, up: proxytest.New(t, mods...), up2: proxytest.New(t), dir: o.dir, records: make(chan access.Record, 1000)}
	rules, err := policy.New(policy.Config{Private: o.private})
	w.must(err)
	w.log, err = sumdbtest.New("sum.example")
	w.must(err)
	w.record(mods...)
	if o.patience == 0 {
		o.patience = 10 * time.Second
	}
	db, err := sumdb.New(sumdb.Config{Name: w.log.Key(), Remote: w.log, Storage: sumdbtest.NewStorage(), Private: rules.IsPrivate})
	w.must(err)
	chain, err := upstream.New(upstream.Config{
		List: w.up.URL + "|" + w.up2.URL, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
		BreakAfter: 1000, Retries: -1, HeaderTimeout: o.patience, NoProgress: o.patience,
	})
	w.must(err)
	cfg := proxy.Config{Store: o.store, Public: chain, Verifier: db, Policy: rules, ListTTL: time.Hour, NegativeTTL: time.Hour}
	if o.noProofs {
		cfg.Verifier = nil
	}
	if o.store == nil {
		w.openStore(o.adopt)
		cfg.Store = w.store
	}
	if o.config != nil {
		o.config(&cfg)
	}
	w.server, err = proxy.New(cfg)
	w.must(err)
	w.start(chain, cfg.BasePath)
	return w
}

// openStore opens the directory; files of another program are put there first.
func (w *world) openStore(adopt map[string][]byte) {
	w.Helper()
	if w.dir == "" {
		w.dir = w.TempDir()
	}
	d, err := disk.New(disk.Config{Dir: w.dir})
	w.must(err)
	w.Cleanup(func() { _ = d.Close() })
	for name, data := range adopt {
		writeFile(w, w.path(name), data)
	}
	w.store = &failing{Checked: cache.NewChecked(d, cache.CheckedConfig{})}
}

func (w *world) start(chain *upstream.Chain, base string) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = w.server.Run(ctx) })
	hs := httptest.NewServer(access.Handler(w.server, access.Reports{Observe: func(r *access.Record, _ time.Duration) { w.records <- *r }}))
	w.url = strings.TrimSuffix(hs.URL+base, "/")
	// On a connection that was used before, the client would ask again where an
	// answer is cut before its first byte has left.
	w.client = &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	w.Cleanup(func() {
		w.client.CloseIdleConnections()
		cancel()
		running.Wait()
		hs.Close()
		_ = chain.Close()
	})
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// record makes the checksum database know the honest modules.
func (w *world) record(mods ...*proxytest.Module) {
	for _, m := range mods {
		w.log.Add(m.Version, m.H1, m.ModH1)
	}
}

// answer is what a client got. err is why it is not whole.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	err     error
	outcome access.Outcome
	cause   error // what the server has noted
}

func (a answer) text() string { return string(a.body) }

// ask sends a request for a path below the base path and waits for its record.
func (w *world) ask(method, path string, header ...string) answer {
	w.Helper()
	a := w.send(context.Background(), method, path, header...)
	r := <-w.records
	a.outcome, a.cause = r.Outcome, r.Err
	return a
}

func (w *world) get(path string, header ...string) answer {
	w.Helper()
	return w.ask(http.MethodGet, path, header...)
}

func (w *world) send(ctx context.Context, method, path string, header ...string) answer {
	w.Helper()
	req, err := http.NewRequestWithContext(ctx, method, w.url+path, nil)
	w.must(err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: body, err: err}
}

// want fails unless a is a whole 200 with just these bytes.
func (w *world) want(a answer, body []byte, outcome access.Outcome) {
	w.Helper()
	if a.err != nil || a.status != 200 || !bytes.Equal(a.body, body) || a.outcome != outcome {
		w.Errorf("got %d, %d bytes, %v, outcome %v (%v); want 200, %d bytes, %v\n%.300q", a.status, len(a.body), a.err, a.outcome, a.cause, len(body), outcome, a.body)
	}
}

// wantNo fails unless a is a failure with this status and a text that has all
// of these parts, in a form that the go command prints.
func (w *world) wantNo(a answer, status int, outcome access.Outcome, parts ...string) {
	w.Helper()
	if a.err != nil || a.status != status || a.outcome != outcome || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		w.Errorf("got %d, %v, %s, outcome %v (%v); want %d, %v\n%.300q", a.status, a.err, a.header.Get("Content-Type"), a.outcome, a.cause, status, outcome, a.body)
	}
	lines := strings.Split(strings.TrimSuffix(a.text(), "\n"), "\n")
	if len(a.body) > 648 || len(lines) > 8 {
		w.Errorf("%d bytes, %d lines", len(a.body), len(lines))
	}
	for _, part := range parts {
		if !strings.Contains(a.text(), part) {
			w.Errorf("%q does not say %q", a.text(), part)
		}
	}
}

// wantCut fails unless a was begun and broken off before its end.
func (w *world) wantCut(a answer, whole []byte) {
	w.Helper()
	if a.err == nil || bytes.HasSuffix(a.body, whole[len(whole)-100:]) {
		w.Errorf("a wrong file was completed: %d, %v, %d bytes", a.status, a.err, len(a.body))
	}
}

// wantNothing fails if any file of m is stored, or anything at all that is not
// well known.
func (w *world) wantNothing(m *proxytest.Module, kinds ...string) {
	w.Helper()
	for _, kind := range kinds {
		if o, err := w.store.Checked.Get(context.Background(), w.name(m, kind)); err == nil {
			w.Errorf("%s was stored: %+v", o.Name, o.Attrs)
			_ = o.Close()
		} else if !isAbsent(err) {
			w.Error(err)
		}
	}
	w.wantNoSpools()
}

// wantStored fails unless the store has just these bytes, with their hash.
func (w *world) wantStored(m *proxytest.Module, kind string, data []byte) {
	w.Helper()
	o, err := w.store.Checked.Get(context.Background(), w.name(m, kind))
	if err != nil {
		w.Errorf("%v.%s is not stored: %v", m.Version, kind, err)
		return
	}
	attrs := o.Attrs
	got, err := o.ReadAll(1 << 30)
	if err != nil || !bytes.Equal(got, data) || attrs.SHA256 == "" {
		w.Errorf("%v.%s: stored %d bytes, %v, %+v", m.Version, kind, len(got), err, attrs)
	}
}

func (w *world) name(m *proxytest.Module, kind string) string {
	return strings.TrimPrefix(proxytest.Path(w, m.Version, kind), "/")
}

// infoOf is a .info for tests of queries.
func infoOf(v string) []byte {
	b, _ := json.Marshal(map[string]string{"Version": v, "Time": "2024-01-01T00:00:00Z"})
	return b
}

func file(m *proxytest.Module, kind string) []byte {
	switch kind {
	case "info":
		return m.Info
	case "mod":
		return m.Mod
	}
	return m.Zip
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func readAll(r io.Reader) answer {
	body, err := io.ReadAll(r)
	return answer{body: body, err: err}
}

// halfway sends a bit more than half of data, and the rest when gate is closed.
func halfway(x proxytest.Exchange, data []byte, gate <-chan struct{}) {
	x.W.Header().Set("Content-Length", strconv.Itoa(len(data)))
	n := len(data)/2 + 1
	_, _ = x.W.Write(data[:n])
	_ = http.NewResponseController(x.W).Flush()
	select {
	case <-gate:
	case <-x.R.Context().Done():
	case <-x.Done:
	}
	_, _ = x.W.Write(data[n:])
}

// wantNotStored is wantNothing for a zip that is still on its way.
func (w *world) wantNotStored(m *proxytest.Module) {
	w.Helper()
	if o, err := w.store.Checked.Get(context.Background(), w.name(m, "zip")); err == nil {
		_ = o.Close()
		w.Error("it is stored already")
	}
}

func stallAll(release <-chan struct{}) sumdbtest.Lie { return sumdbtest.Stall("", release) }
