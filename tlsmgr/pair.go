package tlsmgr

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Pair names the files of one certificate.
type Pair struct {
	// Cert is a PEM file: the certificate, then the intermediate ones.
	Cert string
	// Key is a PEM file with its private key. It may be the same file.
	Key string
}

// maxPEM bounds a file, in bytes: a chain is a few kilobytes.
const maxPEM = 1 << 20

// ParsePair reads how a pair is written in a configuration: "CERT:KEY", one
// file that holds both, or a directory with tls.crt and tls.key as Kubernetes
// mounts it. A missing file is no error here.
func ParsePair(text string) (Pair, error) {
	if info, err := os.Stat(text); err == nil {
		if info.IsDir() {
			return Pair{filepath.Join(text, "tls.crt"), filepath.Join(text, "tls.key")}, nil
		}
		return Pair{text, text}, nil
	}
	cert, key, ok := strings.Cut(text, ":")
	switch {
	case !ok:
		return Pair{text, text}, nil
	case cert == "" || key == "" || strings.Contains(key, ":"):
		return Pair{}, fmt.Errorf("%q is not CERT:KEY", text)
	}
	return Pair{cert, key}, nil
}

// String returns the pair as ParsePair reads it.
func (p Pair) String() string {
	if p.Cert == p.Key {
		return p.Cert
	}
	return p.Cert + ":" + p.Key
}

// read returns the bytes of both files.
func (p Pair) read() (cert, key []byte, err error) {
	if cert, err = readFile(p.Cert); err != nil {
		return nil, nil, err
	}
	if key, err = readFile(p.Key); err != nil {
		return nil, nil, err
	}
	return cert, key, nil
}

// readFile reads a file that is no longer than maxPEM. What is no file, a pipe
// say, is not opened: that could wait for ever, and be read once alone.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	if err == nil && len(data) > maxPEM {
		err = fmt.Errorf("%s is longer than 1 MiB", name)
	}
	return data, err
}

// parse makes a certificate of what read has returned. Its errors are
// *PairErrors.
func (p Pair) parse(cert, key []byte) (*tls.Certificate, error) {
	if !bytes.Contains(cert, []byte("-----BEGIN CERTIFICATE-----")) {
		return nil, p.fails(NoCertificate, nil)
	}
	if block := keyBlock(key); block == nil {
		return nil, p.fails(NoKey, nil)
	} else if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, p.fails(EncryptedKey, nil)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		if strings.Contains(err.Error(), "does not match") { // no type of its own
			return nil, p.fails(KeyMismatch, err)
		}
		return nil, p.fails(Malformed, err)
	}
	return &pair, nil
}

func keyBlock(data []byte) *pem.Block {
	for {
		block, rest := pem.Decode(data)
		if block == nil || strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return block
		}
		data = rest
	}
}

// load reads and parses the pair. Two files cannot be read at one moment: if
// they do not fit, they are read once more, because one may just have been
// replaced.
func (p Pair) load() (*tls.Certificate, error) {
	var errs error
	for range 2 {
		cert, key, err := p.read()
		if err != nil {
			return nil, p.fails(Unreadable, err)
		}
		pair, err := p.parse(cert, key)
		if err == nil {
			return pair, nil
		}
		errs = err
	}
	return nil, errs
}

// chainTrouble says what clients will not like about a certificate and its
// chain, or "". roots are the authorities that they are taken to know; nil are
// those of the system.
func chainTrouble(cert *tls.Certificate, roots *x509.CertPool) (Defect, string) {
	chain, err := parseChain(cert)
	if err != nil {
		return Malformed, err.Error()
	}
	leaf, now := chain[0], time.Now()
	if now.After(leaf.NotAfter) {
		return Expired, expiredText(leaf)
	}
	if len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 {
		return NoNames, "the certificate names no host (no subjectAltName): clients refuse it"
	}
	if !forServers(leaf) {
		return NotForServers, "the certificate is not for servers (its extended key usage lacks serverAuth): clients refuse it"
	}
	if now.Before(leaf.NotBefore) {
		return NotYetValid, "the certificate is not valid before " + leaf.NotBefore.UTC().Format(time.RFC3339) + ", or the clock of this machine is behind"
	}
	for i, parent := range chain[1:] {
		if chain[i].CheckSignatureFrom(parent) != nil {
			return WrongOrder, fmt.Sprintf("certificate %d of the chain (%s) has not signed the one before it: put them in order, the server's own first", i+2, parent.Subject)
		}
	}
	if verifies(chain, roots) {
		return "", ""
	}
	last := chain[len(chain)-1]
	switch {
	case isSelfSigned(last) && len(chain) == 1:
		return SelfSigned, "the certificate is self-signed: each client must be told to trust it"
	case isSelfSigned(last) || last.IsCA:
		return "", "" // of a private authority
	}
	return MissingIntermediate, fmt.Sprintf("the intermediate certificate of %q is missing in the file: append it; if that is itself the root that clients trust, name its file under tls.trust", last.Issuer)
}

func expiredText(leaf *x509.Certificate) string {
	return "the certificate expired on " + leaf.NotAfter.UTC().Format(time.RFC3339) + ": clients refuse it until it is replaced"
}

// forServers reports whether clients take the certificate for one of a server.
func forServers(leaf *x509.Certificate) bool {
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
}

func parseChain(cert *tls.Certificate) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for i, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the chain: %w", i+1, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("the chain is empty")
	}
	return chain, nil
}

func verifies(chain []*x509.Certificate, roots *x509.CertPool) bool {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		CurrentTime: chain[0].NotBefore.Add(time.Minute), // expiry is another matter
	})
	return err == nil
}

func isSelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}
