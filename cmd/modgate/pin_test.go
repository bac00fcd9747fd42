package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/sumdb"
)

// TestPinCommand accepts a moved tag: what was cached of the version goes, and
// who did it and why stays.
func TestPinCommand(t *testing.T) {
	t.Parallel()
	dir, mods := filled(t)
	m := mods[0].Version
	d, err := disk.New(disk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	pins := pinsIn(t, dir)
	if err := pins.Verify(t.Context(), m, "zip", "h1:first="); err != nil {
		t.Fatal(err)
	}
	_ = pins.Verify(t.Context(), m, "zip", "h1:moved=")
	d.Close()

	at := "--cache-dir=" + dir
	out, err := modgate(t, "pin", "show", at, m.String())
	if err != nil || !strings.Contains(out, "h1:first=") || !strings.Contains(out, "h1:moved= refused") {
		t.Errorf("show: %v\n%s", err, out)
	}
	if _, err := modgate(t, "pin", "accept", at, m.String()); err == nil || !strings.Contains(err.Error(), "--reason") {
		t.Errorf("accept without a reason: %v", err)
	}
	if _, err := modgate(t, "pin", "accept", at, m.String(), "h1:other=", "--reason=x"); err == nil {
		t.Error("accept of a hash that was not refused: no error")
	}
	out, err = modgate(t, "pin", "accept", at, m.String(), "h1:moved=", "--reason=ticket 4711")
	if err != nil || !strings.Contains(out, "was h1:first=, is h1:moved=") || !strings.Contains(out, "ticket 4711") {
		t.Errorf("accept: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, m.Path, "@v", m.Version+".zip")); !os.IsNotExist(err) {
		t.Errorf("the zip with the old content is still cached: %v", err)
	}
	if out, err = modgate(t, "pin", "show", "--json", at, m.String()); err != nil || !strings.Contains(out, `"reason": "ticket 4711"`) {
		t.Errorf("show --json: %v\n%s", err, out)
	}
	for _, bad := range []string{"git.corp.example/x", "git.corp.example/x@main", "x@v1.0.0", "git.corp.example/never@v1.0.0"} {
		if _, err := modgate(t, "pin", "show", at, bad); err == nil {
			t.Errorf("show %s: no error", bad)
		}
	}
	if _, err := modgate(t, "cache", "purge", at, m.Path); err != nil {
		t.Error(err)
	}
	name, err := sumdb.PinName(module.Version{Path: m.Path, Version: m.Version})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".modgate", name)); err != nil {
		t.Errorf("purge has removed the pin: %v", err)
	}
}
