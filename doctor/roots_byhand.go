package doctor

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
)

// Where people put the authorities of their company: Debian and Alpine, and
// RHEL. Each system makes its bundle from that with a command of its own.
func rootsByHand() []string {
	return []string{"/usr/local/share/ca-certificates", "/etc/pki/ca-trust/source/anchors"}
}

// byHand says which authorities were added by hand, and finds those that were
// not taken into the bundle.
func (l *rootLoader) byHand() {
	for _, dir := range rootsByHand() {
		base := l.d.cfg.file(dir)
		filepath.WalkDir(base, func(name string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return nil // what cannot be read is not there for Go either
			}
			file := filepath.Join(dir, name[len(base):])
			data, err := os.ReadFile(name)
			for _, cert := range anyCertificates(data) {
				switch subject := cert.Subject.String(); {
				case err != nil:
				case l.seen[string(cert.Raw)]:
					l.step.saw("added by hand: %s", subject)
					l.d.named = append(l.d.named, cert)
				case l.d.cfg.env("SSL_CERT_FILE") != "" || l.d.cfg.env("SSL_CERT_DIR") != "":
					l.step.saw("added by hand, but not trusted, as SSL_CERT_FILE or SSL_CERT_DIR name others: %s", subject)
				default:
					l.d.found(l.step, NotInstalled, subject+" is not among the authorities that Go trusts here", "file", file, "value", subject)
				}
			}
			return nil
		})
	}
}

// anyCertificates returns the certificates in data, be it PEM or DER.
func anyCertificates(data []byte) []*x509.Certificate {
	var all []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, cert)
		}
	}
	if cert, err := x509.ParseCertificate(data); err == nil {
		all = append(all, cert)
	}
	return all
}
