package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modgate/modgate/policy"
)

func policyTestCommand(p *process) *cobra.Command {
	var sums, logs []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test --go-sum FILE | --replay ACCESSLOG",
		Short: "Say what of a project, or of past requests, would be refused",
		Long: `Test asks about every zip that a go.sum names, or every version that was served
or refused by a rule according to an access log (with log.format json), and prints
what rules say about those that would not simply be served. The status is 1 if
something would be refused.

It asks the running server; with --policy-file it tries the rules of that file.

  modgate policy test --policy-file new.yaml --go-sum go.sum
  modgate policy test --policy-file new.yaml --replay access.log --as ci`,
		Args: cobra.NoArgs,
	}
	open := addExplainer(cmd, p)
	cmd.Flags().StringArrayVar(&sums, "go-sum", nil, "A go.sum to try. May be repeated.")
	cmd.Flags().StringArrayVar(&logs, "replay", nil, "An access log to try, - for standard input. May be repeated.")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		trials, err := readTrials(sums, logs)
		if err != nil {
			return err
		}
		ask, done, err := open(cmd.Context())
		if err != nil {
			return err
		}
		r, err := try(cmd.Context(), ask, trials)
		if err = errors.Join(err, done()); err != nil {
			return err
		}
		if asJSON {
			err = writeJSON(p.stdout, r)
		} else {
			r.print(p.stdout)
		}
		if err == nil && r.Refused > 0 {
			err = errReported
		}
		return err
	}
	return cmd
}

// trial is a version to ask about, and how often and by how many it was asked
// for.
type trial struct {
	mod      module.Version
	requests int
	clients  map[string]bool
}

func readTrials(sums, logs []string) ([]*trial, error) {
	if len(sums)+len(logs) == 0 {
		return nil, errors.New("name what to try, with --go-sum or --replay")
	}
	all := map[module.Version]*trial{}
	at := func(m module.Version) *trial {
		if all[m] == nil {
			all[m] = &trial{mod: m, clients: map[string]bool{}}
		}
		return all[m]
	}
	for _, name := range sums {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--go-sum: %w", unreadable(err))
		}
		wants, err := parseGoSum(name, data)
		if err != nil {
			return nil, err
		}
		for _, w := range wants {
			if w.kind == "zip" {
				at(w.Version).requests++
			}
		}
	}
	again := repeats{}
	for _, name := range logs {
		_, _, err := eachRequest(name, func(r *loggedRequest) {
			if r.counts() && (r.given() || r.refused()) && module.Check(r.Module, r.Version) == nil && !again.isOne(r) {
				t := at(module.Version{Path: r.Module, Version: r.Version})
				t.requests++
				t.clients[r.host()] = true
			}
		})
		if err != nil {
			return nil, err
		}
	}
	trials := slices.Collect(maps.Values(all))
	slices.SortFunc(trials, func(a, b *trial) int {
		return cmp.Or(cmp.Compare(a.mod.Path, b.mod.Path), cmp.Compare(a.mod.Version, b.mod.Version))
	})
	return trials, nil
}

// tried is what came of all trials.
type tried struct {
	Versions  int          `json:"versions"`
	Requests  int          `json:"requests"`
	Refused   int          `json:"refused"`
	Noted     int          `json:"noted"`
	Undecided int          `json:"undecided"`
	Findings  []triedEntry `json:"findings"`
}

// triedEntry is a version that would not simply be served.
type triedEntry struct {
	Module   string      `json:"module"`
	Version  string      `json:"version"`
	Requests int         `json:"requests"`
	Clients  int         `json:"clients,omitempty"`
	Newest   string      `json:"newest_allowed,omitempty"`
	Problem  string      `json:"problem,omitempty"` // why it could not be decided
	Note     policy.Note `json:"note"`
}

// tryAtOnce bounds how many versions are asked about at once.
const tryAtOnce = 8

func try(ctx context.Context, ask asker, trials []*trial) (*tried, error) {
	explained := make([]policy.Explanation, len(trials))
	problems := make([]error, len(trials))
	var g errgroup.Group
	g.SetLimit(tryAtOnce)
	for i, t := range trials {
		g.Go(func() error {
			explained[i], problems[i] = ask(ctx, t.mod.Path, t.mod.Version)
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	r := &tried{Versions: len(trials), Findings: []triedEntry{}}
	for i, t := range trials {
		r.Requests += t.requests
		r.add(t, &explained[i], problems[i])
	}
	return r, nil
}

func (r *tried) add(t *trial, e *policy.Explanation, problem error) {
	entry := triedEntry{Module: t.mod.Path, Version: t.mod.Version, Requests: t.requests, Clients: len(t.clients), Newest: e.Newest}
	switch v := e.Verdict; {
	case problem != nil:
		r.Undecided++
		entry.Problem = problem.Error()
	case v.Deny && v.Wants != 0:
		r.Undecided++
		entry.Problem = "rule " + e.Rule + " needs facts that cannot be had"
	case v.Deny:
		r.Refused++
		entry.Note = v.Note
	case len(v.Notes) > 0:
		r.Noted++
		entry.Note = v.Notes[0]
	default:
		return
	}
	r.Findings = append(r.Findings, entry)
}

func (r *tried) print(w io.Writer) {
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%-9s %s@%s", cmp.Or(map[bool]string{true: "undecided"}[f.Problem != ""], f.Note.Action.String()), f.Module, f.Version)
		switch {
		case f.Problem != "":
			fmt.Fprintf(w, ": %s\n", f.Problem)
			continue
		default:
			fmt.Fprintf(w, ": rule %s, id %s", f.Note.Rule, f.Note.ID)
		}
		if f.Newest != "" {
			fmt.Fprintf(w, ", newest allowed %s", f.Newest)
		}
		if f.Clients > 0 {
			fmt.Fprintf(w, ", %s by %s", counted(f.Requests, "request"), counted(f.Clients, "client"))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s: %d refused, %d noted, %d undecided\n", counted(r.Versions, "version"), r.Refused, r.Noted, r.Undecided)
}
