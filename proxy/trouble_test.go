package proxy_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// errBroken is what a broken disk says.
var errBroken = &brokenError{}

type brokenError struct{}

func (*brokenError) Error() string { return "input/output error of a test" }
func (*brokenError) Unwrap() error { return syscall.EIO }

const (
	small = 300_000
	large = 1400 << 10
)

// everySize runs f with a module whose zip is proven before its first byte is
// sent, and with one that is streamed.
func everySize(t *testing.T, f func(t *testing.T, m *proxytest.Module, path string)) {
	t.Helper()
	for name, size := range map[string]int{"small": small, "large": large} {
		m := proxytest.Big(t, "example.com/m", "v1.0.0", size)
		t.Run(name, func(t *testing.T) { t.Parallel(); f(t, m, proxytest.Path(t, m.Version, "zip")) })
	}
}

// other is m's zip with other content, of the same length.
func other(t *testing.T, m *proxytest.Module) []byte {
	t.Helper()
	o := proxytest.Big(t, "example.com/m", "v1.0.1", len(m.Zip)-2000)
	zip := bytes.ReplaceAll(o.Zip, []byte("example.com/m@v1.0.1/"), []byte("example.com/m@v1.0.0/"))
	return zip
}

// TestWrongHash: a well-formed zip with other content never reaches its end.
func TestWrongHash(t *testing.T) {
	t.Parallel()
	everySize(t, func(t *testing.T, m *proxytest.Module, path string) {
		w := newWorld(t, options{}, m)
		bad := other(t, m)
		w.up.SetFile(path, bad)
		w.up2.SetFile(path, bad)
		a := w.get(path)
		if a.err != nil && len(bad) > 1<<20 { // it was begun before all of it was here
			w.wantCut(a, bad)
			if a.outcome != access.Denied || len(a.body) > len(bad)-256<<10 {
				t.Errorf("%v, %d bytes", a.outcome, len(a.body))
			}
		} else {
			w.wantNo(a, 403, access.Denied, "checksum mismatch", "expected: "+m.H1, "received: h1:", "nothing was stored")
		}
		w.wantNothing(m, "zip")
		// Whoever asks for a part or the header alone is told the same.
		w.wantNo(w.get(path, "Range", "bytes=0-99"), 403, access.Denied, "checksum mismatch")
		if a := w.ask("HEAD", path); a.status != 403 {
			t.Errorf("HEAD: %d", a.status)
		}
		w.wantNothing(m, "zip")
		// And it is no state: as soon as the right bytes come all is well.
		w.up.SetFile(path, m.Zip)
		w.up2.SetFile(path, m.Zip)
		w.want(w.get(path), m.Zip, access.Miss)
		w.wantStored(m, "zip", m.Zip)
	})
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	w := newWorld(t, options{}, m)
	w.up.SetFile("/example.com/m/@v/v1.0.0.mod", []byte("module example.com/evil\n"))
	w.wantNo(w.get("/example.com/m/@v/v1.0.0.mod"), 403, access.Denied, "checksum mismatch", m.ModH1)
	w.wantNothing(m, "mod")
}

// TestSecondUpstream has the right bytes after the first had wrong ones. A
// client that has read some of the wrong ones is cut off; the next gets the
// right ones.
func TestSecondUpstream(t *testing.T) {
	t.Parallel()
	everySize(t, func(t *testing.T, m *proxytest.Module, path string) {
		for name, data := range map[string][]byte{"other content": other(t, m), "two faces": proxytest.TwoFaced(t, m), "cut off": m.Zip[:len(m.Zip)-1000], "garbage behind": append(bytes.Clone(m.Zip), "garbage"...), "garbage": make([]byte, 1000)} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, options{}, m)
				w.up.SetFile(path, data)
				w.up2.Add(t, m)
				if len(data) > 1<<20 {
					if a := w.get(path); a.err == nil && a.status == 200 {
						t.Error("a wrong file was completed")
					}
				}
				w.want(w.get(path), m.Zip, access.Miss)
				w.wantStored(m, "zip", m.Zip)
			})
		}
	})
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	w := newWorld(t, options{}, m)
	w.up.SetFile("/example.com/m/@v/v1.0.0.mod", []byte("module example.com/evil\n"))
	w.up2.Add(t, m)
	w.want(w.get("/example.com/m/@v/v1.0.0.mod"), m.Mod, access.Miss)
}

