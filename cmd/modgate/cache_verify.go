package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/sumdb"
)

func verifyCommand(p *process) *cobra.Command {
	var online, keep, alone, asJSON bool
	var rate string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read the whole cache and put aside what is not what it was",
		Long: `Verify reads every object, compares its SHA-256 with the one recorded when it
was stored and, of zips and go.mod files, the h1 hash with the one that was
proven. What differs is moved to .modgate/quarantine and will be fetched again.

Where replicas share a bucket or a Redis that the configuration names, these are
read as well. What is wrong in one of them, or in the directory, is replaced by
what is right in another. The bucket keeps what was wrong below .quarantine/,
with --keep too: whatever is found wrong there is put aside by who reads it.
A server that runs does the same in the background (cache.scrub.rate).

With --online the hashes are compared with the checksum database, which also
proves files that another program has put into the directory. Nobody is asked
about a private module: one that a pattern of private matches, or of which the
cache has a pin or the repository. Run it with the patterns of the server.

The status is 1 if anything was wrong.`,
		Args: cobra.NoArgs,
	}
	settings := addSettings(cmd, p, "cache.dir", "upstream", "private", "sumdb", "tls.trust")
	cmd.Flags().BoolVar(&online, "online", false, "Compare with the checksum database, too.")
	cmd.Flags().BoolVar(&keep, "keep", false, "Report only: leave what is wrong where it is.")
	cmd.Flags().BoolVar(&alone, "alone", false, "Read the directory, and not what replicas share.")
	cmd.Flags().StringVar(&rate, "rate", "100MiB", "How much to read per second; 0 sets no bound.")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var perSecond Size
		if err := perSecond.UnmarshalText([]byte(rate)); err != nil {
			return fmt.Errorf("--rate: %q %w", rate, err)
		}
		s, store, err := openDirectory(settings)
		if err != nil {
			return err
		}
		defer store.Close()
		v := &verification{keep: keep, spools: store, pace: &pace{rate: int64(perSecond)}, workers: runtime.GOMAXPROCS(0)}
		a := new(app)
		defer a.close() // before the store
		if online {
			v.workers *= 8 // most of them wait
			if v.verifier, err = a.openVerifier(cmd.Context(), p, &s.Config, store); err != nil {
				return err
			}
		}
		tiers := []tier{a.directoryTier(store)}
		if !alone {
			if tiers, err = a.allTiers(cmd.Context(), s, store); err != nil {
				return err
			}
		}
		r, err := verifyTiers(cmd.Context(), p, v, tiers)
		err = a.advised(&s.Config, err)
		if len(r.Corrupt) > 0 && !keep {
			r.Aside = filepath.Join(s.Cache.Dir, ".modgate", "quarantine")
		}
		if asJSON {
			err = errors.Join(err, writeJSON(p.stdout, r))
		} else {
			r.print(p.stdout)
		}
		if err == nil && r.bad() {
			return errReported
		}
		return err
	}
	return cmd
}

// openVerifier returns the checksum database that c names, with its records in
// store. It is asked about nothing that is private by c or by what is kept.
func (a *app) openVerifier(ctx context.Context, p *process, c *Config, store cache.Store) (proxy.Verifier, error) {
	if c.SumDB == "off" {
		return nil, errors.New("--online needs a checksum database: sumdb is off")
	}
	rules, err := policy.New(policy.Config{Private: c.Private.String()})
	if err != nil {
		return nil, err
	}
	kept, err := readFleetPrivate(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("%w\n  → --online asks nobody unless it is known what is private; mend that, or go without --online", err)
	}
	if text := kept.warning(rules.IsPrivate); text != "" {
		fmt.Fprintf(p.stderr, "modgate: warning: %s\n", text)
	}
	log := slog.New(slog.DiscardHandler)
	chain, err := a.openSource(c, prometheus.NewRegistry(), log)
	if err != nil {
		return nil, err
	}
	db, err := sumdb.New(sumdb.Config{Name: c.SumDB, Remote: chain, Storage: &proofs{store: cache.NewChecked(store, cache.CheckedConfig{})}, Private: rules.IsPrivate})
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, db.Close)
	return publicOnly{db, rules.IsPrivate, kept}, nil
}

// verifyTiers verifies one tier after the other.
func verifyTiers(ctx context.Context, p *process, v *verification, tiers []tier) (*verifyReport, error) {
	var all *verifyReport
	var errs []error
	for _, t := range tiers {
		progress := newProgress(p.stderr, "verify "+t.name, -1)
		one := &verification{tier: t, spools: v.spools, verifier: v.verifier, keep: v.keep, pace: v.pace, workers: v.workers, seen: func(string) { progress.step() }}
		one.report.Tier = t.name
		errs = append(errs, one.run(ctx))
		progress.end()
		if all == nil {
			all = &one.report
		} else {
			all.Shared = append(all.Shared, &one.report)
		}
	}
	return all, errors.Join(errs...)
}

// finding is one object about which there is something to say.
type finding struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// verifyReport is of one tier; that of the directory has those of the others.
type verifyReport struct {
	Tier     string    `json:"tier"`
	Objects  int       `json:"objects"`
	Bytes    int64     `json:"bytes"`
	Proven   int       `json:"proven_online"`       // by the checksum database, in this run
	NoDigest int       `json:"without_digest"`      // put there by another program, not proven
	Corrupt  []finding `json:"corrupt,omitempty"`   // and put aside
	Healed   int       `json:"healed,omitempty"`    // of those, replaced by what another tier has
	Aside    string    `json:"put_aside,omitempty"` // the directory for those
	Unproven []finding `json:"unproven,omitempty"`  // the checksum database does not know it or cannot be asked
	Failed   []finding `json:"unreadable,omitzero"` // could not be read or put aside

	Shared []*verifyReport `json:"shared,omitempty"`
}

func (r *verifyReport) bad() bool {
	return len(r.Corrupt)+len(r.Failed) > 0 || slices.ContainsFunc(r.Shared, (*verifyReport).bad)
}

func (r *verifyReport) print(w io.Writer) {
	for _, list := range []struct {
		word string
		all  []finding
	}{{"corrupt", r.Corrupt}, {"unreadable", r.Failed}, {"unproven", r.Unproven}} {
		slices.SortFunc(list.all, func(a, b finding) int { return cmp.Compare(a.Name, b.Name) })
		word := list.word
		if r.Tier != tierDirectory {
			word += " in " + r.Tier
		}
		for _, f := range list.all {
			fmt.Fprintf(w, "%s %s: %s\n", word, f.Name, f.Reason)
		}
	}
	if r.Tier != tierDirectory {
		fmt.Fprintf(w, "%s: ", r.Tier)
	}
	fmt.Fprintf(w, "%s, %s: %d corrupt, %d unreadable", counted(r.Objects, "object"), Size(r.Bytes).Human(), len(r.Corrupt), len(r.Failed))
	if r.Proven+len(r.Unproven) > 0 {
		fmt.Fprintf(w, ", %d proven by the checksum database, %d not", r.Proven, len(r.Unproven))
	}
	if r.NoDigest > 0 {
		fmt.Fprintf(w, ", %d by another program and without a digest", r.NoDigest)
	}
	if r.Healed > 0 {
		fmt.Fprintf(w, ", %d replaced from elsewhere", r.Healed)
	}
	fmt.Fprintln(w)
	for _, one := range r.Shared {
		one.print(w)
	}
	if r.Aside != "" {
		fmt.Fprintf(w, "what was corrupt is in %s now, each with its reason\n", r.Aside)
	}
}
