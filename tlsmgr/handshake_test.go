package tlsmgr

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// No handshake and no request for a challenge asks the storage, whatever name a
// client makes up, but for challenges of names that are ours: those another
// replica may have begun.
func TestStrangersDoNotReachTheStorage(t *testing.T) {
	pki := tlstest.New(t)
	for _, challenge := range []string{HTTP01, TLSALPN01} {
		t.Run(challenge, func(t *testing.T) {
			storage := newMemory()
			m, err := New(Config{Mode: ACME, Domains: []string{"a.test", "192.0.2.1"}, Storage: storage, ACME: ACMEConfig{
				CA: "https://ca.test/dir", Challenge: challenge, Listen: "127.0.0.1:0", Roots: pki.Pool(),
			}})
			if err != nil {
				t.Fatal(err)
			}
			cert := pki.Issue(tlstest.Leaf{Hosts: []string{"a.test"}})
			m.install(m.slots[0], &cert)
			var asked atomic.Int32
			storage.breakBy(func(string, string) error { asked.Add(1); return nil })
			hello := func(name string, protocols ...string) {
				m.certificate(&tls.ClientHelloInfo{ServerName: name, SupportedProtos: protocols, SupportedVersions: []uint16{tls.VersionTLS13}, Conn: &stillConn{}})
			}
			get := func(host string) int {
				r := httptest.NewRequest("GET", "/.well-known/acme-challenge/token", nil)
				r.Host = host
				rec := httptest.NewRecorder()
				m.HTTPHandler(http.NotFoundHandler()).ServeHTTP(rec, r)
				return rec.Code
			}
			for _, name := range []string{"a.test", "", "stranger.test", "../../etc", "x.in-addr.arpa", "192.0.2.2"} {
				hello(name, "h2", "http/1.1")
				if name != "a.test" {
					hello(name, "acme-tls/1")
					get(name + ":80")
				}
			}
			if n := asked.Load(); n != 0 {
				t.Errorf("the storage was asked %d times", n)
			}
			hello("a.test", "acme-tls/1")
			hello("1.2.0.192.in-addr.arpa", "acme-tls/1")
			get("A.test:80")
			get("192.0.2.1")
			if n := asked.Load(); n != 2 {
				t.Errorf("the storage was asked %d times for challenges of our own", n)
			}
		})
	}
}

// FuzzParseDomain: what is accepted has one form, which is accepted again.
func FuzzParseDomain(f *testing.F) {
	for _, seed := range []string{"go.corp.example", "*.a.b", "::1", "[::1]", "127.0.0.1", "A..b", "xn--a.example."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := ParseDomain(text)
		if err != nil {
			return
		}
		if again, err := ParseDomain(name); err != nil || again != name {
			t.Errorf("%q is %q, and that is %q, %v", text, name, again, err)
		}
	})
}

// stillConn is a connection of which only the addresses are asked for.
type stillConn struct{ net.Conn }

func (*stillConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 443} }
func (*stillConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 8), Port: 4} }
