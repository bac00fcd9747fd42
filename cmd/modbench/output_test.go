package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestIntoFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "doc.md")
	write(t, name, "# Head\n"+beginReport+"\nold\n"+endReport+"\ntail\n")
	for _, text := range []string{"first\n", "second\n"} {
		if err := intoFile(name, beginReport, endReport, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if want := "# Head\n" + beginReport + "\n\n" + text + "\n" + endReport + "\ntail\n"; err != nil || string(got) != want {
			t.Errorf("document = %q, %v, want %q", got, err, want)
		}
	}
}

func TestIntoFileKeepsTheDocument(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain, marked := filepath.Join(dir, "plain.md"), filepath.Join(dir, "marked.md")
	write(t, plain, "# Head\n")
	write(t, marked, beginReport+"\nold\n"+endReport+"\n")
	if err := intoFile(plain, beginReport, endReport, func(io.Writer) error { t.Error("measured for nothing"); return nil }); err == nil {
		t.Error("a document without the lines was accepted")
	}
	failed := errors.New("failed")
	if err := intoFile(marked, beginReport, endReport, func(io.Writer) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
	if got, err := os.ReadFile(marked); err != nil || string(got) != beginReport+"\nold\n"+endReport+"\n" {
		t.Errorf("document = %q, %v", got, err)
	}
}
