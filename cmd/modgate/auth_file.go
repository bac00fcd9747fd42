package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/auth"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
)

// authFile is the file of tokens. What its fields mean is said in auth.Token.
type authFile struct {
	Tokens []tokenFile `yaml:"tokens"`
}

type tokenFile struct {
	Name    string `yaml:"name"`
	SHA256  string `yaml:"sha256"`
	Groups  words  `yaml:"groups"`
	Expires string `yaml:"expires"`
}

// readTokens reads the file of tokens called name. check finds what is wrong with
// them, which is reported with lines, together with what is wrong with the file.
func readTokens(name string, data []byte, check func([]auth.Token) error) error {
	var f authFile
	if err := strictYAML(name, data, &f); err != nil {
		return err
	}
	tree, err := parse(data)
	if err != nil {
		return err
	}
	lines := lineFinder{tree}
	if lines.line("tokens") == 0 {
		// Likely a file that somebody is still writing. It must not revoke all.
		return fmt.Errorf("%s: the file has no key tokens: write tokens: [] if no token is to count", name)
	}
	if err := refuseNothing(name, data, "tokens: [] if no token is to count"); err != nil {
		return err
	}
	var empty error
	for _, m := range findEmptyKeys(tree) {
		if m.Path == "tokens" { // [], as refuseNothing lets nothing else pass
			continue
		}
		empty = errors.Join(empty, fmt.Errorf("%s:%d: %w", name, m.Line, &policy.Mistake{Path: m.Path, Problem: m.Problem, Advice: m.Advice}))
	}
	if empty != nil {
		return empty
	}
	return lines.locate(name, check(f.tokens(lines)))
}

func (f *authFile) tokens(lines lineFinder) []auth.Token {
	var all []auth.Token
	for i, t := range f.Tokens {
		all = append(all, auth.Token{Line: lines.line(fmt.Sprintf("tokens[%d]", i)), Name: t.Name, SHA256: t.SHA256, Groups: t.Groups, Expires: t.Expires})
	}
	return all
}

// checkTokens reports what is wrong with tokens.
func checkTokens(tokens []auth.Token) error {
	_, err := auth.New(auth.Config{Tokens: tokens})
	return err
}

// checkAuthFile reports what is wrong with the file of tokens, if there is one.
func checkAuthFile(c *Config) error {
	if c.Auth.File == "" {
		return nil
	}
	data, err := readNamed(c.Auth.File)
	if err == nil {
		err = readTokens(c.Auth.File, data, checkTokens)
	}
	if err != nil {
		return fmt.Errorf("auth.file: %w", err)
	}
	return nil
}

// groupsOf returns the groups that tokens of the file are in; nil if there is no
// such file, or it cannot be read: then nothing can be said about groups.
func groupsOf(c *Config) (groups []string) {
	byName, err := groupsByCaller(c)
	if err != nil || byName == nil {
		return nil
	}
	return slices.Concat([]string{}, slices.Concat(slices.Collect(maps.Values(byName))...))
}

// groupsByCaller returns the groups that each caller in the file of tokens is in by
// any of its tokens; nil if there is no such file.
func groupsByCaller(c *Config) (map[string][]string, error) {
	if c.Auth.File == "" {
		return nil, nil
	}
	data, err := readNamed(c.Auth.File)
	byName := map[string][]string{}
	if err == nil {
		err = readTokens(c.Auth.File, data, func(tokens []auth.Token) error {
			for _, t := range tokens {
				groups := slices.Sorted(slices.Values(slices.Concat(byName[t.Name], t.Groups)))
				byName[t.Name] = slices.Compact(groups)
			}
			return checkTokens(tokens)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("auth.file: %w", err)
	}
	return byName, nil
}

// listedTokens returns the hashes of tokens that stand in a file, however wrong the
// rest of it may be, in lower case. It reports false for one that says nothing, or is
// no YAML: likely somebody is still writing it. Only an empty list that is written out
// means that there is none.
func listedTokens(data []byte) (map[string]bool, bool) {
	tree, err := parse(data)
	if err != nil {
		return nil, false
	}
	listed := scalars{}
	for _, doc := range tree.Docs {
		if doc.Body != nil {
			ast.Walk(listed, doc.Body)
		}
	}
	for text := range listed {
		if len(text) == hex.EncodedLen(sha256.Size) {
			return listed, true
		}
	}
	_, isList := lineFinder{tree}.node("tokens").(*ast.SequenceNode)
	return listed, isList
}

// scalars gathers the values in a file. It is an ast.Visitor.
type scalars map[string]bool

// Visit implements ast.Visitor.
func (s scalars) Visit(node ast.Node) ast.Visitor {
	if text, ok := scalar(node); ok {
		s[strings.ToLower(text)] = true
	}
	return s
}

// newTokens has callers know the tokens of a file that has changed. From one with
// mistakes it takes what is gone: a slip in one entry must not keep another alive.
func newTokens(callers *auth.Auth, file string, data []byte, log *slog.Logger) error {
	err := readTokens(file, data, callers.SetTokens)
	if err == nil {
		return nil
	}
	listed, ok := listedTokens(data)
	if !ok {
		return err
	}
	if revoked := callers.Keep(listed); len(revoked) > 0 {
		log.Warn("tokens that the file has no more are revoked; nothing else of it counts before it is mended", "file", file, "names", revoked)
	}
	return err
}

// addAuth puts what c says about callers in front of next. The tokens are kept up
// to date with their file.
func (a *app) addAuth(c *Config, next http.Handler, registry *prometheus.Registry, log *slog.Logger) (http.Handler, error) {
	if c.Auth.File == "" {
		if groups := a.rules.now.Load().Groups(); len(groups) > 0 {
			log.Warn("rules are for groups, and without auth.file no caller is in one: they never apply", "groups", groups)
		}
		return next, nil
	}
	var callers *auth.Auth
	err := a.reloads.add("auth.file", c.Auth.File, func(data []byte) error {
		if callers != nil {
			return newTokens(callers, c.Auth.File, data, log)
		}
		return readTokens(c.Auth.File, data, func(tokens []auth.Token) (err error) {
			callers, err = auth.New(auth.Config{Required: c.Auth.Required == "true", Tokens: tokens})
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	registry.MustRegister(callers.Collectors()...)
	if !c.TLS.on() && !isLoopback(c.Listen) {
		log.Warn("tokens travel in the clear: the go command sends none over plain HTTP, and whoever listens has those that other clients send", "listen", c.Listen, "remedy", "set tls.mode, or let listen be 127.0.0.1 and a proxy with TLS stand in front")
	}
	asked := callers.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fromInside(r) {
			access.From(w).Groups = []string{policy.Inside}
			next.ServeHTTP(w, r)
			return
		}
		asked.ServeHTTP(w, r)
	}), nil
}

// isLoopback reports whether nobody outside reaches address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
