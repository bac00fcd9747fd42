package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// policyHits measures modgate with a file of rules beside modgate without one: the
// hits of go.mod files, lists and a zip, in turn.
func policyHits(ctx context.Context, b *bench) (result, error) {
	r := result{Unit: unitPerSecond}
	kinds, err := b.policyPaths()
	if err != nil {
		return r, err
	}
	rules := filepath.Join(b.tmp, "rules.yaml")
	if err := os.WriteFile(rules, []byte(benchRules()), 0o644); err != nil {
		return r, err
	}
	var servers []warmServer
	for name, args := range map[string][]string{"off": nil, "on": {"--policy-file=" + rules}} {
		t := b.near()
		t.Args = args
		s, err := b.bin.startProxy(ctx, "modgate", b.dir("rules-"+name), t)
		if err != nil {
			return r, err
		}
		defer s.Close()
		servers = append(servers, warmServer{name: name, url: s.URL})
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		pairs, err := b.policyRounds(ctx, &r, kind, kinds[kind], servers)
		if err != nil {
			return r, err
		}
		r.Checks = append(r.Checks, check{What: kind + " on / off", Value: median(pairs), Bar: 0.95})
	}
	r.note("on / off is the median of what each round gave, whose two halves follow upon each other")
	r.note("on: 1,000 rules with 10,000 patterns, of which two rules are for all modules and test what the newest go.mod says, and one pattern and its range match half of the modules")
	return r, nil
}

// policyRounds measures servers in turn, each first as often as second: on a
// machine that grows slower neither may gain by it. It returns on / off of each
// round.
func (b *bench) policyRounds(ctx context.Context, r *result, kind string, paths []string, servers []warmServer) (pairs []float64, err error) {
	for round := range 2 * b.cfg.Rounds {
		reached := make(map[string]float64)
		for i := range servers {
			s := servers[(i+round)%len(servers)]
			lr, err := load(ctx, loadConfig{Base: s.url, Paths: paths, Connections: b.cfg.Conns, Duration: b.cfg.Duration, Wrk: b.wrk, Dir: b.tmp})
			if err != nil {
				return nil, fmt.Errorf("%s %s: %w", kind, s.name, err)
			}
			reached[s.name] = lr.PerSecond
			r.add(kind+" "+s.name, lr.PerSecond)
			b.log.Info("policy", "kind", kind, "rules", s.name, "per_second", int(lr.PerSecond), "p99", lr.P99)
		}
		pairs = append(pairs, reached["on"]/reached["off"])
	}
	return pairs, nil
}

// policyPaths returns what is asked for, by kind.
func (b *bench) policyPaths() (map[string][]string, error) {
	mods, err := treePaths(b.tree, ".mod")
	if err != nil {
		return nil, err
	}
	mods = mods[:min(len(mods), 256)]
	var lists []string
	for _, p := range mods {
		if l := path.Dir(p) + "/list"; !slices.Contains(lists, l) {
			lists = append(lists, l)
		}
	}
	zip, _, err := zipOfSize(b.tree, 240e3)
	return map[string][]string{".mod": mods, "list": lists[:min(len(lists), 64)], "zip": {zip}}, err
}

// benchRules is a file of rules as a company has it after some years.
func benchRules() string {
	var b strings.Builder
	b.WriteString(`rules:
  - {name: taken-back, when: {retracted: true}, action: deny, reason: its author took it back}
  - {name: given-up, when: {deprecated: true}, action: audit, reason: nobody keeps it}
  - {name: early, modules: "github.com/*", versions: "<v0.0.0-1", action: deny, reason: before all versions}
`)
	forms := []string{"github.com/org%d/*", "github.com/org%d/repo", "'*.host%d.example'", "host%d.example/*/x", "gopkg.in/p%d*", "go-%d.example", "github.com/*/name%d", "example.com/a%d/b/c", "k%d.io", "github.com/s%d/go-*"}
	for i := range 997 {
		fmt.Fprintf(&b, "  - name: r%d\n    action: deny\n    reason: because of what was found in case %d\n    versions: ['<v1.0.0', '>=v2.0.0 <v2.1.0']\n    modules:\n", i, i)
		for _, form := range forms {
			fmt.Fprintf(&b, "      - "+form+"\n", i)
		}
	}
	return b.String()
}
