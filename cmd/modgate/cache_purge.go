package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/cache/s3"
)

func purgeCommand(p *process) *cobra.Command {
	var dry, asJSON bool
	cmd := &cobra.Command{
		Use:   "purge MODULE[@VERSION] | PATTERN...",
		Short: "Remove modules from the cache",
		Long: `Purge removes all versions of a module, or one. A pattern as in GOPRIVATE (with
one of *?[ in it) removes all modules that it matches. The list of versions and
the answer to @latest go too, and are asked for anew. A running server may
answer what was removed from its memory for up to 15 minutes, unless it is told
by the request that the command prints (POST /-/purge).

Where replicas share a bucket or a Redis that the configuration names, it is
removed there and from all replicas. Those that Redis tells know at once.

The status is 1 if there is nothing stored for an argument, so that a slip in a
name does not look like success; the others are removed all the same.

  modgate cache purge github.com/corp/tool@v1.2.3
  modgate cache purge 'github.com/corp/*'`,
		Args: cobra.MinimumNArgs(1),
	}
	settings := addSettings(cmd, p, "cache.dir", "admin.listen")
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "Only say what would be removed.")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := purgeTargets(args); err != nil {
			return err
		}
		s, directory, err := openDirectory(settings)
		if err != nil {
			return err
		}
		defer directory.Close()
		a, err := joinFleet(cmd.Context(), s, directory, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		defer a.close()
		r, err := a.purge(cmd.Context(), args, dry)
		if err != nil {
			return err
		}
		r.err = a.advised(&s.Config, r.err)
		if r.Objects > 0 && !dry && !s.Cache.Redis.on() {
			fmt.Fprintln(p.stderr, "modgate: a server that runs on this cache may answer from its memory for up to 15 minutes\n  → to make it forget at once: "+purgeRequest(s, args))
		}
		if asJSON {
			return errors.Join(r.err, writeJSON(p.stdout, r))
		}
		if len(r.Missing) < len(args) {
			r.print(p.stdout)
		}
		return r.err
	}
	return cmd
}

// purgeRequest is the command that makes the server with the settings s forget
// what args mean.
func purgeRequest(s *settings, args []string) string {
	if s.Admin.Listen == "" {
		return "restart it"
	}
	address := localURL(s.Admin.Listen, "") + "/-/purge?" + url.Values{"module": args}.Encode()
	if len(s.TLS.AdminClients) > 0 {
		return "curl --cert CERT --key KEY -X POST " + quote("https"+strings.TrimPrefix(address, "http"))
	}
	return "curl -X POST " + quote(address)
}

// target is one argument of purge.
type target struct {
	arg     string
	prefix  string // of the names of all that it matches
	matches func(object) bool
	version string // "" means all
	entries []cache.Entry
	found   bool // what was asked for, not only what goes with it
}

// purgeTargets returns what args mean.
func purgeTargets(args []string) ([]*target, error) {
	var all []*target
	for _, arg := range args {
		modulePath, version, versioned := strings.Cut(arg, "@")
		if strings.ContainsAny(modulePath, "*?[") {
			if _, err := path.Match(modulePath, "x"); err != nil || versioned {
				return nil, fmt.Errorf("%q is not a pattern: write globs as in GOPRIVATE, without a version", arg)
			}
			all = append(all, &target{arg: arg, prefix: literalPrefix(modulePath), matches: func(o object) bool { return module.MatchPrefixPatterns(arg, o.module) }})
			continue
		}
		if err := module.CheckPath(modulePath); err != nil {
			return nil, err
		}
		escaped, err := module.EscapePath(modulePath)
		if err != nil {
			return nil, err
		}
		if versioned && version == "" {
			return nil, fmt.Errorf("%q: the version is missing behind @", arg)
		}
		all = append(all, &target{arg: arg, prefix: escaped + "/@", version: version, matches: func(o object) bool {
			return o.module == modulePath && (!versioned || o.version == "" || o.version == version)
		}})
	}
	return all, nil
}

