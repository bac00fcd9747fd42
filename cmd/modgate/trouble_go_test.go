package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// outside is the world that the go command reaches without modgate: an HTTP
// proxy that counts who comes and lets nobody through.
type outside struct {
	url   string
	count atomic.Int64
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	o := &outside{url: "http://" + l.Addr().String()}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.count.Add(1)
			c.Close()
		}
	}()
	return o
}

// goModDownload runs the go command with GOPROXY=i,direct and returns what it
// prints. Whoever goes past i meets o.
func goModDownload(t *testing.T, w *world, i *instance, o *outside, m module.Version) (string, error) {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, "go", "mod", "download", "-json", m.String())
	c.Dir = dir
	c.Env = append(goEnv(dir, i.url+",direct", w.log.Key()), "HTTPS_PROXY="+o.url, "HTTP_PROXY="+o.url, "NO_PROXY=", "GIT_TERMINAL_PROMPT=0")
	out, err := c.CombinedOutput()
	if strings.Contains(string(out), filepath.Join(dir, "modcache", "cache", "download", "example.com")) && err != nil {
		for _, kind := range []string{`"Zip":`, `"Dir":`} {
			if bytes.Contains(out, []byte(kind)) {
				t.Errorf("%s: an error, and yet something was downloaded:\n%s", m, out)
			}
		}
	}
	return string(out), err
}

// upstreamFault is one way in which an upstream fails a file.
type upstreamFault struct {
	name  string
	kind  string // of the file: zip, mod, info
	fault func(m *proxytest.Module) proxytest.Fault
	want  string // regular expression for what a developer reads
	slow  bool
}

func always(f proxytest.Fault) func(*proxytest.Module) proxytest.Fault {
	return func(*proxytest.Module) proxytest.Fault { return f }
}

// sent answers with the file of another module that was built with other code.
func sent(t *testing.T, change func(m *proxytest.Module) []byte) func(*proxytest.Module) proxytest.Fault {
	return func(m *proxytest.Module) proxytest.Fault {
		return proxytest.Bytes("application/octet-stream", change(m))
	}
}

func upstreamFaults(t *testing.T) []upstreamFault {
	evil := func(m *proxytest.Module) []byte {
		return proxytest.Build(t, m.Version, map[string][]byte{"go.mod": m.Mod, "a.go": []byte("package a // evil\n")}).Zip
	}
	hugeMod := func(m *proxytest.Module) []byte {
		return append(bytes.Clone(m.Mod), bytes.Repeat([]byte("// padding\n"), 17<<20/11)...)
	}
	return []upstreamFault{
		{"500", "zip", always(proxytest.Status(500, "oops")), `502 Bad Gateway.*500 Internal Server Error`, false},
		{"503", "mod", always(proxytest.Status(503, "oops")), `50[234] .*`, false},
		{"401", "zip", always(proxytest.Status(401, "oops")), `502 Bad Gateway.*credentials`, false},
		{"403", "zip", always(proxytest.Status(403, "oops")), `403 Forbidden`, false},
		{"429", "info", always(proxytest.Status(429, "oops")), `50[234] `, false},
		{"reset before the header", "zip", always(proxytest.Reset(0)), `502 Bad Gateway.*ended the connection early`, false},
		{"reset in the middle", "zip", always(proxytest.Reset(100)), `502 Bad Gateway`, false},
		{"sign-in page for a zip", "zip", always(proxytest.HTML()), `502 Bad Gateway.*sign-in page`, false},
		{"sign-in page for a go.mod", "mod", always(proxytest.HTML()), `502 Bad Gateway.*sign-in page`, false},
		{"sign-in page for an info", "info", always(proxytest.HTML()), `502 Bad Gateway.*sign-in page`, false},
		{"cut off cleanly", "zip", always(proxytest.Short(150)), `502 Bad Gateway.*zip`, false},
		{"empty", "zip", sent(t, func(*proxytest.Module) []byte { return nil }), `502 Bad Gateway`, false},
		{"garbage behind", "zip", always(proxytest.Append([]byte("garbage"))), `502 Bad Gateway.*zip`, false},
		{"two-faced", "zip", sent(t, func(m *proxytest.Module) []byte { return proxytest.TwoFaced(t, m) }), `502 Bad Gateway.*zip`, false},
		{"other code", "zip", sent(t, evil), `403 Forbidden.*checksum mismatch: refused, nothing was stored\s+received: h1:.*expected: h1:`, false},
		{"other go.mod", "mod", sent(t, func(m *proxytest.Module) []byte { return append(bytes.Clone(m.Mod), "// evil\n"...) }), `403 Forbidden.*checksum mismatch`, false},
		{"oversized go.mod", "mod", sent(t, hugeMod), `502 Bad Gateway.*larger than 16777216 bytes`, false},
		{"stall before the header", "zip", always(proxytest.Stall(-1)), `504 Gateway Timeout`, true},
		{"stall in the middle", "zip", always(proxytest.Stall(100)), `504 Gateway Timeout`, true},
	}
}

