package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/internal/ziphash"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/sumdb"
)

func verifyCommand(p *process) *cobra.Command {
	var online, keep, asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read the whole cache and put aside what is not what it was",
		Long: `Verify reads every object, compares its SHA-256 with the one recorded when it
was stored and, of zips and go.mod files, the h1 hash with the one that was
proven. What differs is moved to .modgate/quarantine and will be fetched again.

With --online the hashes are compared with the checksum database, which also
proves files that another program has put into the directory.

The status is 1 if anything was wrong.`,
		Args: cobra.NoArgs,
	}
	settings := addSettings(cmd, p, "cache.dir", "upstream", "private", "sumdb", "tls.trust")
	cmd.Flags().BoolVar(&online, "online", false, "Compare with the checksum database, too.")
	cmd.Flags().BoolVar(&keep, "keep", false, "Report only: leave what is wrong where it is.")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, store, err := openDirectory(settings)
		if err != nil {
			return err
		}
		defer store.Close()
		v := &verification{store: store, keep: keep}
		if online {
			a := new(app)
			defer a.close() // before the store
			if v.verifier, err = a.openVerifier(&s.Config, store); err != nil {
				return err
			}
		}
		v.progress = newProgress(p.stderr, "verify", -1)
		err = v.run(cmd.Context())
		v.progress.end()
		if len(v.report.Corrupt) > 0 && !keep {
			v.report.Aside = filepath.Join(s.Cache.Dir, ".modgate", "quarantine")
		}
		if asJSON {
			err = errors.Join(err, writeJSON(p.stdout, &v.report))
		} else {
			v.report.print(p.stdout)
		}
		if err == nil && v.report.bad() {
			return errReported
		}
		return err
	}
	return cmd
}

// openVerifier returns the checksum database that c names, with its records in
// store.
func (a *app) openVerifier(c *Config, store cache.Store) (proxy.Verifier, error) {
	if c.SumDB == "off" {
		return nil, errors.New("--online needs a checksum database: sumdb is off")
	}
	rules, err := policy.New(policy.Config{Private: c.Private.String()})
	if err != nil {
		return nil, err
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
	return db, nil
}

// finding is one object about which there is something to say.
type finding struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

type verifyReport struct {
	Objects  int       `json:"objects"`
	Bytes    int64     `json:"bytes"`
	Proven   int       `json:"proven_online"`       // by the checksum database, in this run
	NoDigest int       `json:"without_digest"`      // put there by another program, not proven
	Corrupt  []finding `json:"corrupt,omitempty"`   // and put aside
	Aside    string    `json:"put_aside,omitempty"` // the directory for those
	Unproven []finding `json:"unproven,omitempty"`  // the checksum database does not know it or cannot be asked
	Failed   []finding `json:"unreadable,omitzero"` // could not be read or put aside
}

func (r *verifyReport) bad() bool { return len(r.Corrupt)+len(r.Failed) > 0 }

func (r *verifyReport) print(w io.Writer) {
	for _, list := range []struct {
		word string
		all  []finding
	}{{"corrupt", r.Corrupt}, {"unreadable", r.Failed}, {"unproven", r.Unproven}} {
		slices.SortFunc(list.all, func(a, b finding) int { return cmp.Compare(a.Name, b.Name) })
		for _, f := range list.all {
			fmt.Fprintf(w, "%s %s: %s\n", list.word, f.Name, f.Reason)
		}
	}
	fmt.Fprintf(w, "%d objects, %s: %d corrupt, %d unreadable", r.Objects, Size(r.Bytes).Human(), len(r.Corrupt), len(r.Failed))
	if r.Proven+len(r.Unproven) > 0 {
		fmt.Fprintf(w, ", %d proven by the checksum database, %d not", r.Proven, len(r.Unproven))
	}
	if r.NoDigest > 0 {
		fmt.Fprintf(w, ", %d by another program and without a digest", r.NoDigest)
	}
	fmt.Fprintln(w)
	if r.Aside != "" {
		fmt.Fprintf(w, "what was corrupt is in %s now, each with its reason\n", r.Aside)
	}
}

// verification is one run of verify.
type verification struct {
	store    *disk.Store
	verifier proxy.Verifier // nil offline
	keep     bool
	progress *progress

	mu     sync.Mutex // guards report
	report verifyReport
}

func (v *verification) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	if v.verifier != nil {
		workers *= 8 // most of them wait
	}
	g.SetLimit(workers)
	for e, err := range v.store.List(ctx, "") {
		if err != nil {
			v.note(func(r *verifyReport) { r.Failed = append(r.Failed, finding{e.Name, err.Error()}) })
			continue
		}
		g.Go(func() error {
			v.object(ctx, e.Name)
			v.progress.step()
			return ctx.Err()
		})
		if ctx.Err() != nil {
			break
		}
	}
	return g.Wait()
}

