package doctor_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/tlsmgr"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// A certificate that expires because none comes after it: whatever a CA does that
// keeps a server from renewing, until it is too late. The certificates live for 20 s;
// all servers wait for that at the same time.
func TestACMEExpired(t *testing.T) {
	told := newSayings(t)
	tests := []struct {
		name, challenge, want string
		before                func(*acmeWorld) (spoil func()) // the server starts; spoil comes when it has its certificate
	}{
		{"the CA is gone", tlsmgr.HTTP01, "acme-ca-down server-certificate-expired", func(a *acmeWorld) func() { return a.ca.Stop }},
		{"the CA is in trouble", tlsmgr.HTTP01, "acme-problem server-certificate-expired", faultLater(503, "serverInternal", "maintenance")},
		{"the CA reads another CAA record", tlsmgr.TLSALPN01, "acme-problem server-certificate-expired", faultLater(403, "caa", "CAA record prevents issuance")},
		{"the CA has a limit", tlsmgr.HTTP01, "acme-limited server-certificate-expired", faultLater(429, "rateLimited",
			"too many certificates, retry after "+time.Now().Add(5*time.Hour).UTC().Format("2006-01-02 15:04:05")+" UTC")},
		{"port 80 was closed", tlsmgr.HTTP01, "acme-port server-certificate-expired", func(a *acmeWorld) func() {
			a.keeper.ACME.Listen = tlstest.Loopback(tlstest.Port(a.t)) // else it would open the port itself, as long as it waits for a CA
			return func() { a.shut() }
		}},
		{"the name server takes no records any more", tlsmgr.DNS01, "acme-problem server-certificate-expired", func(a *acmeWorld) func() {
			bind, gone := tlstest.StartBind(a.t), new(atomic.Bool)
			updates := a.raw(func(conn net.Conn) {
				to, err := net.Dial("tcp", bind.Addr)
				if err != nil || gone.Load() {
					return
				}
				defer to.Close()
				go func() { io.Copy(to, conn); to.Close() }()
				io.Copy(conn, to)
			})
			a.other(tlstest.PebbleConfig{DNS: bind.Addr})
			a.called("app.zone.test")
			a.names[a.name], a.server.ACME.Resolvers = "127.0.0.1", []string{bind.Addr}
			a.provider("rfc2136", map[string]string{"server": strings.TrimPrefix(updates, "https://"), "key_name": bind.KeyName, "key": bind.Key}, bind.Addr)
			return func() { gone.Store(true) }
		}},
		{"step-ca cannot connect any more", tlsmgr.HTTP01, "acme-port server-certificate-expired", func(a *acmeWorld) func() {
			ca := tlstest.StartStepCA(a.t, a.pki, a.ca.DNSAddr)
			a.ca.HTTPAddr, a.ca.TLSAddr = ca.HTTPAddr, ca.TLSAddr
			a.directory(ca.Directory("acme"))
			a.keeper.ACME.Profile, a.keeper.ACME.Listen, a.keeper.ACME.Patience = "", ca.HTTPAddr, 3*time.Second
			a.server.ACME.Port = portOfURL(ca.HTTPAddr)
			return func() { // one of an hour ago is what it has when it comes back
				a.down()
				old := a.pki.Issue(tlstest.Leaf{Hosts: []string{a.name}, From: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(-time.Hour)})
				a.overwrite(a.name+".crt", tlstest.PEM(old))
				a.overwrite(a.name+".key", tlstest.KeyPEM(a.t, old))
				a.check(os.RemoveAll(filepath.Join(a.dir, "modgate", "attempts")))
				a.mute, a.server.Down = true, nil
				a.start()
			}
		}},
	}
	worlds := make([]*acmeWorld, len(tests))
	for i, test := range tests {
		a := newACMEWorld(t, test.challenge)
		a.keeper.ACME.Profile = "tiny"
		spoil := test.before(a)
		a.start()
		spoil()
		worlds[i] = a
	}
	for i, test := range tests {
		a := worlds[i]
		a.awaitExpired()
		r := a.want(test.want)
		if r.Findings[0].Code == doctor.CertificateExpired {
			t.Errorf("%s: what comes of it is told before its cause", test.name)
		}
		t.Run(test.name, func(t *testing.T) {
			checkSymptoms(t, r, a.developer(told, test.name, "tls-expired"))
		})
	}
}

// faultLater is a CA that refuses orders from some time on.
func faultLater(status int, kind, detail string) func(*acmeWorld) func() {
	return func(a *acmeWorld) func() {
		fault := tlstest.NewFault(a.t, a.pki, a.ca.Directory)
		a.directory(fault.Directory)
		return func() {
			fault.Set("/order-plz", 100, tlstest.Answer(status, "application/problem+json",
				fmt.Sprintf(`{"type":"urn:ietf:params:acme:error:%s","status":%d,"detail":%q}`, kind, status, detail)))
		}
	}
}

// awaitExpired waits until the certificate of the server has expired, and until it
// knows that it gets no other.
func (a *acmeWorld) awaitExpired() {
	a.t.Helper()
	for range 1200 {
		if s := a.run.Status()[0]; time.Now().After(s.NotAfter) && s.Problem != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	a.t.Fatalf("the certificate does not expire: %+v", a.run.Status())
}
