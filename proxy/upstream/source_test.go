package upstream

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
)

const mainInfo = "/example.com/a/@v/main.info"

func TestSource(t *testing.T) {
	t.Parallel()
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		proxytest.TestSource(t, func(t *testing.T, mods []*proxytest.Module) proxytest.Source {
			s := proxytest.New(t, mods...)
			s.SetFile(mainInfo, mods[1].Info)
			return newChain(t, local(s.URL))
		})
	})
	t.Run("https", func(t *testing.T) {
		t.Parallel()
		proxytest.TestSource(t, func(t *testing.T, mods []*proxytest.Module) proxytest.Source {
			s := proxytest.NewTLS(t, mods...)
			s.SetFile(mainInfo, mods[1].Info)
			return newChain(t, trusting(local(s.URL), s))
		})
	})
	t.Run("second of two", func(t *testing.T) {
		t.Parallel()
		proxytest.TestSource(t, func(t *testing.T, mods []*proxytest.Module) proxytest.Source {
			empty, s := proxytest.New(t), proxytest.New(t, mods...)
			s.SetFile(mainInfo, mods[1].Info)
			return newChain(t, local(empty.URL+","+s.URL+",off"))
		})
	})
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		proxytest.TestSource(t, func(t *testing.T, mods []*proxytest.Module) proxytest.Source {
			return newChain(t, local("file://"+tree(t, mods)))
		})
	})
}

func TestTrouble(t *testing.T) {
	t.Parallel()
	proxytest.TestTrouble(t, func(t *testing.T, s *proxytest.Server) proxytest.Source {
		return newChain(t, impatient(s.URL))
	})
}

// tree writes the modules into a directory in the layout of a GOPROXY.
func tree(t *testing.T, mods []*proxytest.Module) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range mods {
		write(proxytest.Path(t, m.Version, "info"), m.Info)
		write(proxytest.Path(t, m.Version, "mod"), m.Mod)
		write(proxytest.Path(t, m.Version, "zip"), m.Zip)
		escaped, err := module.EscapePath(m.Path)
		if err != nil {
			t.Fatal(err)
		}
		write(escaped+"/@v/list", []byte(m.Version.Version+"\n"))
	}
	write(mainInfo, mods[1].Info)
	write("example.com/a/@latest", mods[1].Info)
	return dir
}