// TestUpstreamFaults runs the real go command while the upstream fails in every
// known way. It must fail with words that say why, never go past us to the
// repository, and succeed when the upstream does.
func TestUpstreamFaults(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	for _, f := range upstreamFaults(t) {
		t.Run(f.name, func(t *testing.T) {
			if f.slow {
				if testing.Short() {
					t.Skip("takes as long as the patience with an upstream")
				}
			}
			t.Parallel()
			w := newWorld(t)
			m := proxytest.Simple(t, "example.com/m", "v1.0.0")
			w.addTo(t, m)
			i := w.start(t)
			path := proxytest.Path(t, m.Version, f.kind)
			w.upstream.SetFault(path, f.fault(m))
			out, err := goModDownload(t, w, i, o, m.Version)
			if err == nil || !regexp.MustCompile(f.want).MatchString(strings.NewReplacer(`\n`, " ", `\t`, " ").Replace(out)) {
				t.Errorf("%v, want %q:\n%s", err, f.want, out)
			}
			if strings.Contains(out, "oops") || strings.Contains(out, "CANARY") {
				t.Errorf("the upstream speaks to the developer's terminal:\n%s", out)
			}
			if n := o.count.Load(); n != 0 {
				t.Errorf("the go command went elsewhere:\n%s", out)
			}
			if i.storedFile(path) {
				t.Error("stored")
			}
			w.upstream.SetFault(path, nil)
			until(t, "it recovers", func() bool {
				code, _, err := fetch(t.Context(), http.DefaultClient, i.url+path)
				return err == nil && code == http.StatusOK
			})
			if out, err := goModDownload(t, w, i, o, m.Version); err != nil || !strings.Contains(out, m.H1) {
				t.Errorf("after the fault: %v\n%s", err, out)
			}
		})
	}
}

// TestFallThrough is the control of the tests above: after proven absence the
// go command does go elsewhere, and they would see it.
func TestFallThrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i, o := w.start(t), newOutside(t)
	out, err := goModDownload(t, w, i, o, module.Version{Path: "example.com/none", Version: "v1.0.0"})
	if err == nil || o.count.Load() == 0 {
		t.Errorf("%v, %d connections past us:\n%s", err, o.count.Load(), out)
	}
}

// TestTagPushedAMomentLater asks for a version that is not there yet.
func TestTagPushedAMomentLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.start(t, "--ttl-negative=500ms", "--ttl-list=500ms")
	m := proxytest.Simple(t, "example.com/m", "v1.1.0")
	w.addTo(t, proxytest.Simple(t, "example.com/m", "v1.0.0"))
	zip := proxytest.Path(t, m.Version, "zip")
	begin := time.Now()
	for range 20 {
		if code, text := get(t, i.url+zip); code != http.StatusNotFound {
			t.Fatalf("%d %s", code, text)
		}
	}
	if n, took := w.upstream.Count(zip), time.Since(begin); n > 1+int(took/(500*time.Millisecond)) {
		t.Errorf("asked upstream %d times in %v", n, took)
	}
	i.want(t, "/example.com/m/@v/list", []byte("v1.0.0\n"))
	w.addTo(t, m)
	pushed := time.Now()
	until(t, "the new version is found", func() bool { code, _ := get(t, i.url+zip); return code == http.StatusOK })
	until(t, "the new version is listed", func() bool { _, list := get(t, i.url+"/example.com/m/@v/list"); return list == "v1.0.0\nv1.1.0\n" })
	if took := time.Since(pushed); took > 5*time.Second {
		t.Errorf("visible after %v", took)
	}
	if out, err := goModDownload(t, w, i, newOutside(t), m.Version); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestLyingSumDB lets the checksum database, or the upstream that mirrors it,
