package doctor_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/tlsmgr"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// serverWorld is the machine of a server with which nothing is wrong. Its
// upstream has the module that doctor asks for.
func serverWorld(t *testing.T) (*world, *doctor.ServerConfig) {
	w := newWorld(t)
	known := proxytest.Simple(t, "golang.org/x/sync", "v0.1.0")
	w.mods.Add(t, known)
	w.sums.Add(module.Version{Path: "golang.org/x/sync", Version: "v0.1.0"}, known.H1, known.ModH1)
	return w, &doctor.ServerConfig{
		Machine: w.config, Subject: "modgate.yaml", SumDB: w.sums.Key(), Private: "git.corp/*",
		Dirs:      []doctor.Dir{{Key: "cache.dir", Path: filepath.Join(t.TempDir(), "not", "yet", "there"), Max: 1 << 20}},
		Upstreams: []string{w.secure(w.good())}, Git: func(context.Context) (string, error) { return "git version 2.51.0", nil },
	}
}

func (w *world) file(name string, mode os.FileMode) string {
	name = filepath.Join(w.t.TempDir(), name)
	w.check(os.WriteFile(name, []byte("x"), 0o600))
	w.check(os.Chmod(name, mode))
	return name
}

func TestServer(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*world, *doctor.ServerConfig)
		want  string
	}{
		{"healthy", func(*world, *doctor.ServerConfig) {}, ""},
		{"healthy with all", func(w *world, c *doctor.ServerConfig) {
			c.Files = []doctor.File{{Key: "direct.file", Path: w.file("private.yaml", 0o640), Secret: true}}
			c.Module, c.Fetch = "git.corp/a/b", func(context.Context, string) ([]string, error) { return []string{"v1.0.0"}, nil }
			c.Hosts = []string{w.secure(w.good()), "ssh://git@" + w.listen().Addr().String()}
			c.Certificates = []tlsmgr.Status{{Name: "go.corp", NotAfter: time.Now().Add(time.Hour)}}
			c.ACME = w.acme()
		}, ""},
		{"mistake", func(_ *world, c *doctor.ServerConfig) {
			c.Mistakes = errors.New("listen: is no address\n  → write host:port")
		}, "server-config"},
		{"secret for all", func(w *world, c *doctor.ServerConfig) {
			c.Files = []doctor.File{{Key: "tls.files", Path: w.file("key.pem", 0o644), Secret: true}}
		}, "server-secret-mode"},
		{"public for all", func(w *world, c *doctor.ServerConfig) {
			c.Files = []doctor.File{{Key: "tls.files", Path: w.file("cert.pem", 0o644)}}
		}, ""},
		{"file missing", func(_ *world, c *doctor.ServerConfig) {
			c.Files = []doctor.File{{Key: "policy.file", Path: "/nowhere/rules.yaml"}}
		}, "server-file"},
		{"directory below a file", func(w *world, c *doctor.ServerConfig) { c.Dirs[0].Path = filepath.Join(w.file("f", 0o600), "cache") }, "server-directory"},
		{"cache larger than the disk", func(_ *world, c *doctor.ServerConfig) { c.Dirs[0].Max = 1 << 60 }, "server-cache-size"},
		{"no git", func(_ *world, c *doctor.ServerConfig) {
			c.Git = func(context.Context) (string, error) { return "", errors.New("not found") }
		}, "server-program"},
		{"upstream not trusted", func(w *world, c *doctor.ServerConfig) {
			c.Upstreams = []string{w.secure(w.issue(w.authority("Other Root", nil, func(*x509.Certificate) {}), func(*x509.Certificate) {}))}
		}, "tls-unknown-authority"},
		{"upstream trusted by tls.trust", func(w *world, c *doctor.ServerConfig) {
			other := tlstest.New(w.t)
			c.Upstreams, c.Trust = []string{w.secure(other.Issue(tlstest.Leaf{}))}, []string{other.WriteRoot(w.t.TempDir())}
		}, ""},
		{"upstream direct", func(_ *world, c *doctor.ServerConfig) { c.Upstreams = append(c.Upstreams, "direct") }, "server-upstream-direct"},
		{"upstream wants a password", func(w *world, c *doctor.ServerConfig) {
			c.Upstreams = []string{w.answers(func(out http.ResponseWriter, _ *http.Request) { http.Error(out, "who?", http.StatusUnauthorized) })}
		}, "http-unauthorized"},
		{"clock", func(w *world, c *doctor.ServerConfig) {
			c.Machine.Now = func() time.Time { return time.Now().Add(20 * time.Minute) }
			c.Machine.ClockURLs = []string{w.plain(http.NotFoundHandler())}
		}, "clock-wrong"},
		{"git host without its intermediate", func(w *world, c *doctor.ServerConfig) {
			issuer := w.plain(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) { out.Write(w.pki.Intermediate.Cert.Raw) }))
			c.Hosts = []string{w.secure(w.odd(func(c *x509.Certificate) { c.IssuingCertificateURL = []string{issuer} }))}
		}, "tls-missing-intermediate"},
		{"ssh host down", func(_ *world, c *doctor.ServerConfig) { c.Hosts = []string{"ssh://127.0.0.1:" + closedPort} }, "tcp-refused"},
		{"private module fails", func(_ *world, c *doctor.ServerConfig) {
			c.Module = "git.corp/a/b"
			c.Fetch = func(context.Context, string) ([]string, error) {
				return nil, errors.New("https://me:hunter2@git.corp/a/b: 401 Unauthorized")
			}
		}, "server-private"},
		{"private module of nobody", func(_ *world, c *doctor.ServerConfig) {
			c.Module = "example.com/public"
			c.Fetch = func(context.Context, string) ([]string, error) { panic("a public module is fetched directly") }
		}, "server-private"},
		{"server down", func(_ *world, c *doctor.ServerConfig) { c.Down = errors.New("connection refused") }, ""},
		{"alarm", func(_ *world, c *doctor.ServerConfig) {
			c.Certificates = []tlsmgr.Status{{Name: "server.crt", Alarm: "the intermediate certificate is missing: append it"}}
		}, "server-certificate"},
		{"ACME problem", func(_ *world, c *doctor.ServerConfig) {
			c.Certificates = []tlsmgr.Status{{Name: "go.corp", Problem: &tlsmgr.Problem{Type: "connection", Detail: "go.corp:80: connection refused"}, NextAttempt: time.Now()}}
		}, "acme-problem"},
		{"no ACME directory", func(w *world, c *doctor.ServerConfig) {
			c.ACME = w.acme()
			c.ACME.Directory = w.secure(w.good()) + "/example.com/m/@v/v1.0.0.info"
		}, "acme-directory"},
		{"CA not trusted", func(w *world, c *doctor.ServerConfig) {
			c.ACME = w.acme()
			c.ACME.Roots = []string{w.file("empty.pem", 0o600)}
		}, "tls-unknown-authority"},
		{"name without an address", func(w *world, c *doctor.ServerConfig) {
			c.ACME = w.acme()
			c.ACME.Names = []string{"nowhere.corp"}
		}, "acme-name"},
		{"name elsewhere is a note", func(w *world, c *doctor.ServerConfig) {
			c.ACME = w.acme()
			c.ACME.Local = nil
		}, ""},
		{"port closed", func(w *world, c *doctor.ServerConfig) {
			c.ACME = w.acme()
			c.ACME.Port = closedPort
		}, "acme-port"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, c := serverWorld(t)
			test.spoil(w, c)
			s, err := doctor.NewServer(*c)
			if err != nil {
				t.Fatal(err)
			}
			r := s.Examine(t.Context())
			if got := codes(r); !slices.Equal(got, strings.Fields(test.want)) {
				t.Errorf("found %q, want %q\n%s", got, test.want, text(r))
			}
			checkTexts(t, r)
		})
	}
}

