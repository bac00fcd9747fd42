package tlsmgr

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// text collects a log.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

func (t *text) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(t, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// ask returns the certificate that m serves to a client that names host, with
// the usual abilities.
func ask(t *testing.T, m *Manager, host string) *x509.Certificate {
	t.Helper()
	cert, err := m.certificate(&tls.ClientHelloInfo{ServerName: host, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}})
	if err != nil {
		t.Fatalf("for %q: %v", host, err)
	}
	return cert.Leaf
}

func TestWhichCertificate(t *testing.T) {
	pki, dir := tlstest.New(t), t.TempDir()
	pair := func(name string, hosts ...string) Pair {
		cert, key := pki.Write(dir, name, pki.Issue(tlstest.Leaf{Hosts: hosts}))
		return Pair{cert, key}
	}
	m, err := New(Config{Mode: Files, Roots: pki.Pool(), Files: []Pair{
		pair("first", "go.corp.example", "127.0.0.1"),
		pair("wild", "*.dev.example"),
		pair("exact", "a.dev.example", "Upper.Example"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"go.corp.example": "go.corp.example", "GO.corp.example.": "go.corp.example",
		"b.dev.example": "*.dev.example", "a.dev.example": "a.dev.example",
		"upper.example":   "a.dev.example",
		"a.b.dev.example": "go.corp.example", "dev.example": "go.corp.example", // a wildcard is for one label
		"": "go.corp.example", "unknown.example": "go.corp.example",
	} {
		if got := ask(t, m, host).Subject.CommonName; got != want {
			t.Errorf("for %q: %s, want %s", host, got, want)
		}
	}
	for _, s := range m.Status() {
		if s.Alarm != "" {
			t.Errorf("%s: %s", s.Name, s.Alarm)
		}
	}
}

// Every pair that cannot be served is told at the start, all at once, with its
// file and a remedy.
func TestBadPairsAtTheStart(t *testing.T) {
	pki, dir := tlstest.New(t), t.TempDir()
	cert, key := pki.Write(dir, "good", pki.Issue(tlstest.Leaf{}))
	_, other := pki.Write(dir, "other", pki.Issue(tlstest.Leaf{}))
	junk := filepath.Join(dir, "junk")
	os.WriteFile(junk, []byte("no PEM"), 0o600)
	encrypted := filepath.Join(dir, "encrypted")
	os.WriteFile(encrypted, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), 0o600)
	cut := filepath.Join(dir, "cut")
	data, _ := os.ReadFile(cert)
	os.WriteFile(cut, data[:200], 0o600)
	cases := []struct {
		pair   Pair
		defect Defect
		want   string
	}{
		{Pair{cert, other}, KeyMismatch, "the key in " + other + " is not that of the first certificate in " + cert + ": "},
		{Pair{filepath.Join(dir, "none"), key}, Unreadable, "no such file"},
		{Pair{cert, filepath.Join(dir, "none")}, Unreadable, "no such file"},
		{Pair{key, key}, NoCertificate, "holds no certificate"},
		{Pair{cert, cert}, NoKey, "holds no private key"},
		{Pair{cert, junk}, NoKey, "holds no private key"},
		{Pair{cert, encrypted}, EncryptedKey, "is encrypted"},
		{Pair{cut, key}, Malformed, "failed to find any PEM data"},
	}
	var all []Pair
	for _, c := range cases {
		all = append(all, c.pair)
		_, err := New(Config{Mode: Files, Files: []Pair{c.pair}})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want %q", c.pair, err, c.want)
		}
		if found := PairErrors(err); len(found) != 1 || found[0].Pair != c.pair || found[0].Defect != c.defect || found[0].Remedy() == "" || !strings.HasSuffix(err.Error(), " → "+found[0].Remedy()) {
			t.Errorf("%s: %+v", c.pair, found)
		}
	}
	_, err := New(Config{Mode: Files, Files: all})
	if err == nil || strings.Count(err.Error(), "\n") != len(cases)-1 {
		t.Errorf("not all mistakes at once: %v", err)
	}
	if found := PairErrors(fmt.Errorf("tls: %w", err)); len(found) != len(cases) {
		t.Errorf("%d of %d are found", len(found), len(cases))
	}
}

// What clients may refuse is no reason not to start, but is told.
func TestChainTrouble(t *testing.T) {
	pki, dir := tlstest.New(t), t.TempDir()
	swapped := pki.Issue(tlstest.Leaf{})
	swapped.Certificate = append(swapped.Certificate, swapped.Certificate[0])
	for name, c := range map[string]struct {
		cert   tls.Certificate
		roots  *x509.CertPool
		want   string
		defect Defect
	}{
		"good":                             {pki.Issue(tlstest.Leaf{}), pki.Pool(), "", ""},
		"good for an unknown root":         {pki.Issue(tlstest.Leaf{}), x509.NewCertPool(), "", ""},
		"by the root":                      {pki.Issue(tlstest.Leaf{ByRoot: true}), pki.Pool(), "", ""},
		"by an unknown root":               {pki.Issue(tlstest.Leaf{ByRoot: true}), x509.NewCertPool(), "name its file under tls.trust", MissingIntermediate},
		"intermediate missing":             {pki.Issue(tlstest.Leaf{NoIntermediate: true}), pki.Pool(), "intermediate certificate of \"CN=test intermediate\" is missing", MissingIntermediate},
		"self-signed":                      {pki.Issue(tlstest.Leaf{SelfSigned: true}), pki.Pool(), "self-signed", SelfSigned},
		"common name only":                 {pki.Issue(tlstest.Leaf{NoNames: true}), pki.Pool(), "names no host", NoNames},
		"for clients alone":                {pki.Issue(tlstest.Leaf{Client: true}), pki.Pool(), "lacks serverAuth", NotForServers},
		"not yet valid":                    {pki.Issue(tlstest.Leaf{From: time.Now().Add(time.Hour), Until: time.Now().Add(2 * time.Hour)}), pki.Pool(), "not valid before", NotYetValid},
		"expired":                          {pki.Issue(tlstest.Leaf{From: time.Now().Add(-2 * time.Hour), Until: time.Now().Add(-time.Hour)}), pki.Pool(), "expired on", Expired},
		"expired and intermediate missing": {pki.Issue(tlstest.Leaf{NoIntermediate: true, From: time.Now().Add(-2 * time.Hour), Until: time.Now().Add(-time.Hour)}), pki.Pool(), "expired on", Expired},
		"something else where the CA is":   {swapped, pki.Pool(), "put them in order", WrongOrder},
	} {
		t.Run(name, func(t *testing.T) {
			certFile, keyFile := pki.Write(dir, "pair", c.cert)
			var log text
			m, err := New(Config{Mode: Files, Roots: c.roots, Files: []Pair{{certFile, keyFile}}, Logger: log.logger()})
			if err != nil {
				t.Fatal(err)
			}
			st := m.Status()[0]
			got := st.Alarm
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) || st.Defect != c.defect || st.KeyFile != keyFile {
				t.Errorf("%+v, want %s, %q", st, c.defect, c.want)
			}
			if (c.want == "") != (log.String() == "") || !strings.Contains(strings.ReplaceAll(log.String(), `\"`, `"`), c.want) {
				t.Errorf("logged %q, want %q", log.String(), c.want)
			}
		})
	}
}