// TestBadUpstream: whatever comes instead of the zip, no client takes it for
// the zip, nothing is stored, and the text says that it is trouble.
func TestBadUpstream(t *testing.T) {
	t.Parallel()
	everySize(t, func(t *testing.T, m *proxytest.Module, path string) {
		n := int64(len(m.Zip))
		seconds := []proxytest.Fault{proxytest.Status(404, "x"), proxytest.Status(503, "x")}
		for name, c := range map[string]struct {
			fault  proxytest.Fault
			status int // of a small file; a large one may be cut off instead
		}{
			"a page":                    {proxytest.HTML(), 502},
			"nothing":                   {proxytest.Bytes("application/zip", nil), 502},
			"cut off, length known":     {proxytest.Reset(n / 2), 502},
			"cut off, length unknown":   {proxytest.Short(n / 2), 502},
			"one byte is missing":       {proxytest.Short(n - 1), 502},
			"garbage behind, of length": {proxytest.Bytes("application/zip", append(bytes.Clone(m.Zip), 'x')), 502},
			"garbage behind, unknown":   {proxytest.Append([]byte("garbage")), 502},
			"two faces":                 {proxytest.Bytes("application/zip", proxytest.TwoFaced(t, m)), 502},
			"a stall in the middle":     {proxytest.Stall(n / 2), 504},
			"no answer":                 {proxytest.Stall(-1), 504},
			"500":                       {proxytest.Status(500, "x"), 502},
			"503":                       {proxytest.Status(503, "x"), 502},
			"401":                       {proxytest.Status(401, "x"), 502},
			"reset":                     {proxytest.Reset(0), 502},
			"refused":                   {proxytest.Status(403, "x"), 403},
		} {
			second := seconds[len(name)%len(seconds)]
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, options{patience: 500 * time.Millisecond}, m)
				fault := func(x proxytest.Exchange) { x.R.Header.Del("Range"); c.fault(x) }
				w.up.SetFault(path, fault)
				w.up2.SetFault(path, fault)
				a := w.get(path)
				switch {
				case a.err != nil && n > 1<<20:
					w.wantCut(a, m.Zip)
					if a.outcome != access.Trouble {
						t.Errorf("noted as %v", a.outcome)
					}
				case c.status == 403:
					w.wantNo(a, 403, access.Denied)
				default:
					w.wantNo(a, c.status, access.Trouble, "example.com/m@v1.0.0: ")
				}
				w.wantNothing(m, "zip")
				// The first is mended, and the second is gone or in trouble.
				w.up.SetFault(path, nil)
				w.up2.SetFault(path, second)
				w.want(w.get(path), m.Zip, access.Miss)
			})
		}
	})
}

// TestUnknownLength: a large zip whose length nobody told is proven first and
// then sent with its length.
func TestUnknownLength(t *testing.T) {
	t.Parallel()
	everySize(t, func(t *testing.T, m *proxytest.Module, path string) {
		w := newWorld(t, options{}, m)
		w.up.SetFault(path, proxytest.Append(nil))
		a := w.get(path)
		w.want(a, m.Zip, access.Miss)
		if a.header.Get("Content-Length") == "" {
			t.Error("no Content-Length")
		}
		w.wantStored(m, "zip", m.Zip)
	})
}

func TestOversizedMod(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	for name, fault := range map[string]proxytest.Fault{
		"of length": proxytest.Bytes("text/plain", append([]byte("module example.com/m\n"), make([]byte, 16<<20)...)),
		"endless":   proxytest.Endless("text/plain", "module example.com/m\n", "// more\n"),
	} {
		w := newWorld(t, options{}, m)
		w.up.SetFault("/example.com/m/@v/v1.0.0.mod", fault)
		w.up2.SetFault("/example.com/m/@v/v1.0.0.mod", fault)
		if a := w.get("/example.com/m/@v/v1.0.0.mod"); a.status < 500 || a.err != nil {
			t.Errorf("%s: %d, %v", name, a.status, a.err)
		}
		w.wantNothing(m, "mod")
	}
}

// TestDatabaseTrouble: what cannot be proven is not completed and not stored;
// what was proven before is served.
func TestDatabaseTrouble(t *testing.T) {
	t.Parallel()
	everySize(t, func(t *testing.T, m *proxytest.Module, path string) {
		before := proxytest.Simple(t, "example.com/before", "v1.0.0")
		for name, lie := range map[string]sumdbtest.Lie{
			"down":    sumdbtest.Say("", 500, "x"),
			"refuses": sumdbtest.Say("", 403, "x"),
			"rubbish": sumdbtest.Say("", 200, "<html>"),
			"forged":  sumdbtest.Replace("/lookup/", m.H1, sumdbtest.Hash("evil")),
			"flipped": sumdbtest.FlipBit("/lookup/", 777),
			"another": func(a *sumdbtest.Answer) {
				a.Body = bytes.ReplaceAll(a.Body, []byte("example.com/m "), []byte("example.com/n "))
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				text := "checksum database cannot confirm"
				if name == "forged" || name == "flipped" || name == "another" {
					text = "SECURITY: the answer of "
				}
				w := newWorld(t, options{}, m, before)
				w.want(w.get(proxytest.Path(t, before.Version, "zip")), before.Zip, access.Miss)
				w.log.Lie(lie)
				if a := w.get(path); a.err != nil && len(m.Zip) > 1<<20 {
					w.wantCut(a, m.Zip)
				} else {
					w.wantNo(a, 503, access.Trouble, text)
				}
				w.wantNo(w.get(path, "Range", "bytes=0-1"), 503, access.Trouble, text)
				w.wantNo(w.get(proxytest.Path(t, m.Version, "mod")), 503, access.Trouble, text)
				w.wantNothing(m, "zip", "mod")
				w.want(w.get(proxytest.Path(t, before.Version, "zip")), before.Zip, access.Hit)
				w.want(w.get(proxytest.Path(t, m.Version, "info")), m.Info, access.Miss)
				w.log.Lie()
				w.want(w.get(path), m.Zip, access.Miss)
			})
		}
	})
}

