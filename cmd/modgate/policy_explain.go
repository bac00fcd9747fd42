package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modgate/modgate/policy"
)

// explainer says how the policy decides, as proxy.Server.Explain does.
type explainer func(ctx context.Context, caller policy.Caller, path, query string) (policy.Explanation, error)

func policyExplainCommand(p *process) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "explain MODULE[@VERSION]",
		Short: "Say whether a version may be had, and why",
		Long: `Explain says what each rule makes of a version (or a branch, or a commit;
default: the newest version), which one decides, and what would turn it. The
status is 1 if the version is refused.

It asks the running server on its admin listener. With --policy-file it
takes the rules of that file instead, and finds out by itself what they need to
know, from the cache and the upstream of the configuration.

  modgate policy explain github.com/corp/tool@v1.2.3 --as ci`,
		Args: cobra.ExactArgs(1),
	}
	open := addExplainer(cmd, p)
	cmd.Flags().BoolVar(&all, "all", false, "Also show the rules for other modules.")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, query, _ := strings.Cut(args[0], "@")
		asked, err := open(cmd.Context())
		if err != nil {
			return err
		}
		e, err := asked.explain(cmd.Context(), asked.as, path, query)
		if err = errors.Join(err, asked.done()); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if asJSON {
			err = writeJSON(p.stdout, e)
		} else {
			printExplanation(p.stdout, &e, all)
			fmt.Fprintf(p.stdout, "asked: %s\n", asked.name)
		}
		if err == nil && e.Verdict.Deny {
			err = errReported
		}
		return err
	}
	return cmd
}

// asked is who answers what policy explain and policy test ask.
type asked struct {
	explain explainer
	name    string        // whose rules these are, for people
	as      policy.Caller // from --as
	config  *Config
	done    func() error // ends it
}

// addExplainer gives cmd the flags that say whose rules are explained to whom.
func addExplainer(cmd *cobra.Command, p *process) func(context.Context) (*asked, error) {
	settings := addSettings(cmd, p, "policy.file", "auth.file", "cache.dir", "upstream", "private", "sumdb", "tls.trust", "admin.listen", "tls.admin_clients")
	var server remote
	server.flags(cmd)
	groups := cmd.Flags().StringSlice("as", nil, "Groups of the caller that is asked about.")
	return func(ctx context.Context) (*asked, error) {
		s, err := settings()
		if err != nil {
			return nil, err
		}
		a := &asked{as: policy.Caller{Groups: *groups}, config: &s.Config, done: func() error { return nil }}
		if cmd.Flags().Changed("policy-file") {
			if len(*groups) > 0 && s.Auth.File == "" { // a server says it of itself
				fmt.Fprintln(p.stderr, "modgate: warning: the configuration that was read here has no auth.file: on a server without one no caller is in a group, whatever --as says")
			}
			a.name = "the rules in " + s.Policy.File + ", not those of a server"
			a.explain, a.done, err = localExplainer(ctx, s)
			return a, err
		}
		if err := server.find(s); err != nil {
			return nil, err
		}
		a.name = "the server at " + server.address
		a.explain = func(ctx context.Context, caller policy.Caller, path, query string) (policy.Explanation, error) {
			q := url.Values{"format": {"json"}, "as": caller.Groups}
			body, err := server.do(ctx, s, http.MethodGet, "/-/explain/"+strings.TrimSuffix(path+"@"+query, "@")+"?"+q.Encode())
			if err != nil {
				return policy.Explanation{}, err
			}
			var e policy.Explanation
			return e, json.Unmarshal(body, &e)
		}
		return a, nil
	}
}

