package doctor_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/tlsmgr"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// A server with certificates of a real CA and nothing wrong: doctor finds
// nothing, with and without a rehearsal, while it runs and while it does not.
func TestACMEHealthy(t *testing.T) {
	for _, test := range []struct{ challenge, name string }{
		{tlsmgr.HTTP01, ""}, {tlsmgr.TLSALPN01, ""}, {tlsmgr.HTTP01, "127.0.0.1"}, {tlsmgr.TLSALPN01, "127.0.0.1"},
	} {
		challenge := test.challenge
		t.Run(strings.TrimSpace(challenge+" "+test.name), func(t *testing.T) {
			t.Parallel()
			a := newACMEWorld(t, challenge)
			if test.name != "" {
				a.called(test.name)
			}
			staging := tlstest.StartPebble(t, a.pki, tlstest.PebbleConfig{HTTPAddr: a.ca.HTTPAddr, TLSAddr: a.ca.TLSAddr})
			sent := a.watch()
			a.start()
			r := a.want("")
			says(t, r, "certificate and key belong together")
			says(t, r, "1 in the last hour, 1 in the last week; 1 certificate in the last week")
			says(t, r, ": valid")
			says(t, r, "to be renewed from")
			says(t, r, map[string]string{tlsmgr.HTTP01: "this server answers there", tlsmgr.TLSALPN01: "acme-tls/1 is known there"}[challenge])
			sent.again()
			before := state(t, a.dir)
			a.want("")
			if after := state(t, a.dir); after != before {
				t.Errorf("the storage was\n%s\nand is\n%s", before, after)
			}
			sent.changedNothing(t)
			a.server.ACME.Probe, a.server.ACME.Staging = true, staging.Directory
			says(t, a.want(""), "the answer arrives in")
			a.stop()
			a.run, a.server.Certificates, a.server.Down = nil, nil, errors.New("connection refused")
			sent.again()
			a.server.ACME.Probe, a.server.ACME.Staging = false, ""
			before = state(t, a.dir)
			a.want("")
			if after := state(t, a.dir); after != before {
				t.Errorf("without a server the storage was\n%s\nand is\n%s", before, after)
			}
			sent.changedNothing(t)
			a.server.ACME.Probe, a.server.ACME.Staging = true, staging.Directory
			before = filesIn(before)
			r = a.want("")
			says(t, r, "no server listens there; doctor did, for a moment")
			says(t, r, "a certificate came in")
			if after := filesIn(state(t, a.dir)); after != before {
				t.Errorf("the storage was\n%s\nand is\n%s", before, after)
			}
			if n := a.ca.Orders(); n != 1 {
				t.Errorf("%d orders at the CA of the server", n)
			}
		})
	}
}

