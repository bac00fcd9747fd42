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
	"strings"

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
Each caller that the log names is taken to be in the groups that auth.file gives it
now; who showed no token is in none. --as names groups for all, and for a go.sum.

  modgate policy test --policy-file new.yaml --go-sum go.sum
  modgate policy test --policy-file new.yaml --replay access.log --auth-file tokens.yaml`,
		Args: cobra.NoArgs,
	}
	open := addExplainer(cmd, p)
	cmd.Flags().StringArrayVar(&sums, "go-sum", nil, "A go.sum to try. May be repeated.")
	cmd.Flags().StringArrayVar(&logs, "replay", nil, "An access log to try, - for standard input. May be repeated.")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(sums)+len(logs) == 0 {
			return errors.New("name what to try, with --go-sum or --replay")
		}
		asked, err := open(cmd.Context())
		if err != nil {
			return err
		}
		t := &trials{as: asked.as.Groups, all: map[string]*trial{}, strangers: map[string]bool{}}
		if t.groups, err = groupsByCaller(asked.config); err == nil {
			err = t.read(sums, logs)
		}
		var r *tried
		if err == nil {
			r, err = try(cmd.Context(), asked.explain, t.sorted())
		}
		if err = errors.Join(err, asked.done()); err != nil {
			return err
		}
		t.warn(p.stderr)
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

// trial is a version to ask about for a caller in groups, and how often and by how
// many it was asked for.
type trial struct {
	mod      module.Version
	groups   []string
	requests int
	clients  map[string]bool
}

// trials gathers what to ask about.
type trials struct {
	as        []string            // groups of everybody, if there are any
	groups    map[string][]string // by the name of the caller
	all       map[string]*trial   // by version and groups
	strangers map[string]bool     // callers whose groups are not known
}

func (t *trials) at(m module.Version, groups []string) *trial {
	key := m.String() + " " + strings.Join(groups, " ")
	if t.all[key] == nil {
		t.all[key] = &trial{mod: m, groups: groups, clients: map[string]bool{}}
	}
	return t.all[key]
}

func (t *trials) read(sums, logs []string) error {
	for _, name := range sums {
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("--go-sum: %w", unreadable(err))
		}
		wants, err := parseGoSum(name, data)
		if err != nil {
			return err
		}
		for _, w := range wants {
			if w.kind == "zip" {
				t.at(w.Version, t.as).requests++
			}
		}
	}
	again := repeats{}
	for _, name := range logs {
		_, _, err := eachRequest(name, func(r *loggedRequest) {
			if r.counts() && (r.given() || r.refused()) && module.Check(r.Module, r.Version) == nil && !again.isOne(r) {
				one := t.at(module.Version{Path: r.Module, Version: r.Version}, t.groupsOf(r.Caller))
				one.requests++
				one.clients[cmp.Or(r.Caller, r.host())] = true
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// groupsOf returns the groups of a caller in a log.
func (t *trials) groupsOf(caller string) []string {
	if len(t.as) > 0 || caller == "" {
		return t.as
	}
	groups, known := t.groups[caller]
	if !known {
		t.strangers[caller] = true
	}
	return groups
}

// warn says of whom the groups were not known.
func (t *trials) warn(w io.Writer) {
	if len(t.strangers) == 0 {
		return
	}
	why, remedy := "auth.file has no token of that name now", "--as names the groups of all"
	if t.groups == nil {
		why, remedy = "no auth.file says in which groups they are", "name that of the server by --auth-file"
	}
	names := slices.Sorted(maps.Keys(t.strangers))
	more := ""
	if most := 5; len(names) > most {
		names, more = names[:most], fmt.Sprintf(" and %d more", len(names)-most)
	}
	fmt.Fprintf(w, "modgate: warning: taken to be in no group: %s%s: %s\n  → %s\n", strings.Join(names, ", "), more, why, remedy)
}

func (t *trials) sorted() []*trial {
	return slices.SortedFunc(maps.Values(t.all), func(a, b *trial) int {
		return cmp.Or(cmp.Compare(a.mod.Path, b.mod.Path), cmp.Compare(a.mod.Version, b.mod.Version), slices.Compare(a.groups, b.groups))
	})
}

// tried is what came of all trials. A version counts once among the refused, however
// many callers it is refused to, and so on.
type tried struct {
	Versions  int          `json:"versions"`
	Requests  int          `json:"requests"`
	Refused   int          `json:"refused"`
	Noted     int          `json:"noted"`
	Undecided int          `json:"undecided"`
	Findings  []triedEntry `json:"findings"`
}

// triedEntry is a version that would not simply be served to callers in Groups.
type triedEntry struct {
	Module   string      `json:"module"`
	Version  string      `json:"version"`
	Groups   []string    `json:"groups,omitempty"`
	Requests int         `json:"requests"`
	Clients  int         `json:"clients,omitempty"`
	Newest   string      `json:"newest_allowed,omitempty"`
	Problem  string      `json:"problem,omitempty"` // why it could not be decided
	Note     policy.Note `json:"note"`
}

// tryAtOnce bounds how many versions are asked about at once.
const tryAtOnce = 8

func try(ctx context.Context, ask explainer, trials []*trial) (*tried, error) {
	explained := make([]policy.Explanation, len(trials))
	problems := make([]error, len(trials))
	var g errgroup.Group
	g.SetLimit(tryAtOnce)
	for i, t := range trials {
		g.Go(func() error {
			explained[i], problems[i] = ask(ctx, policy.Caller{Groups: t.groups}, t.mod.Path, t.mod.Version)
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	r := &tried{Findings: []triedEntry{}}
	seen := map[string]bool{}
	for i, t := range trials {
		r.Requests += t.requests
		once(&r.Versions, "", t, seen)
		r.add(t, &explained[i], problems[i], seen)
	}
	return r, nil
}

// once counts the version of t in n if seen has it not yet under kind.
func once(n *int, kind string, t *trial, seen map[string]bool) {
	key := kind + " " + t.mod.String()
	if !seen[key] {
		seen[key] = true
		*n++
	}
}

func (r *tried) add(t *trial, e *policy.Explanation, problem error, seen map[string]bool) {
	entry := triedEntry{Module: t.mod.Path, Version: t.mod.Version, Groups: t.groups, Requests: t.requests, Clients: len(t.clients), Newest: e.Newest}
	switch v := e.Verdict; {
	case problem != nil:
		once(&r.Undecided, "undecided", t, seen)
		entry.Problem = problem.Error()
	case v.Deny && v.Wants != 0:
		once(&r.Undecided, "undecided", t, seen)
		entry.Problem = "rule " + e.Rule + " needs facts that cannot be had"
	case v.Deny:
		once(&r.Refused, "refused", t, seen)
		entry.Note = v.Note
	case len(v.Notes) > 0:
		once(&r.Noted, "noted", t, seen)
		entry.Note = v.Notes[0]
	default:
		return
	}
	r.Findings = append(r.Findings, entry)
}

func (r *tried) print(w io.Writer) {
	for _, f := range r.Findings {
		fmt.Fprintf(w, "%-9s %s@%s", cmp.Or(map[bool]string{true: "undecided"}[f.Problem != ""], f.Note.Action.String()), f.Module, f.Version)
		if len(f.Groups) > 0 {
			fmt.Fprintf(w, " for the groups %s", strings.Join(f.Groups, ", "))
		}
		if f.Problem != "" {
			fmt.Fprintf(w, ": %s\n", f.Problem)
			continue
		}
		fmt.Fprintf(w, ": rule %s, id %s", f.Note.Rule, f.Note.ID)
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
