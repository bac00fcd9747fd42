package cache_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/cachetest"
	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/cache/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openDisk(t testing.TB, dir string) *disk.Store {
	t.Helper()
	s, err := disk.New(disk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func openMem(t testing.TB) *mem.Store {
	t.Helper()
	s, err := mem.New(mem.Config{MaxBytes: 8 << 30, MaxObject: 1 << 20, MaxAge: -1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newLimit(t testing.TB, s cache.Store, c cache.LimitConfig) *cache.Limit {
	t.Helper()
	l, err := cache.NewLimit(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestContract(t *testing.T) {
	stacks := map[string]func(t *testing.T) cache.Store{
		"Checked over disk": func(t *testing.T) cache.Store {
			return cache.NewChecked(openDisk(t, t.TempDir()), cache.CheckedConfig{})
		},
		"Checked over mem": func(t *testing.T) cache.Store {
			return cache.NewChecked(openMem(t), cache.CheckedConfig{})
		},
		"Limit over disk": func(t *testing.T) cache.Store {
			d := openDisk(t, t.TempDir())
			return newLimit(t, d, cache.LimitConfig{MaxBytes: 1 << 30, Space: d.Space, MinFree: -1, Sweep: d.Sweep})
		},
		"Limit over mem": func(t *testing.T) cache.Store {
			return newLimit(t, openMem(t), cache.LimitConfig{MaxBytes: 1 << 30})
		},
		"Tiered of mem over disk": func(t *testing.T) cache.Store {
			return cache.NewTiered(openMem(t), openDisk(t, t.TempDir()), cache.TieredConfig{})
		},
		"Tiered of disk over mem": func(t *testing.T) cache.Store {
			return cache.NewTiered(openDisk(t, t.TempDir()), openMem(t), cache.TieredConfig{MaxObject: 1 << 20})
		},
		"all, as served": func(t *testing.T) cache.Store {
			d := openDisk(t, t.TempDir())
			l := newLimit(t, d, cache.LimitConfig{MaxBytes: 1 << 30, Space: d.Space, MinFree: -1, Sweep: d.Sweep})
			return cache.NewTiered(openMem(t), cache.NewChecked(l, cache.CheckedConfig{}), cache.TieredConfig{})
		},
	}
	for name, open := range stacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cachetest.Test(t, open)
		})
	}
}
