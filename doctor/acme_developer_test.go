package doctor_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modgate/modgate/doctor"
)

// developer is what somebody meets whose builds take modules from the server, in the
// state in which it is: doctor finds want there, in less than 10 s, and what the go
// command says is recorded, and returned.
func (a *acmeWorld) developer(told *sayings, name, want string) string {
	a.t.Helper()
	roots := filepath.Join(a.t.TempDir(), "roots.pem")
	a.check(os.WriteFile(roots, a.signed, 0o600))
	a.set("GOPROXY", a.https)
	a.set("SSL_CERT_FILE", roots)
	a.named = true
	var r *doctor.Report
	quick(a.t, func() { r = examine(a.t, a.config) })
	checkTexts(a.t, r)
	if got := strings.Join(codes(r), " "); got != want {
		a.t.Errorf("a developer finds %q, want %q\n%s", got, want, text(r))
	}
	said := a.goSays(a.t)
	failed := slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Severity == doctor.Fail })
	if (said == itWorks) == failed {
		a.t.Errorf("a developer finds %q, and the go command says %s", codes(r), said)
	}
	if failed {
		checkSymptoms(a.t, r, said)
	}
	told.add(name, said)
	return said
}
