package disk_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/cachetest"
	"github.com/modgate/modgate/cache/disk"
)

func TestContractWithoutOpenat2(t *testing.T) {
	cachetest.Test(t, func(t *testing.T) cache.Store {
		s := open(t, t.TempDir())
		disk.WithoutOpenat2(s)
		return s
	})
}

func TestChangesOfANameExcludeEachOther(t *testing.T) {
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir) // like two processes
	put(t, a, zipName, "zip", cache.Immutable)
	unlock, err := disk.Hold(t.Context(), a, zipName)
	must(t, err)
	for what, change := range map[string]func(ctx context.Context) error{
		"Put": func(ctx context.Context) error {
			return b.Put(ctx, zipName, strings.NewReader("zip"), cache.PutOptions{})
		},
		"Delete":     func(ctx context.Context) error { return b.Delete(ctx, zipName) },
		"Quarantine": func(ctx context.Context) error { return b.Quarantine(ctx, zipName, "test") },
		"Touch":      func(ctx context.Context) error { return b.Touch(ctx, zipName, time.Now()) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := change(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s while another holds the name: %v", what, err)
		}
		cancel()
	}
	if got := content(t, b, zipName); got != "zip" {
		t.Errorf("reading waits for nobody: %q", got)
	}
	put(t, b, "example.com/other/@v/v1.0.0.zip", "other", cache.Immutable)
	unlock()
	must(t, b.Delete(t.Context(), zipName))
}

func TestAttributesThatMakeNoSense(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	good := `{"size":1,"sha256":"` + sum + `"}` + "\n"
	for _, bad := range []string{
		"", "\n", "null\n", "{}\n", "[]\n", "{\"size\":1}\n", "x", good + "x\n", good + good + good,
		strings.Replace(good, "1", "-1", 1), strings.Replace(good, "ab", "a", 1), strings.Replace(good, "ab", "zz", 1),
		strings.Replace(good, "}", `,"class":"golden"}`, 1), good[:20], strings.Repeat("\x00", 300),
	} {
		if _, _, err := disk.Decode([]byte(bad)); !errors.Is(err, cache.ErrCorrupt) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	for n, ok := range map[int]string{1: good, 2: good + good} {
		if _, got, err := disk.Decode([]byte(ok)); err != nil || got != n {
			t.Errorf("%d: %d, %v", n, got, err)
		}
	}
}

// FuzzAttributes checks that whatever is accepted is written back so that it
// reads the same.
func FuzzAttributes(f *testing.F) {
	sum := strings.Repeat("ab", 32)
	for _, s := range []string{
		"", "{}\n", `{"size":1,"sha256":"` + sum + `"}` + "\n",
		`{"size":5,"sha256":"` + sum + `","h1":"h1:x=","source":"<a>","first_seen":"2026-01-02T03:04:05.000000006Z","checked":"2026-01-02T03:04:05+01:00","class":"precious"}` + "\n",
		`{"size":5,"sha256":"` + sum + `","class":"mutable"}` + "\n" + `{"size":5,"sha256":"` + sum + `","adopted":true}` + "\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		once, n, err := disk.Decode(b)
		if err != nil {
			return
		}
		twice, m, err := disk.Decode(once)
		if err != nil || n != m || !bytes.Equal(once, twice) {
			t.Errorf("%q became %q (%v)", once, twice, err)
		}
	})
}
