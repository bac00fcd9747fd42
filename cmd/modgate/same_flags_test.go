package main

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// What is to be run with the flags of the server takes them as they are.
func TestCommandsTakeTheFlagsOfTheServer(t *testing.T) {
	t.Parallel()
	out, err := modgate(t, "env", "--cache-dir="+t.TempDir(), "--private=git.corp.example/*", "--admin-listen=127.0.0.1:9", "--log-format=json", "--listen=127.0.0.1:7")
	if err != nil || !strings.Contains(out, "GOPROXY=http://127.0.0.1:7") {
		t.Errorf("%v\n%s", err, out)
	}
	_, err = modgate(t, "ca", "root", "--listen=127.0.0.1:7", "--tls-mode=internal", "--cache-dir="+t.TempDir())
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no authority of our own in the storage") {
		t.Errorf("%v", err)
	}
	p := &process{}
	for _, k := range keys() {
		for name, cmd := range map[string]*cobra.Command{
			"env": envCommand(p), "ca root": caCommand(p).Commands()[0], "doctor": doctorCommand(p),
		} {
			if cmd.Flags().Lookup(k.flag()) == nil {
				t.Errorf("%s lacks --%s", name, k.flag())
			}
		}
	}
	if _, err := modgate(t, "doctor", "--upstream=https://mirror.example"); err == nil || !strings.Contains(err.Error(), "--upstream goes with --server") {
		t.Errorf("a flag of the server without --server: %v", err)
	}
	if out, err := modgate(t, "env", "--help"); err != nil || strings.Contains(out, "--cache-max-size") || !strings.Contains(out, "--private") {
		t.Errorf("help should show what counts: %v\n%s", err, out)
	}
}