func (v *verification) note(f func(*verifyReport)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.report)
}

// errWrong says that bytes are not what they should be.
var errWrong = errors.New("wrong bytes")

// object verifies one object and notes what it finds.
func (v *verification) object(ctx context.Context, name string) {
	o, err := v.store.Get(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return // evicted meanwhile
	}
	var size int64
	if err == nil {
		size = o.Attrs.Size
		err = errors.Join(v.bytes(ctx, o), o.Close())
	}
	v.note(func(r *verifyReport) {
		r.Objects++
		r.Bytes += size
	})
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, errWrong), errors.Is(err, cache.ErrCorrupt):
		v.condemn(ctx, name, err)
	default:
		v.note(func(r *verifyReport) { r.Failed = append(r.Failed, finding{name, err.Error()}) })
	}
}

// condemn puts a corrupt object aside.
func (v *verification) condemn(ctx context.Context, name string, why error) {
	found := finding{name, why.Error()}
	if !v.keep {
		if err := v.store.Quarantine(ctx, name, why.Error()); err != nil {
			found.Reason += "; it could not be put aside: " + err.Error()
			v.note(func(r *verifyReport) { r.Failed = append(r.Failed, found) })
			return
		}
	}
	v.note(func(r *verifyReport) { r.Corrupt = append(r.Corrupt, found) })
}

// bytes compares an object with its digest and its hash; the error is errWrong
// if they differ.
func (v *verification) bytes(ctx context.Context, o *cache.Object) error {
	digest := sha256.New()
	if _, err := io.Copy(digest, o.Body); err != nil {
		return err
	}
	got := hex.EncodeToString(digest.Sum(nil))
	if o.Attrs.SHA256 != "" && got != o.Attrs.SHA256 {
		return fmt.Errorf("%w: SHA-256 is %s, was %s", errWrong, got, o.Attrs.SHA256)
	}
	kind := parseName(o.Name)
	if kind.kind != "zip" && kind.kind != "mod" || o.Attrs.H1 == "" && v.verifier == nil {
		if o.Attrs.SHA256 == "" {
			v.note(func(r *verifyReport) { r.NoDigest++ })
		}
		return nil
	}
	h1, err := hashOf(o, kind.kind)
	if errors.Is(err, ziphash.ErrFormat) || errors.Is(err, ziphash.ErrLimit) {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	if err != nil {
		return err
	}
	if o.Attrs.H1 != "" && h1 != o.Attrs.H1 {
		return fmt.Errorf("%w: hash is %s, was %s", errWrong, h1, o.Attrs.H1)
	}
	return v.ask(ctx, o.Name, kind, h1)
}

// hashOf returns the h1 hash of a zip or go.mod file.
func hashOf(o *cache.Object, kind string) (string, error) {
	r, ok := o.Body.(io.ReaderAt)
	if !ok {
		return "", errors.New("cannot be read at an offset")
	}
	if kind == "zip" {
		return ziphash.File(r, o.Attrs.Size)
	}
	data, err := io.ReadAll(io.NewSectionReader(r, 0, o.Attrs.Size))
	return ziphash.Mod(data), err
}

// ask compares h1 with the checksum database, if there is one to ask.
func (v *verification) ask(ctx context.Context, name string, o object, h1 string) error {
	if v.verifier == nil {
		return nil
	}
	err := v.verifier.Verify(ctx, module.Version{Path: o.module, Version: o.version}, o.kind, h1)
	var mismatch interface{ Mismatch() (want, got string) }
	switch {
	case err == nil:
		v.note(func(r *verifyReport) { r.Proven++ })
	case errors.As(err, &mismatch):
		return fmt.Errorf("%w: %w", errWrong, err)
	default:
		v.note(func(r *verifyReport) { r.Unproven = append(r.Unproven, finding{name, err.Error()}) })
	}
	return nil
}