// TestUnlisted: the upstream has a version that the checksum database has not.
func TestUnlisted(t *testing.T) {
	t.Parallel()
	everySize(t, func(t *testing.T, m *proxytest.Module, path string) {
		w := newWorld(t, options{})
		w.up.Add(t, m)
		if a := w.get(path); a.err != nil && len(m.Zip) > 1<<20 {
			w.wantCut(a, m.Zip)
		} else {
			w.wantNo(a, 404, access.Absent, "checksum database does not know", "private")
		}
		w.wantNo(w.get(proxytest.Path(t, m.Version, "mod")), 404, access.Absent, "checksum database does not know", "private")
		w.wantNothing(m, "zip", "mod")
	})
}

// TestBrokenStore: requests are answered without it.
func TestBrokenStore(t *testing.T) {
	t.Parallel()
	everySize(t, func(t *testing.T, m *proxytest.Module, path string) {
		for name, broken := range map[string]func(*failing){
			"it cannot be read":        func(s *failing) { set(&s.get, errBroken) },
			"it is full":               func(s *failing) { set(&s.put, cache.ErrFull) },
			"it can do nothing":        func(s *failing) { set(&s.get, errBroken); set(&s.put, errBroken) },
			"its name has other bytes": func(s *failing) { set(&s.put, cache.ErrConflict) },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, options{}, m)
				broken(w.store)
				for range 2 {
					w.want(w.get(path), m.Zip, access.Miss)
					if a := w.get(path, "Range", "bytes=0-9"); a.status != 206 || a.text() != string(m.Zip[:10]) {
						t.Errorf("a part: %d, %d bytes, %v", a.status, len(a.body), a.err)
					}
				}
				for _, kind := range []string{"info", "mod"} {
					w.want(w.get(proxytest.Path(t, m.Version, kind)), file(m, kind), access.Miss)
				}
				w.wantNoSpools()
			})
		}
	})
}

// TestHeals: a stored file that was changed, cut off or lost is put aside and
// fetched anew, in the same request.
func TestHeals(t *testing.T) {
	t.Parallel()
	everySize(t, func(t *testing.T, m *proxytest.Module, path string) {
		for name, damage := range map[string]func([]byte) []byte{
			"a bit":     func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
			"cut off":   func(b []byte) []byte { return b[:len(b)/2] },
			"emptied":   func(b []byte) []byte { return nil },
			"garbage":   func(b []byte) []byte { return append(b, "garbage"...) },
			"something": func(b []byte) []byte { return []byte("something") },
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, options{}, m)
				for _, kind := range []string{"zip", "mod", "info"} {
					p := proxytest.Path(t, m.Version, kind)
					w.want(w.get(p), file(m, kind), access.Miss)
					w.want(w.get(p), file(m, kind), access.Hit)
					writeFile(t, w.path(w.name(m, kind)), damage(bytes.Clone(file(m, kind))))
					w.want(w.get(p), file(m, kind), access.Miss)
					w.want(w.get(p), file(m, kind), access.Hit)
					w.wantStored(m, kind, file(m, kind))
				}
			})
		}
	})
}