// A certificate that expires is told so, whatever was wrong with it before.
func TestExpiryIsTold(t *testing.T) {
	pki := tlstest.New(t)
	cert := pki.Issue(tlstest.Leaf{From: time.Now().Add(-2 * time.Hour), Until: time.Now().Add(-time.Hour)})
	cert.Leaf, _ = x509.ParseCertificate(cert.Certificate[0])
	expired := expiredText(cert.Leaf)
	for before, want := range map[string]string{"": expired, expired: expired, "not reloaded": expired + "; not reloaded"} {
		s := Status{Alarm: before}
		if s.describe(&cert); s.Alarm != want || before == "" && s.Defect != Expired {
			t.Errorf("after %q: %q, want %q", before, s.Alarm, want)
		}
	}
}

// A certificate that becomes valid, and then expires, while nobody touches its
// files: the alarm follows, and is counted.
func TestAlarmsFollowTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pki, dir := tlstest.New(t), t.TempDir()
		cert, key := pki.Write(dir, "pair", pki.Issue(tlstest.Leaf{From: time.Now().Add(time.Minute), Until: time.Now().Add(3 * time.Minute)}))
		var log text
		m, err := New(Config{Mode: Files, Files: []Pair{{cert, key}}, Roots: pki.Pool(), Logger: log.logger()})
		if err != nil {
			t.Fatal(err)
		}
		go m.Run(t.Context())
		for _, c := range []struct {
			alarm  string
			defect Defect
		}{{"not valid before", NotYetValid}, {"", ""}, {"expired on", Expired}} {
			synctest.Wait()
			s, counted := m.Status()[0], testutil.ToFloat64(m.metrics.alarms)
			if (c.alarm == "") != (s.Alarm == "") || !strings.Contains(s.Alarm, c.alarm) || s.Defect != c.defect || (counted == 1) != (c.alarm != "") {
				t.Errorf("%+v, %v counted, want %q", s, counted, c.alarm)
			}
			time.Sleep(100 * time.Second)
		}
		if n := strings.Count(log.String(), "clients may refuse"); n != 2 {
			t.Errorf("told %d times:\n%s", n, log.String())
		}
	})
}

// An alarm that a new certificate has as well is not over in between.
func TestAlarmStaysOverAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pki, dir := tlstest.New(t), t.TempDir()
		write := func() (cert, key string) {
			p := pki.Issue(tlstest.Leaf{})
			p.Certificate = p.Certificate[:1] // the intermediate one is missing
			return pki.Write(dir, "pair", p)
		}
		cert, key := write()
		var log text
		m, err := New(Config{Mode: Files, Files: []Pair{{cert, key}}, Roots: pki.Pool(), Logger: log.logger()})
		if err != nil {
			t.Fatal(err)
		}
		go m.Run(t.Context())
		write()
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := m.Status()[0]; s.Defect != MissingIntermediate || s.Alarm == "" {
			t.Errorf("%+v", s)
		}
		if l := log.String(); !strings.Contains(l, "certificate reloaded") || strings.Contains(l, "is over") {
			t.Error(l)
		}
	})
}

