package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// maxStrange is how many names a warning has.
const maxStrange = 5

// warnOfStrangeDir says so where a directory that is to become a cache holds what
// is no tree of modules: likely its name is a slip. It is no error: a volume has
// lost+found, and a tree with a file beside it can be adopted.
func warnOfStrangeDir(dir string, log *slog.Logger) {
	if _, err := os.Stat(filepath.Join(dir, ".modgate")); err == nil {
		return // a cache already
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // who opens the cache says so
	}
	var names []string
	for _, e := range entries {
		if !canBeModules(e) {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return
	}
	log.Warn("cache.dir is no cache yet and holds what is no module; if it belongs to something else, stop and name a directory of its own", "dir", dir, "found", names[:min(len(names), maxStrange)], "of", len(names))
}

// canBeModules reports whether e can stand at the root of a tree of modules, whose
// directories are named like hosts, or of a volume.
func canBeModules(e os.DirEntry) bool {
	name := e.Name()
	return e.IsDir() && (name == "sumdb" || name == "lost+found" || strings.Contains(strings.TrimPrefix(name, "."), "."))
}
