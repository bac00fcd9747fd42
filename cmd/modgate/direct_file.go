package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/modgate/modgate/proxy/upstream"
)

// directFile is the file that direct.file names.
type directFile struct {
	Repositories []struct {
		Match string `yaml:"match"`
		URL   string `yaml:"url"`
	} `yaml:"repositories"`
	Credentials []struct {
		Match      string `yaml:"match"`
		Username   string `yaml:"username"`
		Password   string `yaml:"password"`
		SSHKey     string `yaml:"ssh_key"`
		KnownHosts string `yaml:"known_hosts"`
		Netrc      string `yaml:"netrc"`
		Helper     string `yaml:"helper"`
	} `yaml:"credentials"`
	Mercurial []string `yaml:"mercurial"`
	Networks  []string `yaml:"networks"`
}

// parseDirectFile reads the rules for private modules in data, the file called
// name. What the rules mean is checked by whom they are for.
func parseDirectFile(name string, data []byte) (upstream.Rules, error) {
	var f directFile
	if err := refuseNothing(name, data, "repositories: [] if there are to be no rules"); err != nil {
		return upstream.Rules{}, err
	}
	if err := strictYAML(name, data, &f); err != nil {
		return upstream.Rules{}, err
	}
	r := upstream.Rules{Mercurial: f.Mercurial, Networks: f.Networks}
	for _, repo := range f.Repositories {
		r.Repositories = append(r.Repositories, upstream.Repository(repo))
	}
	for _, c := range f.Credentials {
		r.Credentials = append(r.Credentials, upstream.Credential(c))
	}
	return r, nil
}

// atLines puts name, and the line in data, before each mistake in err that
// upstream has found in the rules which data holds.
func atLines(name string, data []byte, err error) error {
	tree, unread := parse(data)
	if err == nil || unread != nil {
		return err
	}
	lines := lineFinder{tree}
	var all []located
	for _, e := range each(err) {
		at := located{err: e}
		if m := (*upstream.RuleMistake)(nil); errors.As(e, &m) {
			entry, _, _ := strings.Cut(m.At, ".")
			at.line = cmp.Or(lines.line(m.At), lines.line(entry))
			at.err = fmt.Errorf("%s:%d: %w", name, at.line, e)
		}
		all = append(all, at)
	}
	slices.SortStableFunc(all, func(a, b located) int { return cmp.Compare(a.line, b.line) })
	var out error
	for _, at := range all {
		out = errors.Join(out, at.err)
	}
	return out
}

// located is an error about a line.
type located struct {
	line int
	err  error
}

// each returns the errors that were joined in err.
func each(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, each(e)...)
	}
	return all
}

// unsetVariable is a variable that a credential names and that is not set.
type unsetVariable struct {
	name string
	line int
}

// unsetVariables returns the variables that rules, which were read from data, name
// and that lookup does not find. They are no mistake, but each request to the host
// of such a credential fails.
func unsetVariables(rules upstream.Rules, data []byte, lookup func(string) (string, bool)) (unset []unsetVariable) {
	tree, err := parse(data)
	if err != nil {
		return nil
	}
	for i, c := range rules.Credentials {
		for _, field := range []struct{ key, value string }{{"username", c.Username}, {"password", c.Password}, {"ssh_key", c.SSHKey}} {
			name, ok := strings.CutPrefix(field.value, "env:")
			if !ok {
				continue
			}
			if _, set := lookup(name); !set {
				unset = append(unset, unsetVariable{name, lineFinder{tree}.line(fmt.Sprintf("credentials[%d].%s", i, field.key))})
			}
		}
	}
	return unset
}