// TestAdopted: files that another program has put there are proven when they
// are first asked for; the right ones cost no request upstream, the wrong ones
// are put aside and fetched.
func TestAdopted(t *testing.T) {
	t.Parallel()
	everySize(t, func(t *testing.T, m *proxytest.Module, path string) {
		name := path[1:]
		t.Run("right", func(t *testing.T) {
			t.Parallel()
			adopt := map[string][]byte{}
			w := newWorldOf(t, m, adopt)
			for _, kind := range []string{"info", "mod", "zip"} {
				w.want(w.get(proxytest.Path(t, m.Version, kind)), file(m, kind), access.Miss)
				w.want(w.get(proxytest.Path(t, m.Version, kind)), file(m, kind), access.Hit)
				w.wantStored(m, kind, file(m, kind))
			}
			if got := w.up.Requests(); len(got) != 0 {
				t.Errorf("the upstream was asked: %v", got)
			}
		})
		for why, data := range map[string][]byte{"other content": other(t, m), "cut off": m.Zip[:len(m.Zip)/2], "empty": nil, "two faces": proxytest.TwoFaced(t, m), "garbage": []byte("garbage")} {
			t.Run(why, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, options{adopt: map[string][]byte{name: data}}, m)
				w.want(w.get(path), m.Zip, access.Miss)
				w.want(w.get(path), m.Zip, access.Hit)
				w.wantStored(m, "zip", m.Zip)
			})
		}
		t.Run("unreadable", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{adopt: map[string][]byte{name: m.Zip}}, m)
			set(&w.store.body, errBroken)
			w.want(w.get(path), m.Zip, access.Miss)
		})
		t.Run("unreadable, and no upstream", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{adopt: map[string][]byte{name: m.Zip}})
			w.record(m)
			set(&w.store.body, errBroken)
			w.up.SetFault("*", proxytest.Status(500, "x"))
			w.wantNo(w.get(path), 502, access.Trouble)
		})
		t.Run("cannot be proven now", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{adopt: map[string][]byte{name: m.Zip}}, m)
			w.log.Lie(sumdbtest.Say("", 500, "x"))
			w.wantNo(w.get(path), 503, access.Trouble, "cannot confirm")
			w.log.Lie()
			w.want(w.get(path), m.Zip, access.Miss)
			if n := w.up.Count(path); n != 0 {
				t.Errorf("thrown away for the trouble of another: asked for %d times", n)
			}
		})
		t.Run("only from the cache", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{adopt: map[string][]byte{name: other(t, m)}}, m)
			w.wantNo(w.get(path, "Disable-Module-Fetch", "true"), 404, access.Absent)
		})
	})
}

func newWorldOf(t *testing.T, m *proxytest.Module, adopt map[string][]byte) *world {
	t.Helper()
	for _, kind := range []string{"info", "mod", "zip"} {
		adopt[proxytest.Path(t, m.Version, kind)[1:]] = file(m, kind)
	}
	return newWorld(t, options{adopt: adopt}, m)
}

// TestNoProofs: without a checksum database a zip must still be well-formed and
// of the module that was asked for.
func TestNoProofs(t *testing.T) {
	t.Parallel()
	everySize(t, func(t *testing.T, m *proxytest.Module, path string) {
		stranger := proxytest.Big(t, "example.com/x", "v1.0.0", len(m.Zip))
		for why, data := range map[string][]byte{"another module": stranger.Zip, "two faces": proxytest.TwoFaced(t, m), "cut off": m.Zip[:len(m.Zip)-1], "another module, from the back": fromTheBack(t, stranger)} {
			w := newWorld(t, options{noProofs: true})
			w.up.SetFile(path, data)
			if a := w.get(path); a.err == nil {
				w.wantNo(a, 502, access.Trouble, "broken or not of this module")
			} else if len(a.body) >= len(data) {
				t.Errorf("%s was completed", why)
			}
			w.wantNothing(m, "zip")
		}
		w := newWorld(t, options{noProofs: true}, m)
		back := proxytest.Big(t, "example.com/m", "v1.0.1", 1000)
		back.Zip = fromTheBack(t, back)
		w.up.Add(t, back)
		w.want(w.get(proxytest.Path(t, back.Version, "zip")), back.Zip, access.Miss)
		w.want(w.get(path), m.Zip, access.Miss)
		w.want(w.get(path), m.Zip, access.Hit)
	})
}

// fromTheBack is m's zip in a form whose hash only the directory at its end
// gives: entries that are neither compressed nor tell their size before them.
func fromTheBack(t *testing.T, m *proxytest.Module) []byte {
	t.Helper()
	zr, err := zip.NewReader(bytes.NewReader(m.Zip), int64(len(m.Zip)))
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for _, f := range zr.File {
		r, err1 := f.Open()
		w, err2 := zw.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Store})
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestErrorsStayInside: what goes wrong inside is for the log; a client must
// learn neither paths nor addresses.
func TestErrorsStayInside(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/m", "v1.0.0")
	w := newWorld(t, options{}, m)
	w.up.SetFault("*", proxytest.Reset(0))
	w.up2.SetFault("*", proxytest.Reset(0))
	set(&w.store.get, errors.New("/secret/directory: broken"))
	for _, path := range []string{listPath, latestPath, mainPath, "/example.com/m/@v/v1.0.0.info", "/example.com/m/@v/v1.0.0.mod", "/example.com/m/@v/v1.0.0.zip"} {
		a := w.get(path)
		w.wantNo(a, 502, access.Trouble, "request ")
		if strings.Contains(a.text(), "/secret/") || strings.Contains(a.text(), w.dir) {
			t.Errorf("%s", a.text())
		}
	}
}
