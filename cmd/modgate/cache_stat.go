package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/modgate/modgate/cache"
)

func statCommand(p *process) *cobra.Command {
	var alone, asJSON bool
	cmd := &cobra.Command{
		Use:   "stat",
		Short: "Say what is in the cache",
		Long: `Stat counts the objects of the cache directory and, where replicas share a
bucket or a Redis that the configuration names, those in there. A bucket is
listed a thousand objects at a time: one with millions takes minutes.`,
		Args: cobra.NoArgs,
	}
	settings := addSettings(cmd, p, "cache.dir", "cache.max_size")
	cmd.Flags().BoolVar(&alone, "alone", false, "Count the directory, and not what replicas share.")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, store, err := openDirectory(settings)
		if err != nil {
			return err
		}
		defer store.Close()
		a := new(app)
		defer a.close() // before the store
		tiers := []tier{a.directoryTier(store)}
		if !alone {
			if tiers, err = a.allTiers(cmd.Context(), s, store); err != nil {
				return err
			}
		}
		r, err := statTiers(cmd.Context(), tiers)
		err = a.advised(&s.Config, err)
		if r == nil {
			return err
		}
		r.Directory, r.Limit = s.Cache.Dir, int64(s.Cache.MaxSize)
		// Documented by package disk.
		if quarantined, err := os.ReadDir(filepath.Join(s.Cache.Dir, ".modgate", "quarantine")); err == nil {
			r.Quarantined = len(quarantined)
		}
		if asJSON {
			return errors.Join(err, writeJSON(p.stdout, r))
		}
		r.print(p.stdout)
		return err
	}
	return cmd
}

// amount is a number of objects and the bytes that they take on disk, as
// cache.max_size counts them.
type amount struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

// statReport is of one tier; that of the directory has those of the others.
type statReport struct {
	Tier        string            `json:"tier"`
	Directory   string            `json:"directory,omitempty"`
	Limit       int64             `json:"limit_bytes,omitempty"`
	Total       amount            `json:"total"`
	Modules     int               `json:"modules"`
	Kinds       map[string]amount `json:"kinds"`
	Oldest      time.Time         `json:"oldest_use,omitzero"`
	Quarantined int               `json:"quarantined"`
	Shared      []*statReport     `json:"shared,omitempty"`
}

// statTiers counts one tier after the other. A tier that cannot be listed is an
// error, and left out; the report is nil if that is the first.
func statTiers(ctx context.Context, tiers []tier) (*statReport, error) {
	all, err := stat(ctx, tiers[0])
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, t := range tiers[1:] {
		one, err := stat(ctx, t)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all.Shared = append(all.Shared, one)
	}
	return all, errors.Join(errs...)
}

func stat(ctx context.Context, t tier) (*statReport, error) {
	r := &statReport{Tier: t.name, Kinds: map[string]amount{}}
	modules := map[string]struct{}{}
	for e, err := range t.list(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		size := e.Size
		if t.name == tierDirectory {
			size = cache.Taken(e.Size)
		}
		o := parseName(e.Name)
		if o.module != "" {
			modules[o.module] = struct{}{}
		}
		k := r.Kinds[o.kind]
		r.Kinds[o.kind] = amount{k.Objects + 1, k.Bytes + size}
		r.Total.Objects++
		r.Total.Bytes += size
		if r.Oldest.IsZero() || e.Used.Before(r.Oldest) {
			r.Oldest = e.Used
		}
	}
	r.Modules = len(modules)
	if t.quarantined == nil {
		return r, nil
	}
	var err error
	if r.Quarantined, err = t.quarantined(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", t.name, err)
	}
	return r, nil
}

func (r *statReport) print(w io.Writer) {
	if r.Tier == tierDirectory {
		fmt.Fprintf(w, "directory    %s\n", r.Directory)
		fmt.Fprintf(w, "size         %s, %s\n", Size(r.Total.Bytes).Human(), limitText(Size(r.Limit)))
	} else {
		fmt.Fprintf(w, "\n%s\n", r.Tier)
		fmt.Fprintf(w, "size         %s\n", Size(r.Total.Bytes).Human())
	}
	fmt.Fprintf(w, "modules      %d\n", r.Modules)
	fmt.Fprintf(w, "objects      %d\n", r.Total.Objects)
	for _, kind := range objectKinds {
		if k, ok := r.Kinds[kind]; ok {
			fmt.Fprintf(w, "  %-10s %d, %s\n", kind, k.Objects, Size(k.Bytes).Human())
		}
	}
	if !r.Oldest.IsZero() && r.Tier == tierDirectory {
		fmt.Fprintf(w, "oldest use   %s\n", r.Oldest.Local().Format("2006-01-02 15:04"))
	}
	if r.Quarantined > 0 && r.Tier == tierDirectory {
		fmt.Fprintf(w, "quarantined  %d, in %s\n", r.Quarantined, filepath.Join(r.Directory, ".modgate", "quarantine"))
	} else if r.Quarantined > 0 {
		fmt.Fprintf(w, "quarantined  %d, in .quarantine/ below the prefix\n", r.Quarantined)
	}
	for _, one := range r.Shared {
		one.print(w)
	}
}
