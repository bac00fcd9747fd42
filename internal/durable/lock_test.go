//go:build unix

package durable_test

import (
	"os"
	"testing"
	"time"

	"github.com/modgate/modgate/internal/durable"
)

// One has the lock of a file or directory, until it is closed.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/lock"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, file} {
		first, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		if ok, err := durable.TryLock(first); !ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
		if ok, err := durable.TryLock(second); ok || err != nil {
			t.Errorf("two have it: %v, %v", ok, err)
		}
		got := make(chan error, 1)
		go func() { got <- durable.Lock(second) }()
		select {
		case err := <-got:
			t.Errorf("did not wait: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
}
