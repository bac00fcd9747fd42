package disk_test

import (
	"testing"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/cachetest"
	"github.com/modgate/modgate/cache/disk"
)

func TestContract(t *testing.T) {
	cachetest.Test(t, func(t *testing.T) cache.Store {
		dir := t.TempDir()
		s := open(t, dir)
		t.Cleanup(func() { cachetest.Leftovers(t, dir+"/.modgate/spool") })
		return s
	})
}

func open(t testing.TB, dir string) *disk.Store {
	t.Helper()
	s, err := disk.New(disk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