// localExplainer puts the app together for the rules in a file. What it learns
// is kept in the cache if there is one, else for the moment. A server may be at
// work in the same cache: nothing is evicted here, no repository touched, and
// nothing shared with other replicas.
func localExplainer(ctx context.Context, s *settings) (explainer, func() error, error) {
	c := s.Config
	own := c
	if len(c.Private) > 0 {
		own.Cache.S3 = S3{} // who names patterns need not reach the bucket
	}
	kept, err := readFleetPrivate(ctx, &own)
	if err != nil {
		return nil, nil, err
	}
	c.Private = append(slices.Clone(c.Private), kept.patterns()...)
	c.Cache.MaxSize, c.Direct.Go = 0, "off"
	c.Cache.S3, c.Cache.Redis = S3{}, Redis{}
	c.Auth = Auth{}
	clean := func() error { return nil }
	if _, err := os.Stat(c.Cache.Dir); errors.Is(err, fs.ErrNotExist) {
		dir, err := os.MkdirTemp("", "modgate-explain-")
		if err != nil {
			return nil, nil, err
		}
		c.Cache.Dir, clean = dir, func() error { return os.RemoveAll(dir) }
	}
	a, err := wire(ctx, &c, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, errors.Join(err, clean())
	}
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return a.server.Run(ctx) })
	done := func() error {
		cancel()
		return errors.Join(g.Wait(), a.close(), clean())
	}
	return a.explainAnyway, done, nil
}

// explainAnyway explains a version also where nothing can be found out about
// it: most rules need nothing.
func (a *app) explainAnyway(ctx context.Context, caller policy.Caller, path, query string) (policy.Explanation, error) {
	e, err := a.server.Explain(ctx, caller, path, query)
	if err == nil || ctx.Err() != nil || query == "" || module.Check(path, query) != nil {
		return e, err
	}
	e = a.rules.Explain(caller, module.Version{Path: path, Version: query}, policy.Facts{Now: time.Now()})
	e.Facts = append(e.Facts, "nothing: "+err.Error())
	return e, nil
}

// explained answers GET /-/explain/MODULE[@VERSION][?as=GROUP][&format=json].
func (a *admin) explained(w http.ResponseWriter, r *http.Request) {
	path, query, _ := strings.Cut(r.PathValue("question"), "@")
	if err := module.CheckPath(path); err != nil {
		plain(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	caller := policy.Caller{Groups: r.URL.Query()["as"]}
	e, err := a.explain(r.Context(), caller, path, query)
	if len(caller.Groups) > 0 && a.settings.Auth.File == "" {
		e.Facts = append(e.Facts, "this server has no auth.file: no caller is in a group, whatever --as says")
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		plain(w, http.StatusNotFound, "there is no "+r.PathValue("question")+"\n")
	case err != nil:
		plain(w, http.StatusBadGateway, err.Error()+"\n")
	case r.URL.Query().Get("format") == "json":
		w.Header().Set("Content-Type", "application/json")
		writeJSON(w, e)
	default:
		var b strings.Builder
		printExplanation(&b, &e, r.URL.Query().Has("all"))
		plain(w, http.StatusOK, b.String())
	}
}

// printExplanation puts e into words.
func printExplanation(w io.Writer, e *policy.Explanation, all bool) {
	answer := "may be had"
	switch {
	case e.Verdict.Deny && e.Verdict.Wants != 0:
		answer = "cannot be decided now"
	case e.Verdict.Deny:
		answer = "is refused"
	}
	fmt.Fprintf(w, "%s %s", strings.TrimSuffix(e.Module+"@"+e.Version, "@"), answer)
	if len(e.Groups) > 0 {
		fmt.Fprintf(w, " for the groups %s", strings.Join(e.Groups, ", "))
	}
	fmt.Fprintf(w, ": rule %s decides\n", e.Rule)
	if e.Newest != "" {
		fmt.Fprintf(w, "newest allowed: %s\n", e.Newest)
	}
	for _, f := range e.Facts {
		fmt.Fprintf(w, "known: %s\n", f)
	}
	others := 0
	for _, s := range e.Steps {
		if s.Other && !all {
			others++
			continue
		}
		mark := " "
		if s.Decides {
			mark = ">"
		}
		fmt.Fprintf(w, "%s %-5s %s (line %d): %s\n", mark, s.Action, s.Rule, s.Line, s.Why)
		if s.Change != "" && (s.Applies || all) {
			fmt.Fprintf(w, "          what would change that: %s\n", s.Change)
		}
	}
	if others > 0 {
		fmt.Fprintf(w, "  and %s for other modules\n", counted(others, "rule"))
	}
	if e.Verdict.Text != "" {
		fmt.Fprint(w, "the client reads:\n")
		for line := range strings.Lines(e.Verdict.Text) {
			fmt.Fprint(w, "  "+line)
		}
	}
}
