package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"

	"github.com/modgate/modgate/cache/disk"
)

func cacheCommand(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Look at the cache directory, check it, make room in it",
		Long: `The commands below work on the directory itself, also while a server uses it.
That server may answer what was removed from its memory for up to 15 minutes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(statCommand(p), verifyCommand(p), purgeCommand(p), trimCommand(p))
	return cmd
}

// openDirectory loads the settings and opens the cache directory that they name,
// which must be one already: these commands are not there to make one out of a
// directory that holds something else. The caller closes the store.
func openDirectory(load func() (*settings, error)) (*settings, *disk.Store, error) {
	s, err := load()
	if err != nil {
		return nil, nil, err
	}
	store, err := disk.New(disk.Config{Dir: s.Cache.Dir, MustExist: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("no cache at %s (%s)\n  → name its directory with --cache-dir; modgate serve makes a cache of a directory, or adopts one in the layout of GOPROXY", s.Cache.Dir, s.where(find("cache.dir")))
	}
	return s, store, err
}

// object is a stored name of the protocol in parts.
type object struct {
	module  string // path, unescaped; "" if the name is of no module
	version string // or query; "" for list and latest
	kind    string // info, mod, zip, list, latest, sumdb or other
}

// objectKinds are all kinds, in the order in which they are shown.
var objectKinds = [...]string{"zip", "mod", "info", "list", "latest", "sumdb", otherKind}

// parseName takes a stored name apart. The tree is the one that every GOPROXY
// shares, so this depends on the protocol and not on who wrote it.
func parseName(name string) object {
	if strings.HasPrefix(name, "sumdb/") {
		return object{kind: "sumdb"}
	}
	if escaped, ok := strings.CutSuffix(name, "/@latest"); ok {
		if path, err := module.UnescapePath(escaped); err == nil {
			return object{module: path, kind: "latest"}
		}
	}
	escaped, file, ok := strings.Cut(name, "/@v/")
	path, err := module.UnescapePath(escaped)
	if !ok || err != nil {
		return object{kind: otherKind}
	}
	if file == "list" {
		return object{module: path, kind: "list"}
	}
	i := strings.LastIndexByte(file, '.')
	if i < 0 || !slices.Contains([]string{"info", "mod", "zip"}, file[i+1:]) {
		return object{module: path, kind: otherKind}
	}
	version, err := module.UnescapeVersion(file[:i])
	if err != nil {
		return object{module: path, kind: otherKind}
	}
	return object{path, version, file[i+1:]}
}
