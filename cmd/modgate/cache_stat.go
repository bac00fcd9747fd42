package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/modgate/modgate/cache"
)

func statCommand(p *process) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{Use: "stat", Short: "Say what is in the cache", Args: cobra.NoArgs}
	settings := addSettings(cmd, p, "cache.dir", "cache.max_size")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, store, err := openDirectory(settings)
		if err != nil {
			return err
		}
		defer store.Close()
		r, err := stat(cmd.Context(), store)
		if err != nil {
			return err
		}
		r.Directory, r.Limit = s.Cache.Dir, int64(s.Cache.MaxSize)
		// Documented by package disk.
		if quarantined, err := os.ReadDir(filepath.Join(s.Cache.Dir, ".modgate", "quarantine")); err == nil {
			r.Quarantined = len(quarantined)
		}
		if asJSON {
			return writeJSON(p.stdout, r)
		}
		r.print(p.stdout)
		return nil
	}
	return cmd
}

// amount is a number of objects and the bytes that they take on disk, as
// cache.max_size counts them.
type amount struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

type statReport struct {
	Directory   string            `json:"directory"`
	Limit       int64             `json:"limit_bytes"`
	Total       amount            `json:"total"`
	Modules     int               `json:"modules"`
	Kinds       map[string]amount `json:"kinds"`
	Oldest      time.Time         `json:"oldest_use,omitzero"`
	Quarantined int               `json:"quarantined"`
}

func stat(ctx context.Context, store cache.Store) (*statReport, error) {
	r := &statReport{Kinds: map[string]amount{}}
	modules := map[string]struct{}{}
	for e, err := range store.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		o := parseName(e.Name)
		if o.module != "" {
			modules[o.module] = struct{}{}
		}
		k := r.Kinds[o.kind]
		r.Kinds[o.kind] = amount{k.Objects + 1, k.Bytes + cache.Taken(e.Size)}
		r.Total.Objects++
		r.Total.Bytes += cache.Taken(e.Size)
		if r.Oldest.IsZero() || e.Used.Before(r.Oldest) {
			r.Oldest = e.Used
		}
	}
	r.Modules = len(modules)
	return r, nil
}

func (r *statReport) print(w io.Writer) {
	fmt.Fprintf(w, "directory    %s\n", r.Directory)
	fmt.Fprintf(w, "size         %s, %s\n", Size(r.Total.Bytes).Human(), limitText(Size(r.Limit)))
	fmt.Fprintf(w, "modules      %d\n", r.Modules)
	fmt.Fprintf(w, "objects      %d\n", r.Total.Objects)
	for _, kind := range objectKinds {
		if k, ok := r.Kinds[kind]; ok {
			fmt.Fprintf(w, "  %-10s %d, %s\n", kind, k.Objects, Size(k.Bytes).Human())
		}
	}
	if !r.Oldest.IsZero() {
		fmt.Fprintf(w, "oldest use   %s\n", r.Oldest.Local().Format("2006-01-02 15:04"))
	}
	if r.Quarantined > 0 {
		fmt.Fprintf(w, "quarantined  %d, in %s\n", r.Quarantined, filepath.Join(r.Directory, ".modgate", "quarantine"))
	}
}