// Each thing that can be wrong between a CA and a server is found, and nothing
// else. To developers it may matter at once, or not before the certificate expires.
func TestACMEDefects(t *testing.T) {
	told := newSayings(t)
	for _, test := range []struct {
		name, challenge, want, client string
		spoil                         func(*acmeWorld)
	}{
		{"CAA of another CA", tlsmgr.HTTP01, "acme-caa", "", func(a *acmeWorld) {
			a.ca.SetDNS(a.t, "add-caa", map[string]any{"host": "test.", "policies": []map[string]string{{"tag": "issue", "value": "other.example"}}})
		}},
		{"CAA of this CA below that of another", tlsmgr.HTTP01, "", "", func(a *acmeWorld) {
			a.ca.SetDNS(a.t, "add-caa", map[string]any{"host": a.name + ".", "policies": []map[string]string{{"tag": "issue", "value": "pebble.letsencrypt.org; validationmethods=http-01"}}})
			a.ca.SetDNS(a.t, "add-caa", map[string]any{"host": "test.", "policies": []map[string]string{{"tag": "issue", "value": "other.example"}}})
		}},
		{"CAA for another challenge", tlsmgr.HTTP01, "acme-caa", "", func(a *acmeWorld) {
			a.ca.SetDNS(a.t, "add-caa", map[string]any{"host": a.name + ".", "policies": []map[string]string{{"tag": "issue", "value": "pebble.letsencrypt.org; validationmethods=dns-01"}}})
		}},
		{"CAA cannot be looked up", tlsmgr.HTTP01, "acme-caa-lookup", "", func(a *acmeWorld) {
			a.ca.SetDNS(a.t, "set-servfail", map[string]string{"host": a.name + "."})
		}},
		{"the name leads to another web server", tlsmgr.HTTP01, "acme-stranger", "tcp-refused", func(a *acmeWorld) {
			a.names[a.name] = "127.0.0.2"
			other(a, "127.0.0.2", nil)
		}},
		{"the name leads to nobody", tlsmgr.HTTP01, "acme-port", "tcp-refused", func(a *acmeWorld) { a.names[a.name] = "127.0.0.3" }},
		{"the name leads to another TLS server", tlsmgr.TLSALPN01, "acme-stranger", "tls-wrong-name", func(a *acmeWorld) {
			a.names[a.name] = "127.0.0.2"
			other(a, "127.0.0.2", &tls.Config{Certificates: []tls.Certificate{a.good()}})
		}},
		{"TLS ends in front of it", tlsmgr.TLSALPN01, "acme-alpn", "", func(a *acmeWorld) {
			a.names[a.name] = "127.0.0.2"
			other(a, "127.0.0.2", &tls.Config{GetCertificate: a.run.TLSConfig().GetCertificate, NextProtos: []string{"h2"}})
		}},
		{"the probe arrives elsewhere", tlsmgr.HTTP01, "acme-stranger", "tcp-refused", func(a *acmeWorld) {
			a.names[a.name] = "127.0.0.2"
			other(a, "127.0.0.2", nil)
			a.server.ACME.Probe = true
		}},
		{"the CA was rebuilt", tlsmgr.HTTP01, "acme-account", "", func(a *acmeWorld) { a.ca.Restart(a.t) }},
		{"the key is that of another", tlsmgr.HTTP01, "server-certificate-stored", "", func(a *acmeWorld) {
			a.overwrite(a.name+".key", tlstest.KeyPEM(a.t, a.good()))
		}},
		{"expired while nobody ran", tlsmgr.HTTP01, "server-certificate-expired", "tcp-refused", func(a *acmeWorld) {
			a.down()
			old := a.pki.Issue(tlstest.Leaf{Hosts: []string{a.name}, From: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(-time.Hour)})
			a.overwrite(a.name+".crt", tlstest.PEM(old))
			a.overwrite(a.name+".key", tlstest.KeyPEM(a.t, old))
		}},
		{"due while nobody ran", tlsmgr.HTTP01, "server-certificate-due", "tcp-refused", func(a *acmeWorld) {
			a.down()
			old := a.pki.Issue(tlstest.Leaf{Hosts: []string{a.name}, From: time.Now().Add(-80 * 24 * time.Hour), Until: time.Now().Add(10 * 24 * time.Hour)})
			a.overwrite(a.name+".crt", tlstest.PEM(old))
			a.overwrite(a.name+".key", tlstest.KeyPEM(a.t, old))
			a.check(os.RemoveAll(filepath.Join(a.dir, "modgate", "attempts"))) // it came long ago
		}},
		{"the storage is a file", tlsmgr.HTTP01, "server-storage", "tcp-refused", func(a *acmeWorld) {
			a.down()
			a.check(os.RemoveAll(a.dir))
			a.check(os.WriteFile(a.dir, nil, 0o600))
		}},
		{"the CA for trials refuses the name", tlsmgr.HTTP01, "acme-staging", "", func(a *acmeWorld) {
			p := tlstest.StartPebble(a.t, a.pki, tlstest.PebbleConfig{Blocked: []string{a.name}, HTTPAddr: a.ca.HTTPAddr, TLSAddr: a.ca.TLSAddr})
			a.server.ACME.Staging = p.Directory
		}},
		{"another user's storage", tlsmgr.HTTP01, "", "", func(a *acmeWorld) {
			if os.Geteuid() != 0 {
				a.t.Skip("only root can give a directory away")
			}
			a.server.Dirs = append(a.server.Dirs, doctor.Dir{Key: "tls.storage", Path: a.dir})
			a.check(os.Chown(a.dir, 65534, 65534))
			a.server.ACME.Probe = true
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newACMEWorld(t, test.challenge)
			a.start()
			test.spoil(a)
			r := a.want(test.want)
			if test.name == "another user's storage" {
				says(t, r, "run doctor as nobody")
				says(t, r, "sudo -u nobody modgate doctor --server")
			}
			a.developer(told, test.name, test.client)
		})
	}
}