// acme is a CA with which nothing is wrong, and a name that leads here.
func (w *world) acme() *doctor.ACME {
	ca := w.answers(func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "application/json")
		fmt.Fprint(out, `{"newOrder":"https://ca.example/order"}`)
	})
	return &doctor.ACME{
		Directory: ca + "/dir", Names: []string{"localhost"}, Challenge: tlsmgr.HTTP01, Local: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
		Resolvers: []string{"127.0.0.1:" + closedPort},
		Instance:  "modgate 1", Port: portOfURL(w.plain(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			if r.URL.Path == tlsmgr.InstancePath {
				fmt.Fprintln(out, "modgate 1")
			}
		}))),
	}
}

func portOfURL(address string) string { return address[strings.LastIndex(address, ":")+1:] }

// A private name is never asked of an upstream or a checksum database, and the
// advice on a server is about the server.
func TestServerKeepsPrivateNames(t *testing.T) {
	w, c := serverWorld(t)
	c.Module = "git.corp/secret/repo"
	c.Fetch = func(context.Context, string) ([]string, error) { return nil, errors.New("no") }
	c.Upstreams = append(c.Upstreams, w.secure(w.issue(w.authority("Other Root", nil, func(*x509.Certificate) {}), func(*x509.Certificate) {})))
	s, err := doctor.NewServer(*c)
	if err != nil {
		t.Fatal(err)
	}
	r := s.Examine(t.Context())
	for _, req := range w.mods.Requests() {
		if strings.Contains(req.Path, "git.corp") {
			t.Errorf("asked for %s", req.Path)
		}
	}
	for _, f := range r.Findings {
		if f.Code == doctor.UnknownAuthority && !strings.Contains(strings.Join(f.Mend, "\n"), "tls.trust") {
			t.Errorf("%q", f.Mend)
		}
	}
	if _, err := doctor.NewServer(doctor.ServerConfig{}); err == nil {
		t.Error("an empty configuration was taken")
	}
}

