package upstream

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/modgate/modgate/proxy/proxytest"
)

// A directory that is away is not an upstream without modules.
func TestDirIsAway(t *testing.T) {
	t.Parallel()
	c := newChain(t, local("file://"+filepath.Join(t.TempDir(), "mount")))
	if err := askInfo(t, c); verdict(err) != "trouble" {
		t.Errorf("got %v", err)
	}
}

// What is not a plain file within the directory is neither read nor waited
// for.
func TestDirOddFiles(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0")
	root := tree(t, []*proxytest.Module{m, m})
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, m.Info, 0o600); err != nil {
		t.Fatal(err)
	}
	for how, put := range map[string]func(name string) error{
		"pipe":         func(name string) error { return syscall.Mkfifo(name, 0o600) },
		"directory":    func(name string) error { return os.Mkdir(name, 0o700) },
		"link outside": func(name string) error { return os.Symlink(outside, name) },
		"large":        func(name string) error { return os.WriteFile(name, make([]byte, maxInfo+1), 0o600) },
		"web page":     func(name string) error { return os.WriteFile(name, []byte("<html>"), 0o600) },
	} {
		name := filepath.Join(root, infoPathA)
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
		if err := put(name); err != nil {
			t.Fatal(err)
		}
		if err := askInfo(t, newChain(t, local("file://"+root))); verdict(err) != "trouble" {
			t.Errorf("%s: %v", how, err)
		}
	}
}

// A file that shrinks while it is read does not end like a whole one.
func TestDirShrinks(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/big", "v1.0.0", 100<<10)
	root := tree(t, []*proxytest.Module{m, m})
	body, _, err := newChain(t, local("file://"+root)).Open(t.Context(), m.Version, "zip")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := os.Truncate(filepath.Join(root, proxytest.Path(t, m.Version, "zip")), 1000); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || verdict(err) != "trouble" || n != 1000 || strings.Contains(asError(t, err).Public(), root) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A directory may carry a checksum database, too.
func TestDirSumDB(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0")
	root := tree(t, []*proxytest.Module{m, m})
	for name, text := range map[string]string{"supported": "", "latest": "head"} {
		name = filepath.Join(root, "sumdb/sum.test", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := newChain(t, local("file://"+root))
	if data, err := c.SumDB(t.Context(), "sum.test", "/latest"); string(data) != "head" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := c.SumDB(t.Context(), "sum.test", "/lookup/x@v1"); verdict(err) != "absent" {
		t.Error(err)
	}
}
