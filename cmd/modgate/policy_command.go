package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/modgate/modgate/cache/disk"
)

func policyCommand(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check rules, explain a decision, try rules on a project or a log",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(policyCheckCommand(p), policyExplainCommand(p), policyTestCommand(p))
	return cmd
}

func policyCheckCommand(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Report mistakes and doubts in a file of rules",
		Long: `Check reads FILE (default: policy.file) as the server would. The status is 1 if
there are mistakes. Doubts are printed and do no harm: rules that never decide
because of one before them, groups that no token of auth.file is in, exemptions
that have expired, patterns that match no module in the cache, and an allow list
(default: deny) that says nothing about golang.org/toolchain.`,
		Args: cobra.MaximumNArgs(1),
	}
	settings := addSettings(cmd, p, "policy.file", "private", "cache.dir", "auth.file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := settings()
		if err != nil {
			return err
		}
		if len(args) > 0 {
			s.Policy.File = args[0]
		}
		return p.checkRules(cmd.Context(), s)
	}
	return cmd
}

func (p *process) checkRules(ctx context.Context, s *settings) error {
	if s.Policy.File == "" {
		return errors.New("there is no file of rules: name one, or set policy.file")
	}
	data, err := readBounded(s.Policy.File, maxConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no file %s\n  → name the file of rules, or leave the name out to check that of policy.file", s.Policy.File)
	}
	if err != nil {
		return err
	}
	rules, lines, err := readRulesAt(s.Policy.File, data, s.Private.String())
	if err != nil {
		return err
	}
	seen := seenModules(ctx, s.Cache.Dir)
	if seen == nil {
		fmt.Fprintf(p.stderr, "modgate: patterns were compared with no module: there is none in the cache %s (cache.dir)\n", s.Cache.Dir)
	} else {
		fmt.Fprintf(p.stderr, "modgate: patterns were compared with %s in the cache %s (cache.dir)\n", counted(len(seen), "module"), s.Cache.Dir)
	}
	doubts := rules.Doubts(time.Now(), seen, groupsOf(&s.Config))
	for _, d := range doubts {
		fmt.Fprintf(p.stdout, "doubt: %s\n", lines.describe(s.Policy.File, d))
	}
	fmt.Fprintf(p.stdout, "%s: %s, %s\n", s.Policy.File, counted(rules.Rules(), "rule"), counted(len(doubts), "doubt"))
	return nil
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// seenModules returns the paths of the modules in the cache, nil if there is
// none or it cannot be read.
func seenModules(ctx context.Context, dir string) []string {
	store, err := disk.New(disk.Config{Dir: dir, MustExist: true})
	if err != nil {
		return nil
	}
	defer store.Close()
	seen := map[string]bool{}
	for e, err := range store.List(ctx, "") {
		if err != nil {
			return nil
		}
		if o := parseName(e.Name); o.module != "" {
			seen[o.module] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}
