package upstream

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Check reports all mistakes in r, without secrets. private are the patterns
// (as in GOPRIVATE) that it is for.
func (r Rules) Check(private string) error {
	_, err := r.check(private)
	return errors.Join(err, r.missing())
}

// RuleMistake is a mistake in Rules, without secrets.
type RuleMistake struct {
	// At is where it is, by the names that the fields of Rules, Repository and
	// Credential have in a file: credentials[0].ssh_key.
	At string
	// Problem says what is wrong and what would be right.
	Problem string

	entry string // what the entry is known by
	err   error
}

// Error implements error.
func (m *RuleMistake) Error() string { return m.At + m.entry + ": " + m.Problem }

// Unwrap returns the cause.
func (m *RuleMistake) Unwrap() error { return m.err }

// inKey makes err, if it is one, a mistake in a key of an entry.
func inKey(key string, err error) error {
	if err == nil {
		return nil
	}
	return &RuleMistake{At: key, Problem: err.Error(), err: err}
}

// wrongRule makes err a mistake in the i-th entry of a list.
func wrongRule(list string, i int, entry string, err error) error {
	m := &RuleMistake{At: fmt.Sprintf("%s[%d]", list, i), Problem: err.Error(), entry: entry, err: err}
	if in := (*RuleMistake)(nil); errors.As(err, &in) {
		m.At += "." + in.At
		m.Problem = in.Problem
	}
	return m
}

// missing reports the files that credentials name and that do not exist, and
// programs that rules need.
func (r Rules) missing() error {
	var mistakes []error
	for i, c := range r.Credentials {
		for _, field := range []struct{ key, value string }{
			{"username", c.Username}, {"password", c.Password}, {"ssh_key", c.SSHKey}, {"known_hosts", c.KnownHosts}, {"netrc", c.Netrc},
		} {
			name, isFile := strings.CutPrefix(field.value, "file:")
			value := field.key == "username" || field.key == "password" // else it is a file in any case
			if name == "" || value && !isFile || strings.HasPrefix(name, "env:") {
				continue
			}
			if _, err := os.Stat(name); err != nil {
				mistakes = append(mistakes, wrongRule("credentials", i, fmt.Sprintf(" (match %q)", c.Match), inKey(field.key, err)))
			}
		}
		if command := strings.Fields(c.Helper); len(command) > 0 && strings.Contains(command[0], "/") {
			if _, err := exec.LookPath(command[0]); err != nil {
				mistakes = append(mistakes, wrongRule("credentials", i, fmt.Sprintf(" (match %q)", c.Match), inKey("helper", err)))
			}
		}
	}
	if len(r.Mercurial) > 0 {
		if _, err := exec.LookPath("hg"); err != nil {
			mistakes = append(mistakes, wrongRule("mercurial", 0, "", fmt.Errorf("needs the command hg: %w", err)))
		}
	}
	return errors.Join(mistakes...)
}
