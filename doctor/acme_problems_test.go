package doctor_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/tlsmgr"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// Each way in which a CA can give no certificate is told with what the CA says,
// with what to do about it first, and with its cause, where that can be seen from
// here: a port, a name, an authority, a URL.
func TestACMEProblems(t *testing.T) {
	told := newSayings(t)
	const mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	problem := func(status int, kind string) http.HandlerFunc {
		return tlstest.Answer(status, "application/problem+json", `{"type":"urn:ietf:params:acme:error:`+kind+`","detail":"for reasons of `+kind+`"}`)
	}
	bound := func(id, key string) func(*acmeWorld) {
		return func(a *acmeWorld) {
			a.other(tlstest.PebbleConfig{EAB: map[string]string{"kid-1": mac}})
			a.keeper.ACME.AccountKeyID, a.keeper.ACME.AccountMAC = id, key
		}
	}
	faulty := func(answer http.HandlerFunc) func(*acmeWorld) {
		return func(a *acmeWorld) {
			fault := tlstest.NewFault(a.t, a.pki, a.ca.Directory)
			fault.Set("/order-plz", 100, answer)
			a.directory(fault.Directory)
		}
	}
	byStep := func(provisioner, profile string) func(*acmeWorld) {
		return func(a *acmeWorld) {
			ca := tlstest.StartStepCA(a.t, a.pki, a.ca.DNSAddr)
			a.directory(ca.Directory(provisioner))
			a.keeper.ACME.Profile = profile
		}
	}
	for _, test := range []struct {
		name, challenge, want string
		spoil                 func(*acmeWorld)
		says, mend            string
	}{
		{"http-01 refused", tlsmgr.HTTP01, "acme-port", func(a *acmeWorld) { a.mute = true }, "connection refused", "the CA must reach http://"},
		{"tls-alpn-01 refused", tlsmgr.TLSALPN01, "acme-port", func(a *acmeWorld) { a.mute = true }, "tls-alpn-01 challenge", "the CA must reach"},
		{"SERVFAIL", tlsmgr.HTTP01, "acme-problem", func(a *acmeWorld) {
			a.ca.SetDNS(a.t, "set-servfail", map[string]string{"host": a.name})
			a.ca.SetDNS(a.t, "set-servfail", map[string]string{"host": a.name + "."})
		}, "could not resolve", "the CA cannot resolve"},
		{"forbidden name", tlsmgr.HTTP01, "acme-problem", func(a *acmeWorld) { a.other(tlstest.PebbleConfig{Blocked: []string{a.name}}) }, "forbidden by policy", "the CA does not sign"},
		{"bad contact", tlsmgr.HTTP01, "acme-problem", func(a *acmeWorld) { a.keeper.ACME.Email = "foo@bar@baz" }, "invalidContact", "set tls.email"},
		{"no external account", tlsmgr.HTTP01, "acme-problem", bound("", ""), "externalAccountRequired", "the CA wants an account that it knows"},
		{"unknown external account", tlsmgr.HTTP01, "acme-problem", bound("kid-2", mac), "not known to the ACME server", "tls.eab_key_id"},
		{"wrong MAC", tlsmgr.HTTP01, "acme-problem", bound("kid-1", strings.Repeat("A", len(mac))), "unauthorized", "tls.eab_key_id"},
		{"MAC that is not base64url", tlsmgr.HTTP01, "acme-problem", bound("kid-1", "***"), "base64", "tls.eab_mac_key"},
		{"503", tlsmgr.HTTP01, "acme-problem", faulty(problem(503, "serverInternal")), "for reasons of serverInternal", "mend what the text says"},
		{"500 with a page", tlsmgr.HTTP01, "acme-problem", faulty(tlstest.Answer(500, "text/html", "<html>oops</html>")), "HTTP 500", "mend what the text says"},
		{"CAA by the CA", tlsmgr.HTTP01, "acme-problem", faulty(problem(403, "caa")), "for reasons of caa", "the CAA record"},
		{"all nonces refused", tlsmgr.HTTP01, "acme-problem", func(a *acmeWorld) { a.other(tlstest.PebbleConfig{NonceReject: "100"}) }, "badNonce", "nonces"},
		{"the order hangs", tlsmgr.HTTP01, "acme-problem", func(a *acmeWorld) {
			faulty(tlstest.Hang)(a)
			a.keeper.ACME.Patience = time.Second
		}, "deadline exceeded", "the CA does not answer in time"},
		{"CA not trusted", tlsmgr.HTTP01, "tls-unknown-authority", func(a *acmeWorld) {
			other := tlstest.New(a.t)
			a.keeper.ACME.Roots, a.server.ACME.Roots = other.Pool(), []string{other.WriteRoot(a.t.TempDir())}
		}, "unknown authority", "tls.ca_roots"},
		{"CA not there", tlsmgr.HTTP01, "acme-ca-down", func(a *acmeWorld) { a.directory("https://localhost:" + closedPort + "/dir") }, "connection refused", "the CA cannot be reached"},
		{"CA without a name", tlsmgr.HTTP01, "acme-ca-down", func(a *acmeWorld) { a.directory("https://acme.invalid/dir") }, "acme.invalid", "the host name of the CA cannot be resolved"},
		{"no directory", tlsmgr.HTTP01, "acme-directory", func(a *acmeWorld) { a.directory(strings.TrimSuffix(a.ca.Directory, "dir") + "nothing") }, "HTTP 404", "URL of the ACME directory"},
		{"unknown profile", tlsmgr.HTTP01, "acme-problem", func(a *acmeWorld) { a.keeper.ACME.Profile = "nosuch" }, "unknown profile name", "tls.profile"},
		{"step-ca wants an external account", tlsmgr.HTTP01, "acme-problem", byStep("eab", ""), "externalAccountRequired", "the CA wants an account that it knows"},
		{"step-ca has no profiles", tlsmgr.HTTP01, "acme-problem", byStep("acme", "default"), "does not advertise support for profiles", "tls.profile"},
		{"step-ca has no such provisioner", tlsmgr.HTTP01, "acme-directory", byStep("nope", ""), "HTTP 404", "URL of the ACME directory"},
		{"the storage is a file, and the server runs", tlsmgr.HTTP01, "server-storage", func(a *acmeWorld) { a.check(os.WriteFile(a.dir, nil, 0o600)) }, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newACMEWorld(t, test.challenge)
			test.spoil(a)
			a.start()
			r := a.want(test.want)
			checkSymptoms(t, r, a.developer(told, test.name, "tls-no-certificate"))
			for _, f := range r.Findings {
				if f.Code == doctor.ACMEProblem && (!strings.Contains(f.Title, test.says) || !strings.Contains(f.Mend[0], test.mend)) {
					t.Errorf("%q, %q; want %q, %q", f.Title, f.Mend, test.says, test.mend)
				}
			}
		})
	}
}

