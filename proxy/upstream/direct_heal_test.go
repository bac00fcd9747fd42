package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// change rewrites the files below dir that match pattern; there must be some.
func change(dir, pattern string, how func([]byte) []byte) error {
	names, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(pattern)))
	if len(names) == 0 {
		err = errors.Join(err, fmt.Errorf("no %s", pattern))
	}
	for _, name := range names {
		data, readErr := os.ReadFile(name)
		err = errors.Join(err, readErr, os.Chmod(name, 0o600), os.WriteFile(name, how(data), 0o600))
	}
	return err
}

func empty([]byte) []byte { return nil }

// A repository that was killed while it was made, or that a disk has spoilt,
// does not stand in the way.
func TestDirectHealsRepositories(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"no remote": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "config"), []byte("[core]\n\tbare = true\n"), 0o600)
		},
		"no objects": func(dir string) error { return os.RemoveAll(filepath.Join(dir, "objects")) },
		"no HEAD":    func(dir string) error { return os.Remove(filepath.Join(dir, "HEAD")) },
		"empty packs": func(dir string) error {
			packs, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "*.pack"))
			if len(packs) == 0 {
				err = errors.New("no packs")
			}
			for _, p := range packs {
				err = errors.Join(err, os.Chmod(p, 0o600), os.Truncate(p, 0))
			}
			return err
		},
		// As a power failure leaves what was not yet written.
		"half a pack": func(dir string) error {
			return change(dir, "objects/pack/*.pack", func(data []byte) []byte {
				clear(data[len(data)/2:])
				return data
			})
		},
		"an empty index":  func(dir string) error { return change(dir, "objects/pack/*.idx", empty) },
		"an empty tag":    func(dir string) error { return change(dir, "refs/tags/v1.0.0", empty) },
		"no shallow":      func(dir string) error { return change(dir, "shallow", empty) },
		"an empty config": func(dir string) error { return change(dir, "config", empty) },
		"zeros for a HEAD": func(dir string) error {
			return change(dir, "HEAD", func(data []byte) []byte { clear(data); return data })
		},
		"garbage packs": func(dir string) error {
			packs, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "*.pack"))
			for _, p := range packs {
				err = errors.Join(err, os.Chmod(p, 0o600), os.WriteFile(p, bytes.Repeat([]byte("x"), 5000), 0o600))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newGitWorld(t, nil)
			w.repo(lib, tagged("v1.0.0"), tagged("v1.1.0"))
			must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
			dir := w.direct.kept(&place{seen: "https://" + lib + ".git"})
			if err := spoil(dir); err != nil {
				t.Fatal(err)
			}
			must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
			must[[]byte](t)(w.read(lib, "v1.1.0", "zip"))
		})
	}
}
