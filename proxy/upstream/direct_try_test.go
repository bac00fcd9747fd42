package upstream

import (
	"strings"
	"testing"
)

// What is configured for a host is tried there, and what is wrong with it is
// told without it.
func TestDirectTry(t *testing.T) {
	w, s := sshWorld(t, nil)
	w.repo(lib, tagged("v1.0.0"))
	for _, test := range []struct{ address, kind, wrong string }{
		{s.URL(""), "SSH key", ""},
		{"ssh://git@other.corp.example", "", "none is configured for it"},
		{"https://" + gitHost, "", ""},
		{"https://" + lib + ".git", "", "wants credentials"},
		{"git://" + gitHost, "", "begins with https://host or ssh://host"},
	} {
		kind, err := w.direct.Try(t.Context(), test.address)
		if kind != test.kind || (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
			t.Errorf("%s: %q, %v", test.address, kind, err)
		}
	}
}
