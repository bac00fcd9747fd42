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

// missing reports the files that credentials name and that do not exist, and
// programs that rules need.
func (r Rules) missing() error {
	var mistakes []error
	for i, c := range r.Credentials {
		var names []string
		for _, value := range []string{c.Username, c.Password, c.SSHKey} {
			if name, ok := strings.CutPrefix(value, "file:"); ok {
				names = append(names, name)
			} else if value == c.SSHKey && !strings.HasPrefix(value, "env:") {
				names = append(names, value)
			}
		}
		for _, name := range append(names, strings.TrimPrefix(c.KnownHosts, "file:"), c.Netrc) {
			if name == "" {
				continue
			}
			if _, err := os.Stat(name); err != nil {
				mistakes = append(mistakes, fmt.Errorf("credential %d (match %q): %w", i+1, c.Match, err))
			}
		}
	}
	if len(r.Mercurial) > 0 {
		if _, err := exec.LookPath("hg"); err != nil {
			mistakes = append(mistakes, fmt.Errorf("mercurial: needs the command hg: %w", err))
		}
	}
	return errors.Join(mistakes...)
}
