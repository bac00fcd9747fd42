package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// A key in GOSUMDB that is well-formed, and not that of the checksum database.
func TestDoctorOnWrongKey(t *testing.T) {
	w := newWorld(t)
	i := w.start(t)
	other, err := sumdbtest.New(w.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ key, says, want string }{
		{w.log.Key(), "", ""},
		{other.Key(), "note has no verifiable signatures", "sumdb-wrong-key"},
	} {
		environ := slices.DeleteFunc(goEnv(t.TempDir(), i.url, test.key), func(v string) bool { return strings.HasSuffix(v, "=") })
		cmd := exec.Command("go", "mod", "download", "example.com/greet@v1.0.0")
		cmd.Dir, cmd.Env = t.TempDir(), environ
		if said, err := cmd.CombinedOutput(); (err == nil) != (test.says == "") || !strings.Contains(string(said), test.says) {
			t.Errorf("%s: the go command says %s, %v", test.key, said, err)
		}
		if codes, _, out := examineJSON(t, environ, "example.com/greet@v1.0.0"); strings.Join(codes, " ") != test.want {
			t.Errorf("%s: %q\n%s", test.key, codes, out)
		}
	}
}
