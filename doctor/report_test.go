package doctor_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/doctor"
)

// noNetwork is a machine that reaches nobody.
type noNetwork struct{}

func (noNetwork) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no such host", Name: "proxy.example", IsNotFound: true}
}

func (noNetwork) dial(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("no network")
}

// machine is a machine with files and no network. files are name, content, …
func machine(t *testing.T, environ []string, files ...string) doctor.Config {
	t.Helper()
	root := t.TempDir()
	files = append([]string{"/etc/os-release", "ID=debian\n"}, files...)
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(root, files[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, "netrc") {
			mode = 0o600
		}
		if err := os.WriteFile(name, []byte(files[i+1]), mode); err != nil {
			t.Fatal(err)
		}
	}
	return doctor.Config{
		Environ: append([]string{"HOME=/home/dev", "PATH=/usr/bin"}, environ...), OS: "linux", Root: root,
		Resolver: noNetwork{}, Dial: noNetwork{}.dial, Now: time.Now, ClockURLs: []string{}, Timeout: 3 * time.Second, Patience: 3 * time.Second,
	}
}

func examine(t *testing.T, c doctor.Config) *doctor.Report {
	t.Helper()
	d, err := doctor.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d.Examine(t.Context())
}

func TestReportForPeople(t *testing.T) {
	c := machine(t, []string{"GOPROXY=https://proxy.example|direct", "GODEBUG=x509skipverify=1"}, "/etc/ssl/certs/ca-certificates.crt", someRoot(t))
	r := examine(t, c)
	var plain, color bytes.Buffer
	if err := errors.Join(r.WriteText(&plain, false), r.WriteText(&color, true)); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/report.golden", plain.String())
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(color.String(), "\x1b") {
		t.Error("colour is not for terminals alone")
	}
	if r.ExitStatus() != 2 {
		t.Errorf("exit status %d", r.ExitStatus())
	}
}

func TestReportForScripts(t *testing.T) {
	r := examine(t, machine(t, []string{"GOPROXY=off"}, "/etc/ssl/certs/ca-certificates.crt", someRoot(t)))
	var out bytes.Buffer
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Findings []struct {
			Code, Severity, Seen string
			Mend                 []string
		}
		Steps []struct{ Name, Verdict string }
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if f := got.Findings[0]; f.Code != "env-goproxy-off" || f.Severity != "fail" || f.Seen != "GOPROXY=off (environment)" || len(f.Mend) != 1 || got.Steps[0].Verdict != "fail" {
		t.Errorf("%s", out.Bytes())
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, url := range []string{"proxy.example", "ftp://proxy.example", "https://", "https://user:s3cret@:443"} {
		c := machine(t, nil)
		c.URL = url
		if _, err := doctor.New(c); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", url, err)
		}
	}
	c := machine(t, nil)
	c.Module.Path = "example.com/m"
	if _, err := doctor.New(c); err == nil {
		t.Error("a module without a version was taken")
	}
	if _, err := doctor.New(doctor.Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
}

// codes returns what r has found, notes left out, and that the disk of this
// machine is low.
func codes(r *doctor.Report) []string {
	out := []string{}
	for _, c := range r.Codes() {
		if c != doctor.DiskLow {
			out = append(out, string(c))
		}
	}
	slices.Sort(out)
	return out
}

// What goes into a ticket has everything but secrets.
func TestBundle(t *testing.T) {
	w := newWorld(t)
	w.netrc("machine localhost login me password t0ken\n")
	w.config.URL = strings.Replace(w.secure(w.good()), "https://", "https://me:hunter2@", 1)
	r := examine(t, w.config)
	var out bytes.Buffer
	if err := r.WriteBundle(&out, "modgate test"); err != nil {
		t.Fatal(err)
	}
	archive, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range archive.File {
		names = append(names, file.Name)
		f, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		if err != nil || len(data) == 0 {
			t.Errorf("%s: %d bytes, %v", file.Name, len(data), err)
		}
		if bytes.Contains(data, []byte("hunter2")) || bytes.Contains(data, []byte("t0ken")) {
			t.Errorf("%s has a secret:\n%s", file.Name, data)
		}
	}
	want := []string{"modgate-doctor/report.txt", "modgate-doctor/report.json", "modgate-doctor/chain.pem", "modgate-doctor/about.txt"}
	if !slices.Equal(names, want) {
		t.Error(names)
	}
}