// literalPrefix returns how the stored name of whatever a pattern matches begins.
func literalPrefix(pattern string) string {
	if strings.Contains(pattern, ",") {
		return "" // several
	}
	var b strings.Builder
	for _, r := range pattern[:strings.IndexAny(pattern, "*?[\\")] {
		if 'A' <= r && r <= 'Z' { // as module.EscapePath does
			b.WriteByte('!')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// commonPrefix returns how the names of all that targets match begin.
func commonPrefix(targets []*target) string {
	common := targets[0].prefix
	for _, t := range targets[1:] {
		n := 0
		for n < min(len(common), len(t.prefix)) && common[n] == t.prefix[n] {
			n++
		}
		common = common[:n]
	}
	return common
}

// aim returns the entries that targets mean, and the arguments for which there
// are none: a list alone is nothing of a version, and stays.
// An error says that one of the stores could not be listed to its end.
func aim(ctx context.Context, stores []cache.Store, targets []*target) (doomed []cache.Entry, missing []string, err error) {
	prefix := commonPrefix(targets)
	for _, store := range stores {
		for e, failed := range store.List(ctx, prefix) {
			if failed != nil {
				err = errors.Join(err, failed)
				break
			}
			o := parseName(e.Name)
			for _, t := range targets {
				if o.module != "" && t.matches(o) {
					t.entries = append(t.entries, e)
					t.found = t.found || t.version == "" || o.version == t.version
				}
			}
		}
	}
	seen := map[string]bool{}
	for _, t := range targets {
		if !t.found {
			missing = append(missing, t.arg)
			continue
		}
		for _, e := range t.entries {
			if !seen[e.Name] {
				doomed = append(doomed, e)
			}
			seen[e.Name] = true
		}
	}
	return doomed, missing, err
}

func trimCommand(p *process) *cobra.Command {
	var dry, asJSON bool
	var to, from string
	cmd := &cobra.Command{
		Use:   "trim --to SIZE",
		Short: "Remove what was used least recently until the cache has a size",
		Long: `Trim makes the cache directory as small as that. With --tier=bucket it does so
with the bucket that replicas share, which nothing else makes smaller: there the
modules go that were stored first, for nobody knows when they were used. Pins
and records of the checksum database stay.`,
		Args: cobra.NoArgs,
	}
	settings := addSettings(cmd, p, "cache.dir")
	cmd.Flags().StringVar(&to, "to", "", "The size to reach: 5GiB.")
	cmd.Flags().StringVar(&from, "tier", tierDirectory, "What to make smaller: directory or bucket.")
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "Only say what would be removed.")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var size Size
		if err := size.UnmarshalText([]byte(to)); err != nil {
			return fmt.Errorf("--to: %q %w", to, err)
		}
		s, directory, err := openDirectory(settings)
		if err != nil {
			return err
		}
		defer directory.Close()
		a := new(app)
		defer a.close() // before the directory
		store, err := a.trimmed(cmd.Context(), s, directory, from)
		if err != nil {
			return err
		}
		taken := cache.Taken
		if from == tierBucket {
			taken = func(size int64) int64 { return size } // as stat counts there
		}
		doomed, err := surplus(cmd.Context(), store, int64(size), taken)
		if err != nil {
			return a.advised(&s.Config, err)
		}
		r := remove(cmd.Context(), store, doomed, taken, dry)
		r.err = a.advised(&s.Config, r.err)
		if asJSON {
			return errors.Join(r.err, writeJSON(p.stdout, r))
		}
		r.print(p.stdout)
		return r.err
	}
	return cmd
}

// trimmed returns the store that is to be trimmed.
func (a *app) trimmed(ctx context.Context, s *settings, directory *disk.Store, tier string) (cache.Store, error) {
	switch tier {
	case tierDirectory:
		return directory, nil
	case tierBucket:
	default:
		return nil, fmt.Errorf("--tier: %q is neither directory nor bucket", tier)
	}
	if _, err := a.allTiers(ctx, s, directory); err != nil {
		return nil, err
	}
	if a.bucket == nil {
		return nil, errors.New("--tier=bucket: the configuration names no bucket\n  → name it by cache.s3.bucket, or by --config the configuration of a replica")
	}
	return modulesOf{a.bucket, a.moved}, nil
}

// modulesOf lists a bucket, and what may not be removed from it as precious.
type modulesOf struct {
	*s3.Store
	moved func(ctx context.Context, name string)
}

// Delete implements cache.Store, and tells those who send clients to the bucket.
func (m modulesOf) Delete(ctx context.Context, name string) error {
	defer m.moved(ctx, name)
	return m.Store.Delete(ctx, name)
}

// List implements cache.Store.
func (m modulesOf) List(ctx context.Context, prefix string) iter.Seq2[cache.Entry, error] {
	return func(yield func(cache.Entry, error) bool) {
		for e, err := range m.Names(ctx, prefix) {
			if parseName(e.Name).version == "" {
				e.Class = cache.Precious
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// surplus returns the entries to remove so that at most size bytes stay: those
// used least recently, never precious ones. taken is what an object counts with.
func surplus(ctx context.Context, store cache.Store, size int64, taken func(size int64) int64) ([]cache.Entry, error) {
	var entries []cache.Entry
	var total int64
	for e, err := range store.List(ctx, "") {
		if err != nil {
			return nil, err
		}
		total += taken(e.Size)
		if e.Class != cache.Precious {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b cache.Entry) int {
		return cmp.Or(a.Used.Compare(b.Used), cmp.Compare(b.Size, a.Size), cmp.Compare(a.Name, b.Name))
	})
	n := 0
	for n < len(entries) && total > size {
		total -= taken(entries[n].Size)
		n++
	}
	return entries[:n], nil
}

// removal is what purge and trim have done.
type removal struct {
	DryRun bool `json:"dry_run"`
	amount
	Names   []string `json:"names"`
	Missing []string `json:"missing,omitempty"` // arguments with nothing stored for them
	err     error    // of those, and of what could not be removed
}

// remove removes entries, or finds out what that would do.
func remove(ctx context.Context, store cache.Store, entries []cache.Entry, taken func(size int64) int64, dry bool) *removal {
	r := &removal{DryRun: dry, Names: []string{}}
	failed := 0
	for _, e := range entries {
		if !dry {
			if err := store.Delete(ctx, e.Name); err != nil {
				if failed++; failed <= toldFailures {
					r.err = errors.Join(r.err, err)
				}
				continue
			}
		}
		r.Objects++
		r.Bytes += taken(e.Size)
		r.Names = append(r.Names, e.Name)
	}
	if failed > toldFailures {
		r.err = errors.Join(r.err, fmt.Errorf("and so for %s more", counted(failed-toldFailures, "object")))
	}
	return r
}

// toldFailures is of how many objects it is said why they could not be removed:
// most often it is the same for all.
const toldFailures = 3

func (r *removal) print(w io.Writer) {
	// A trim of a big cache removes thousands, and nobody reads that.
	if r.DryRun || len(r.Names) <= 20 {
		for _, name := range r.Names {
			fmt.Fprintln(w, name)
		}
	}
	verb := "removed"
	if r.DryRun {
		verb = "would be removed"
	}
	fmt.Fprintf(w, "%s, %s, %s\n", counted(r.Objects, "object"), Size(r.Bytes).Human(), verb)
}