// directory lets server and doctor take another CA.
func (a *acmeWorld) directory(url string) { a.keeper.ACME.CA, a.server.ACME.Directory = url, url }

// other lets the server take another Pebble, with the same way to it.
func (a *acmeWorld) other(c tlstest.PebbleConfig) {
	c.HTTPAddr, c.TLSAddr = a.ca.HTTPAddr, a.ca.TLSAddr
	a.signer = tlstest.StartPebble(a.t, a.pki, c)
	a.directory(a.signer.Directory)
}

// step-ca keeps its reason to itself, and has to be asked for it.
func TestACMEStepCACannotConnect(t *testing.T) {
	t.Parallel()
	told := newSayings(t)
	a := newACMEWorld(t, tlsmgr.HTTP01)
	ca := tlstest.StartStepCA(t, a.pki, a.ca.DNSAddr)
	a.directory(ca.Directory("acme"))
	a.keeper.ACME.Profile, a.keeper.ACME.Listen, a.keeper.ACME.Patience = "", ca.HTTPAddr, 3*time.Second
	a.server.ACME.Port = portOfURL(ca.HTTPAddr)
	a.mute = true
	a.start()
	r := a.want("acme-port")
	says(t, r, "could not connect to validation target")
	checkSymptoms(t, r, a.developer(told, t.Name(), "tls-no-certificate"))
}