// lie in every way while a new module is asked for. No file of it is completed.
func TestLyingSumDB(t *testing.T) {
	t.Parallel()
	other := sumdbtest.Hash("other")
	for _, c := range []struct {
		name  string
		alarm bool // must be raised
		lie   func(w *world, m *proxytest.Module)
	}{
		{"forged record", true, func(w *world, m *proxytest.Module) { w.log.Lie(sumdbtest.Replace("/lookup/", m.H1, other)) }},
		{"flipped bit in a record", true, func(w *world, _ *proxytest.Module) { w.log.Lie(sumdbtest.FlipBit("/lookup/", 200)) }},
		{"flipped bits in tiles", true, func(w *world, _ *proxytest.Module) { w.log.Lie(sumdbtest.FlipBit("/tile/", 77)) }},
		{"another record", false, func(w *world, _ *proxytest.Module) {
			w.log.Lie(func(a *sumdbtest.Answer) { a.Path = strings.Replace(a.Path, "example.com/m@", "example.com/greet@", 1) },
				sumdbtest.As("/lookup/", w.log))
		}},
		{"fork", true, func(w *world, m *proxytest.Module) {
			fork := w.log.ForkAt(100)
			fork.Fill(400)
			fork.Add(m.Version, other, other)
			w.log.Lie(sumdbtest.As("/", fork))
		}},
		{"another key", false, func(w *world, m *proxytest.Module) {
			log, err := sumdbtest.New(w.log.Name())
			if err == nil {
				log.Fill(500)
				log.Add(m.Version, m.H1, m.ModH1)
				w.log.Lie(sumdbtest.As("/", log))
			}
		}},
		{"empty answer", false, func(w *world, _ *proxytest.Module) { w.log.Lie(sumdbtest.Say("/lookup/", 200, "")) }},
		{"sign-in page", false, func(w *world, _ *proxytest.Module) { w.log.Lie(sumdbtest.Say("/", 200, "<html>CANARY")) }},
		{"down", false, func(w *world, _ *proxytest.Module) { w.log.Lie(sumdbtest.Say("/", 500, "CANARY")) }},
		{"forbidden", false, func(w *world, _ *proxytest.Module) { w.log.Lie(sumdbtest.Say("/", 403, "CANARY")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			testLyingSumDB(t, c.alarm, c.lie)
		})
	}
}

// TestSumDBRolledBack lets the checksum database go back to before a module was
// recorded. It says no wrong word then, so there is no alarm, but the module is
// not proven.
func TestSumDBRolledBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	known, m := proxytest.Simple(t, "example.com/known", "v1.0.0"), proxytest.Simple(t, "example.com/m", "v1.0.0")
	w.addTo(t, known)
	size := w.log.Size()
	dir := t.TempDir()
	i, stop := w.startIn(t, dir)
	w.log.Fill(100)
	w.addTo(t, m)
	i.want(t, proxytest.Path(t, m.Version, "mod"), m.Mod)
	head := i.metric(t, "modgate_sumdb_head_size")
	if int64(head) <= size {
		t.Errorf("head of %v records, want more than %d", head, size)
	}
	w.log.Rewind(size)
	for range 2 {
		i.want(t, proxytest.Path(t, m.Version, "mod"), m.Mod)
		i.want(t, proxytest.Path(t, m.Version, "zip"), m.Zip) // its record is here
		i.want(t, proxytest.Path(t, known.Version, "zip"), known.Zip)
		later := proxytest.Simple(t, "example.com/later", "v1.0.0")
		w.upstream.Add(t, later)
		i.wantNoBody(t, proxytest.Path(t, later.Version, "zip"))
		i.wantNoBody(t, proxytest.Path(t, later.Version, "mod"))
		stop()
		i, stop = w.startIn(t, dir)
		if again := i.metric(t, "modgate_sumdb_head_size"); again != 0 && again < head {
			t.Errorf("the head went back from %v to %v records", head, again)
		}
	}
}

func testLyingSumDB(t *testing.T, alarm bool, lie func(*world, *proxytest.Module)) {
	w, o := newWorld(t), newOutside(t)
	known := proxytest.Simple(t, "example.com/known", "v1.0.0")
	w.addTo(t, known)
	i := w.start(t)
	files := expected(t, known)
	for path, data := range files { // so that there is a pinned tree head
		i.want(t, path, data)
	}
	m := proxytest.Big(t, "example.com/m", "v1.0.0", 1<<20+5000)
	w.log.Fill(100)
	w.addTo(t, m)
	lie(w, m)
	for _, kind := range []string{"zip", "mod"} {
		code, text := i.wantNoBody(t, proxytest.Path(t, m.Version, kind))
		if code != 0 && code != 403 && code < 500 {
			t.Errorf("%s: %d %s: a lie is not absence", kind, code, text)
		}
		if strings.Contains(text, "CANARY") {
			t.Errorf("%s: %d %s", kind, code, text)
		}
		if i.storedFile(proxytest.Path(t, m.Version, kind)) {
			t.Errorf("%s: stored", kind)
		}
	}
	out, err := goModDownload(t, w, i, o, m.Version)
	if err == nil || o.count.Load() != 0 {
		t.Errorf("%v, %d connections past us:\n%s", err, o.count.Load(), out)
	}
	alarms := i.metric(t, "modgate_sumdb_alarms_total")
	if alarm && alarms == 0 {
		t.Errorf("no alarm:\n%s", i.log())
	}
	for path, data := range files { // what was proven before is served
		i.want(t, path, data)
	}
	t.Logf("%v alarms; the go command says:\n%s", alarms, firstError(out))
}

// firstError is what a developer reads first.
func firstError(out string) string {
	m := regexp.MustCompile(`"Error": "(.*)"`).FindStringSubmatch(out)
	if m == nil {
		return out
	}
	return fmt.Sprintf("%.500s", strings.ReplaceAll(m[1], `\n`, "\n"))
}