// A key that everybody may read is told, and what is no file is not waited for.
func TestKeyOfEverybody(t *testing.T) {
	pki, dir := tlstest.New(t), t.TempDir()
	cert, key := pki.Write(dir, "pair", pki.Issue(tlstest.Leaf{}))
	for mode, want := range map[os.FileMode]int{0o600: 0, 0o640: 0, 0o644: 1} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		var log text
		if _, err := New(Config{Mode: Files, Files: []Pair{{cert, key}}, Roots: pki.Pool(), Logger: log.logger()}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "may read a private key: chmod 600"); n != want {
			t.Errorf("mode %o: told %d times:\n%s", mode, n, log.String())
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Mode: Files, Files: []Pair{{pipe, key}}}); err == nil || !strings.Contains(err.Error(), pipe+" is not a file") {
		t.Error(err)
	}
}

// kubernetes lays files out as the kubelet does: names that lead through ..data
// to a directory that is replaced as a whole.
type kubernetes struct {
	t   *testing.T
	dir string
	n   int
}

func (k *kubernetes) publish(cert tls.Certificate) {
	k.t.Helper()
	k.n++
	version := filepath.Join(k.dir, "..v"+strings.Repeat("i", k.n))
	steps := []error{
		os.Mkdir(version, 0o700),
		os.WriteFile(filepath.Join(version, "tls.crt"), tlstest.PEM(cert), 0o600),
		os.WriteFile(filepath.Join(version, "tls.key"), tlstest.KeyPEM(k.t, cert), 0o600),
		os.Symlink(filepath.Base(version), filepath.Join(k.dir, "..tmp")),
		os.Rename(filepath.Join(k.dir, "..tmp"), filepath.Join(k.dir, "..data")),
	}
	if k.n == 1 {
		steps = append(steps, os.Symlink("..data/tls.crt", filepath.Join(k.dir, "tls.crt")), os.Symlink("..data/tls.key", filepath.Join(k.dir, "tls.key")))
	}
	for _, err := range steps {
		if err != nil {
			k.t.Fatal(err)
		}
	}
}

// TestReload goes through the ways in which files change. A pair that is good
// is served at the next look; one that is not leaves the old one and raises an
// alarm until it is mended.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pki := tlstest.New(t)
		k := &kubernetes{t: t, dir: t.TempDir()}
		issue := func(name string) tls.Certificate { return pki.Issue(tlstest.Leaf{Hosts: []string{name}}) }
		k.publish(issue("first"))
		pair, err := ParsePair(k.dir)
		if err != nil {
			t.Fatal(err)
		}
		var log text
		m, err := New(Config{Mode: Files, Files: []Pair{pair}, Roots: pki.Pool(), Logger: log.logger()})
		if err != nil {
			t.Fatal(err)
		}
		go m.Run(t.Context())
		write := func(name string, data []byte) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(k.dir, "..data", name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		after := func(step, want, alarm string) {
			t.Helper()
			time.Sleep(m.cfg.Poll + time.Millisecond)
			synctest.Wait()
			if got := ask(t, m, "").Subject.CommonName; got != want {
				t.Errorf("%s: %s is served, want %s", step, got, want)
			}
			if got := m.Status()[0].Alarm; (alarm == "") != (got == "") || !strings.Contains(got, alarm) {
				t.Errorf("%s: alarm %q, want %q", step, got, alarm)
			}
		}
		after("nothing changed", "first", "")
		k.publish(issue("second"))
		after("symbolic link swapped", "second", "")
		third := issue("third")
		write("tls.crt", tlstest.PEM(third))
		after("new certificate, old key", "second", "not that of the first certificate")
		if d := m.Status()[0].Defect; d != KeyMismatch {
			t.Errorf("the defect is %q", d)
		}
		write("tls.key", tlstest.KeyPEM(t, third))
		after("the key comes too", "third", "")
		write("tls.crt", tlstest.PEM(third)[:150])
		after("cut off", "third", "PEM")
		write("tls.crt", tlstest.PEM(third))
		after("mended", "third", "")
		k.publish(pki.Issue(tlstest.Leaf{Hosts: []string{"expired"}, From: time.Now().Add(-time.Hour), Until: time.Now().Add(-time.Minute)}))
		after("expired", "third", "expired on")
		if err := os.Remove(filepath.Join(k.dir, "tls.key")); err != nil {
			t.Fatal(err)
		}
		after("key removed", "third", "no such file")
		if n := strings.Count(log.String(), "level=ERROR"); n != 4 {
			t.Errorf("%d errors logged, want one for each change for the worse:\n%s", n, log.String())
		}
		if n := strings.Count(log.String(), `level=INFO msg="the alarm about a certificate is over"`); n != 2 {
			t.Errorf("%d alarms are over, want one for each change for the better:\n%s", n, log.String())
		}
	})
}
