package doctor

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Where crypto/x509 looks for authorities on Linux (root_linux.go): the first
// of the files, and all of the directories.
func rootFiles() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/ssl/cert.pem",
	}
}

func rootDirs() []string { return []string{"/etc/ssl/certs", "/etc/pki/tls/certs"} }

// loadRoots finds the authorities that Go trusts on this machine, as
// crypto/x509 does it.
func (d *Doctor) loadRoots() {
	s := d.step("trust", "the authorities that Go trusts on this machine")
	if d.cfg.OS == "darwin" || d.cfg.OS == "windows" {
		d.systemRoots(s)
		return
	}
	l := &rootLoader{d: d, step: s, pool: x509.NewCertPool(), seen: map[string]bool{}}
	l.files()
	l.dirs()
	d.roots = l.pool
	s.saw("%s", counted(len(l.seen), "root"))
	l.byHand()
	if len(l.seen) == 0 && len(s.Codes) == 0 {
		d.found(s, TrustEmpty, "none of the usual files and directories is there: "+strings.Join(rootFiles(), ", "))
	}
}

func (d *Doctor) systemRoots(s *Step) {
	pool, err := d.cfg.SystemRoots()
	if err != nil {
		s.saw("the system's store: %v", err)
		pool = x509.NewCertPool()
	}
	d.roots = pool
	s.saw("the system's store")
	for _, name := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v := d.cfg.env(name); v != "" {
			d.found(s, CertFileIgnored, name+"="+v, "variable", name, "file", v)
		}
	}
}

// fewRoots is how many certificates a file that somebody has made by hand has at
// most; one with more is that of a system, with or without one more.
const fewRoots = 20

type rootLoader struct {
	d    *Doctor
	step *Step
	pool *x509.CertPool
	seen map[string]bool // certificates
}

func (l *rootLoader) files() {
	files := rootFiles()
	given := l.d.cfg.env("SSL_CERT_FILE")
	if given != "" {
		files = []string{given}
	}
	for _, name := range files {
		data, err := l.d.cfg.readFile(name)
		if err != nil {
			if given != "" {
				l.d.found(l.step, CertFileUnreadable, strings.ReplaceAll(err.Error(), l.d.cfg.file(name), name), "file", name)
			}
			continue
		}
		known := len(l.seen)
		n := l.add(data)
		switch {
		case given == "":
		case len(l.seen)-known <= fewRoots:
			l.d.named = append(l.d.named, anyCertificates(data)...)
		default:
			l.d.named = append(l.d.named, l.beyondSystem(data)...)
		}
		from := ""
		if given != "" {
			from = " (SSL_CERT_FILE)"
		}
		l.step.saw("%s%s: %d", name, from, n)
		if given != "" && n == 0 {
			seen, where := name+" has no block that begins with -----BEGIN CERTIFICATE-----", "other"
			if len(bytes.TrimSpace(data)) == 0 {
				seen, where = name+" is empty", "empty"
			}
			l.d.found(l.step, CertFileEmpty, seen, "file", name, "where", where)
		}
		return
	}
}

// beyondSystem returns those certificates of a bundle that the system's own bundle
// does not have: what somebody has appended to a copy of it.
func (l *rootLoader) beyondSystem(bundle []byte) []*x509.Certificate {
	system := map[string]bool{}
	for _, name := range rootFiles() {
		data, err := l.d.cfg.readFile(name)
		if err != nil {
			continue
		}
		for _, cert := range anyCertificates(data) {
			system[string(cert.Raw)] = true
		}
	}
	if len(system) == 0 {
		return nil // nothing to compare with: all would look like somebody's own
	}
	return slices.DeleteFunc(anyCertificates(bundle), func(c *x509.Certificate) bool { return system[string(c.Raw)] })
}

func (l *rootLoader) dirs() {
	dirs := rootDirs()
	given := l.d.cfg.env("SSL_CERT_DIR")
	if given != "" {
		dirs = strings.Split(given, ":")
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(l.d.cfg.file(dir))
		if err != nil {
			if given != "" {
				l.d.found(l.step, CertDirUnreadable, strings.ReplaceAll(err.Error(), l.d.cfg.file(dir), dir), "file", dir)
			}
			continue
		}
		n := 0
		for _, e := range entries {
			if data, err := l.d.cfg.readFile(filepath.Join(dir, e.Name())); err == nil {
				n += l.add(data)
			}
		}
		l.step.saw("%s: %d", dir, n)
	}
}

// add adds the certificates in data and returns how many they are.
func (l *rootLoader) add(data []byte) int {
	n := 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return n
		}
		if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		n++
		if !l.seen[string(cert.Raw)] {
			l.seen[string(cert.Raw)] = true
			l.pool.AddCert(cert)
		}
	}
}
