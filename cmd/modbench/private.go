package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// privateConfig is what private can be told.
type privateConfig struct {
	Only    []string // contenders: direct, modgate, goproxy, athens
	Rounds  int
	Commits int           // of the repository
	Tags    int           // versions in it at the start
	Tree    int           // MiB of its tree that no later commit changes
	Old     int           // MiB of files that later commits replaced
	Delay   time.Duration // of each request to the git server
	Clients int           // that ask for one new version at once
	Work    string        // programs, kept between runs
	Scratch string        // repository and caches of this run
	Modgate string        // a binary to measure instead of building ./cmd/modgate
}

func privateCommand(command string) *cobra.Command {
	var cfg privateConfig
	var out, into string
	c := &cobra.Command{
		Use:   "private",
		Short: "Measure modgate and its peers on a private git repository",
		Long: `Private builds a git repository, serves it with the real git over HTTPS with a
password and a private authority, and measures how a client with empty caches
gets its versions: straight from git, and through modgate and its peers, each
started with an empty directory in every round. Run it inside the checkout of
modgate.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cfg.check(); err != nil {
				return err
			}
			write := func(w io.Writer) error { return runPrivate(c.Context(), cfg, command, w, c.ErrOrStderr()) }
			if into != "" {
				return intoFile(into, beginPrivate, endPrivate, write)
			}
			return toFile(out, c.OutOrStdout(), write)
		},
	}
	f := c.Flags()
	f.StringSliceVar(&cfg.Only, "contenders", []string{direct, "modgate", "goproxy", "athens"}, "who is measured, in this order")
	f.IntVar(&cfg.Rounds, "rounds", 3, "rounds of all rows")
	f.IntVar(&cfg.Commits, "commits", 2000, "commits of the repository")
	f.IntVar(&cfg.Tags, "tags", 30, "versions in it at the start")
	f.IntVar(&cfg.Tree, "tree", 1, "MiB of files that are the same in all versions")
	f.IntVar(&cfg.Old, "old", 60, "MiB of files that later commits replaced")
	f.DurationVar(&cfg.Delay, "delay", 50*time.Millisecond, "delay of each request to the git server")
	f.IntVar(&cfg.Clients, "clients", 50, "clients that ask for one new version at once")
	f.StringVar(&cfg.Work, "work", "", "directory of the programs, kept between runs (default: modbench in the user's cache directory)")
	f.StringVar(&cfg.Scratch, "scratch", "", "directory for this run's repository and caches (default: /dev/shm if it has room, else the work directory)")
	f.StringVar(&cfg.Modgate, "modgate", "", "a modgate binary to measure instead of building one")
	f.StringVar(&out, "out", "", "write the report to this file instead of standard output")
	f.StringVar(&into, "into", "", "put the report into this file, between its lines "+beginPrivate+" and "+endPrivate)
	return c
}

// check completes the configuration and reports all mistakes at once.
func (c *privateConfig) check() error {
	var errs []error
	for _, name := range c.Only {
		if !slices.Contains([]string{direct, "modgate", "goproxy", "athens"}, name) {
			errs = append(errs, fmt.Errorf("--contenders: %q is none of direct, modgate, goproxy, athens", name))
		}
	}
	if c.Rounds < 1 || c.Clients < 1 || c.Tree < 0 || c.Delay < 0 {
		errs = append(errs, errors.New("--rounds, --clients: at least 1; --tree, --old, --delay: at least 0"))
	}
	if c.Tags < 4 || c.Commits < 2*c.Tags {
		errs = append(errs, errors.New("--tags: at least 4, and two commits for each"))
	}
	return errors.Join(append(errs, places(&c.Work, &c.Scratch, &c.Modgate))...)
}

// runPrivate measures all contenders in turn and writes the report to w.
func runPrivate(ctx context.Context, cfg privateConfig, command string, w, progress io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(progress, nil))
	if !slices.Contains(cfg.Only, "modgate") {
		cfg.Modgate = os.DevNull // nothing is built
	}
	bin, err := prepare(ctx, cfg.Only, cfg.Modgate, filepath.Join(cfg.Work, "bin"), progress)
	if err != nil {
		return err
	}
	unlock, err := alone(cfg.Work)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(cfg.Scratch, "modbench-")
	if err != nil {
		return errors.Join(err, unlock())
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp), unlock()) }()
	h := header{Command: command, Date: time.Now(), Rounds: cfg.Rounds, Machine: machine(ctx, bin.Go) + ", caches on " + fileSystem(tmp)}
	for _, name := range cfg.Only {
		if name != direct {
			h.Versions = append(h.Versions, strings.TrimSpace(name+" "+bin.version(ctx, name)))
		}
	}
	s, err := newSite(tmp, cfg)
	defer s.end()
	if err != nil {
		return err
	}
	h.Workload, h.Upstream = s.workload, s.upstream
	rows := newPrivateRows(cfg)
	for round := range cfg.Rounds {
		if err := s.tagNext(); err != nil {
			return err
		}
		for _, name := range cfg.Only {
			syscall.Sync() // what the one before has left to write is not this one's
			v, err := s.visit(ctx, bin, name, cfg.Clients)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			log.Info("measured", "contender", name, "round", round+1, "first", v.first, "second", v.second, "floor", v.floor, "answer", v.answer, "commit", v.commit, "next", v.next, "crowd", v.crowd, "fetches", v.fetches, "seen", v.seen)
			rows.add(name, v)
		}
	}
	return writeReport(w, h, rows.results())
}
