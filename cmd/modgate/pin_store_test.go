package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/sumdb"
)

var privateVersion = module.Version{Path: "git.corp.example/Team/lib", Version: "v1.0.0"}

func pinsIn(t *testing.T, dir string) *sumdb.Pins {
	t.Helper()
	files, err := openPins(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	pins, err := sumdb.NewPins(sumdb.PinsConfig{Storage: files})
	if err != nil {
		t.Fatal(err)
	}
	return pins
}

// A pin that has rotted is never taken for one that is not there: that would
// let a moved tag in.
func TestPinThatRotted(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func([]byte) []byte{
		"a flipped bit": func(b []byte) []byte { b[len(b)/3] ^= 1; return b },
		"cut off":       func(b []byte) []byte { return b[:len(b)/2] },
		"without sum":   func(b []byte) []byte { s, _, _ := strings.Cut(string(b), pinSum); return []byte(s) },
		"empty":         func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			pins := pinsIn(t, dir)
			if err := pins.Verify(t.Context(), privateVersion, "zip", "h1:a="); err != nil {
				t.Fatal(err)
			}
			stored, err := sumdb.PinName(privateVersion)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, ".modgate", stored)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, spoil(data), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				for _, hash := range []string{"h1:a=", "h1:b="} {
					if err := pins.Verify(t.Context(), privateVersion, "zip", hash); err == nil || errors.Is(err, fs.ErrNotExist) {
						t.Errorf("Verify(%s) = %v", hash, err)
					}
				}
			}
		})
	}
}

// Two processes on one directory agree on one content.
func TestPinsOfTwoProcesses(t *testing.T) {
	t.Parallel()
	for range 30 {
		dir := t.TempDir()
		var (
			wg  sync.WaitGroup
			got [2]error
		)
		for i, hash := range []string{"h1:a=", "h1:b="} {
			pins := pinsIn(t, dir)
			wg.Go(func() { got[i] = pins.Verify(t.Context(), privateVersion, "zip", hash) })
		}
		wg.Wait()
		if (got[0] == nil) == (got[1] == nil) {
			t.Fatalf("both or none: %v, %v", got[0], got[1])
		}
	}
}
