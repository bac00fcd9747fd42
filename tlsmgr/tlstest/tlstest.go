// Package tlstest makes authorities and certificates, good and bad, for tests.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// PKI is a root and an intermediate authority below it.
type PKI struct {
	Root, Intermediate *Authority
	tb                 testing.TB
}

// Authority signs certificates.
type Authority struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// New makes a PKI. Its errors end tb.
func New(tb testing.TB) *PKI {
	tb.Helper()
	p := &PKI{tb: tb}
	p.Root = p.authority("test root", nil)
	p.Intermediate = p.authority("test intermediate", p.Root)
	return p
}

func (p *PKI) authority(name string, parent *Authority) *Authority {
	key := p.key()
	t := &x509.Certificate{
		SerialNumber: p.serial(), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	self := &Authority{t, key}
	if parent == nil {
		parent = self
	}
	self.Cert = p.sign(t, parent, key)
	return self
}

// Pool returns a pool of the root alone.
func (p *PKI) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.Root.Cert)
	return pool
}

// Leaf says what a certificate should be like. The zero value is a good one
// for localhost and the loopback addresses, for an hour.
type Leaf struct {
	Hosts          []string // names and addresses
	From, Until    time.Time
	NoIntermediate bool // leave it out of the chain
	ByRoot         bool // signed by the root itself
	SelfSigned     bool
	NoNames        bool // common name only
	Client         bool // for clients alone
	// IssuerURL is where the certificate says that its issuer's is to be had.
	IssuerURL string
}

// Issue makes a certificate.
func (p *PKI) Issue(l Leaf) tls.Certificate {
	p.tb.Helper()
	if len(l.Hosts) == 0 {
		l.Hosts = []string{"localhost", "127.0.0.1", "::1"}
	}
	if l.From.IsZero() {
		l.From = time.Now().Add(-time.Minute)
	}
	if l.Until.IsZero() {
		l.Until = time.Now().Add(time.Hour)
	}
	t := &x509.Certificate{
		SerialNumber: p.serial(), Subject: pkix.Name{CommonName: l.Hosts[0]}, NotBefore: l.From, NotAfter: l.Until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if l.IssuerURL != "" {
		t.IssuingCertificateURL = []string{l.IssuerURL}
	}
	if l.Client {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for _, host := range l.Hosts {
		if l.NoNames {
			break
		}
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	key := p.key()
	signer := p.Intermediate
	if l.ByRoot {
		signer = p.Root
	}
	if l.SelfSigned {
		signer = &Authority{t, key}
	}
	leaf := p.sign(t, signer, key)
	cert := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	if !l.NoIntermediate && !l.ByRoot && !l.SelfSigned {
		cert.Certificate = append(cert.Certificate, p.Intermediate.Cert.Raw)
	}
	return cert
}

// Write writes a certificate with its chain, and its key, into files of dir:
// name.crt and name.key.
func (p *PKI) Write(dir, name string, cert tls.Certificate) (certFile, keyFile string) {
	p.tb.Helper()
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	p.write(certFile, PEM(cert))
	p.write(keyFile, KeyPEM(p.tb, cert))
	return certFile, keyFile
}

// WriteRoot writes the root into a file of dir and returns its name.
func (p *PKI) WriteRoot(dir string) string {
	p.tb.Helper()
	name := filepath.Join(dir, "root.pem")
	p.write(name, PEM(tls.Certificate{Certificate: [][]byte{p.Root.Cert.Raw}}))
	return name
}

// PEM returns the chain of cert.
func PEM(cert tls.Certificate) []byte {
	var out []byte
	for _, der := range cert.Certificate {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// KeyPEM returns the key of cert.
func KeyPEM(tb testing.TB, cert tls.Certificate) []byte {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func (p *PKI) write(name string, data []byte) {
	p.tb.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		p.tb.Fatal(err)
	}
}

func (p *PKI) key() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.tb.Fatal(err)
	}
	return key
}

func (p *PKI) serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		p.tb.Fatal(err)
	}
	return n
}

func (p *PKI) sign(t *x509.Certificate, parent *Authority, key *ecdsa.PrivateKey) *x509.Certificate {
	p.tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, t, parent.Cert, key.Public(), parent.Key)
	if err != nil {
		p.tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		p.tb.Fatal(err)
	}
	return cert
}
