package s3_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
)

// What was put aside long ago goes, but for the last 16 objects; nothing of today
// does, however much there is.
func TestQuarantineIsEmptied(t *testing.T) {
	server := sharedtest.NewS3(t)
	c := config(server)
	s := open(t, c)
	const more = 5
	for i := range 16 + more {
		name := fmt.Sprintf("example.com/m/@v/v1.%d.0.mod", i)
		put(t, s, name, []byte(name))
		if err := s.Quarantine(t.Context(), name, "test"); err != nil {
			t.Fatal(err)
		}
	}
	left := func() []string {
		t.Helper()
		kept, err := filepath.Glob(filepath.Join(server.Dir, c.Prefix, ".quarantine/*/example.com/m/@v/*.mod"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := s.Quarantined(t.Context())
		if err != nil || n != len(kept) {
			t.Errorf("Quarantined: %d, %v; there are %d", n, err, len(kept))
		}
		return kept
	}
	if err := s.EmptyQuarantine(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	kept := left()
	if len(kept) != 16+more {
		t.Fatalf("of today %d are left", len(kept))
	}
	// All but one of those that are too many are of yesterday, as the storage
	// sees it. The one that is not ends the search: what is behind it is younger.
	yesterday := time.Now().Add(-25 * time.Hour)
	for _, file := range kept[:more-1] {
		if err := os.Chtimes(file, yesterday, yesterday); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.EmptyQuarantine(t.Context(), 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	if now := left(); len(now) != 17 || now[0] != kept[more-1] {
		t.Errorf("%d are left, from %q on", len(now), now[0])
	}
	// Run does so when something is put aside.
	for _, file := range left() {
		if err := os.Chtimes(file, yesterday, yesterday); err != nil {
			t.Fatal(err)
		}
	}
	const name = "example.com/m/@v/v2.0.0.mod"
	put(t, s, name, []byte(name))
	if err := s.Quarantine(t.Context(), name, "test"); err != nil {
		t.Fatal(err)
	}
	await(t, func() error {
		if n, err := s.Quarantined(t.Context()); n != 16 {
			return fmt.Errorf("%d are left, %v", n, err)
		}
		return nil
	})
}
