package tlsmgr

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
)

// table finds certificates by name. It is read-only once made.
type table struct {
	byName   map[string][]*tls.Certificate // lower case; "*.example.com"; IP addresses as text
	awaited  map[string]bool               // names that have no certificate yet
	fallback *tls.Certificate              // of the first slot that has one
}

// newTable makes the table of what is in slots.
func newTable(slots []*slot) *table {
	t := &table{byName: map[string][]*tls.Certificate{}, awaited: map[string]bool{}}
	for _, s := range slots {
		if s.cert == nil {
			for _, name := range s.names {
				t.awaited[name] = true
			}
			continue
		}
		if t.fallback == nil {
			t.fallback = s.cert
		}
		for _, name := range certNames(s.cert) {
			t.byName[name] = append(t.byName[name], s.cert)
		}
	}
	return t
}

// certNames returns the names that a certificate is valid for, as table keys.
func certNames(cert *tls.Certificate) []string {
	var names []string
	for _, name := range cert.Leaf.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	for _, ip := range cert.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

var (
	errNotYet = errors.New("no certificate yet for this name: it is still being obtained")
	errNone   = errors.New("no certificate yet")
)

// find returns the certificate for a client: for the name it asks for, else for
// the address that it has connected to, else the first. The first answers
// unknown names too, because then the client can tell its user which names
// would have been right.
func (t *table) find(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")
	if name == "" {
		name = localAddress(hello.Conn)
	}
	if cert := choose(t.byName[name], hello); cert != nil {
		return cert, nil
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if cert := choose(t.byName["*."+parent], hello); cert != nil {
			return cert, nil
		}
	}
	if t.awaited[name] {
		return nil, errNotYet
	}
	if t.fallback == nil {
		return nil, errNone
	}
	return t.fallback, nil
}

// choose returns the first of certs that the client can use, or the first at
// all: two pairs for one name are an ECDSA and an RSA one.
func choose(certs []*tls.Certificate, hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(certs) == 0 {
		return nil
	}
	if len(certs) > 1 {
		for _, cert := range certs {
			if hello.SupportsCertificate(cert) == nil {
				return cert
			}
		}
	}
	return certs[0]
}

// localAddress returns the IP address at our end of c, as text.
func localAddress(c net.Conn) string {
	if c == nil {
		return ""
	}
	if tcp, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	return ""
}