// down stops the server.
func (a *acmeWorld) down() {
	a.stop()
	a.run, a.server.Certificates, a.server.Down = nil, nil, errors.New("connection refused")
}

// overwrite replaces a file of the storage.
func (a *acmeWorld) overwrite(name string, data []byte) {
	a.t.Helper()
	found, err := filepath.Glob(filepath.Join(a.dir, "certificates", "*", "*", name))
	if err != nil || len(found) != 1 {
		a.t.Fatal(found, err)
	}
	a.check(os.WriteFile(found[0], data, 0o600))
}

// other is a server that has the modules and knows no challenge, at the port of
// challenges of another address of this machine.
func other(a *acmeWorld, address string, c *tls.Config) {
	a.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(address, a.server.ACME.Port))
	a.check(err)
	if c != nil {
		l = tls.NewListener(l, c)
	}
	s := &http.Server{Handler: a.modules(), ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan struct{})
	go func() { defer close(ended); s.Serve(l) }()
	a.t.Cleanup(func() { s.Close(); <-ended })
}

// What the CA says of its limits is told, with the time at which it may be asked
// again, and nothing is tried before.
func TestACMELimits(t *testing.T) {
	told := newSayings(t)
	a := newACMEWorld(t, tlsmgr.HTTP01)
	fault := tlstest.NewFault(t, a.pki, a.ca.Directory)
	a.keeper.ACME.CA, a.server.ACME.Directory = fault.Directory, fault.Directory
	until := time.Now().Add(5 * time.Hour).UTC().Truncate(time.Second)
	fault.Set("/order-plz", 100, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusTooManyRequests)
		w.Write([]byte(`{"type":"urn:ietf:params:acme:error:rateLimited","status":429,"detail":"too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after ` + until.Format("2006-01-02 15:04:05") + ` UTC"}`))
	})
	a.start()
	r := a.want("acme-limited")
	says(t, r, "The CA refuses orders for "+a.name+" until "+until.Format(time.RFC3339))
	says(t, r, "1 in the last hour")
	says(t, r, "too many certificates (5)")
	checkSymptoms(t, r, a.developer(told, t.Name(), "tls-no-certificate"))
}

// A private CA that is all right.
func TestACMEStepCA(t *testing.T) {
	told := newSayings(t)
	a := newACMEWorld(t, tlsmgr.HTTP01)
	ca := tlstest.StartStepCA(t, a.pki, a.ca.DNSAddr)
	a.ca.HTTPAddr, a.ca.TLSAddr = ca.HTTPAddr, ca.TLSAddr
	a.keeper.ACME.CA, a.keeper.ACME.Profile, a.keeper.ACME.Listen = ca.Directory("acme"), "", ca.HTTPAddr
	a.server.ACME.Directory, a.server.ACME.Port = ca.Directory("acme"), portOfURL(ca.HTTPAddr)
	a.server.ACME.Probe, a.server.ACME.Staging = true, ca.Directory("short")
	a.start()
	says(t, a.want(""), "a certificate came in")
	a.developer(told, t.Name(), "")
}
