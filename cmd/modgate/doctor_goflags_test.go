package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDoctorOnGOFLAGS holds what doctor says of GOFLAGS against the go command: one
// that it refuses is named, with what is left of the others as the remedy, and one
// that only some of its commands know is none of doctor's business.
func TestDoctorOnGOFLAGS(t *testing.T) {
	w := newWorld(t)
	i := w.start(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module m\n\ngo 1.26\n", "m.go": "package m\n", "overlay.json": "{}"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	environ := slices.DeleteFunc(goEnv(dir, i.url, w.log.Key()), func(v string) bool {
		return strings.HasSuffix(v, "=") || strings.HasPrefix(v, "GOFLAGS=") || strings.HasPrefix(v, "GOENV=")
	})
	file := filepath.Join(dir, ".config", "go", "env")
	for _, test := range []struct {
		flags string
		go1   string // what the go command says
		value string // doctor: what is wrong; "": nothing
		mend  string
	}{
		{"-proxy=s3cret-url", "unknown flag -proxy", "unknown flag -proxy", "unset GOFLAGS"},
		{"-modcachrw -mod=mod", "unknown flag -modcachrw", "unknown flag -modcachrw", "export GOFLAGS=-mod=mod"},
		{"-x --modcachrw -colour", "unknown flag -modcachrw", "unknown flag -modcachrw; unknown flag -colour", "export GOFLAGS=-x"},
		{"-mod=vender", "-mod=vender not supported", "-mod=vender not supported (can be '', 'mod', 'readonly', or 'vendor')", "unset GOFLAGS"},
		{"-p=s3cret-number", `invalid value "s3cret-number" for flag -p`, "invalid value … for flag -p", "unset GOFLAGS"},
		{"-trimpath=maybe '-ldflags=-X main.token=s3cret token'", "invalid boolean value", "invalid boolean value … for flag -trimpath", "take that out of GOFLAGS"},
		{"-tags", "flag needs an argument: -tags", "flag needs an argument: -tags", "unset GOFLAGS"},
		{"-overlay=" + dir + "/nowhere.json", "reading overlay: ", "reading overlay: open " + dir + "/nowhere.json: no such file or directory", "unset GOFLAGS"},
		{"-mod=mod -modcacherw", "", "", ""},
		{"--mod=readonly -count=1 -run=X -v", "", "", ""}, // of go test
		{"-u -json -m -f={{.Path}} -t -n", "", "", ""},    // of go list and go get
		{"'-ldflags=-s -w' -trimpath -buildvcs=auto -tags=a,b -p=4 -overlay=" + dir + "/overlay.json", "", "", ""},
	} {
		for _, from := range []string{"environment", "go env -w"} {
			name := "GOFLAGS=" + test.flags + ", " + from
			all, mend := append(slices.Clone(environ), "GOFLAGS="+test.flags), test.mend
			if err := os.RemoveAll(file); err != nil {
				t.Fatal(err)
			}
			if from == "go env -w" {
				all = environ
				if err := os.WriteFile(file, []byte("GOFLAGS="+test.flags+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				mend = strings.NewReplacer("unset ", "go env -u ", "export ", "go env -w ").Replace(mend)
			}
			cmd := exec.Command("go", "build", "-o", os.DevNull, ".")
			cmd.Dir, cmd.Env = dir, all
			if said, err := cmd.CombinedOutput(); test.go1 == "" == (err != nil) || !strings.Contains(string(said), test.go1) {
				t.Errorf("%s: the go command says %s, %v", name, said, err)
			}
			codes, _, out := examineJSON(t, all, "example.com/greet@v1.0.0")
			if test.value == "" {
				if len(codes) > 0 {
					t.Errorf("%s: %q\n%s", name, codes, out)
				}
				continue
			}
			if !slices.Equal(codes, []string{"env-goflags-invalid"}) || !strings.Contains(out, `"GOFLAGS has what the go command cannot read: `+test.value) || !strings.Contains(out, `"`+mend+`"`) {
				t.Errorf("%s: %q\n%s", name, codes, out)
			}
			if strings.Contains(out, "s3cret") {
				t.Errorf("%s: a value is shown\n%s", name, out)
			}
		}
	}
}