// What a server says of its own trouble names the files, and the command for
// each.
func TestLiveRemedies(t *testing.T) {
	live := doctor.Live{
		Unused: []doctor.Unused{{Key: "policy.file", Path: "/etc/rules.yaml", Text: "oops"}, {Key: "direct.file", Path: "/etc/direct.yaml", Text: "oops"}},
		Certificates: []tlsmgr.Status{
			{Name: "/tls/server.crt", KeyFile: "/tls/server.key", Alarm: "not reloaded", Defect: tlsmgr.KeyMismatch},
			{Name: "go.corp", Alarm: "the certificate was due when it came → set the clock of this machine"},
			{Name: "a.corp", Problem: &tlsmgr.Problem{Type: "externalAccountRequired", Detail: "no", Advice: "set tls.eab_key_id"}},
		},
	}
	var first []string
	for _, f := range live.Findings(doctor.Config{OS: "linux", Now: time.Now}) {
		first = append(first, string(f.Code)+": "+f.Mend[0])
	}
	want := []string{
		"acme-problem: set tls.eab_key_id",
		"server-reload: modgate policy check /etc/rules.yaml",
		"server-reload: mend what the text says; it is read again within seconds",
		"server-certificate: openssl x509 -in /tls/server.crt -noout -pubkey; openssl pkey -in /tls/server.key -pubout   (the two must be equal: name the key that the certificate was made for, and put the server's own certificate first)",
		"server-certificate: set the clock of this machine",
	}
	if !slices.Equal(first, want) {
		t.Errorf("%q", first)
	}
}

// What the proxy says is to be done is what doctor says first.
func TestRefusalSaysWhatToDo(t *testing.T) {
	w := newWorld(t)
	w.config.URL = w.answers(func(out http.ResponseWriter, _ *http.Request) {
		http.Error(out, "blocked: example.com/m@v1.0.0 by rule young\nwhy: too young\ndo: go get example.com/m@v0.9.0\nid: 1", http.StatusForbidden)
	})
	w.set("GOPROXY", w.config.URL)
	f := examine(t, w.config).Findings[0]
	if f.Code != doctor.Forbidden || f.Mend[0] != "the proxy says: go get example.com/m@v0.9.0" {
		t.Errorf("%+v", f)
	}
}
