package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A broken file keeps what was there and raises the alarm once; a mended one
// ends it; an unchanged one is left alone.
func TestReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rules.yaml")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var (
		log     bytes.Buffer
		applied []string
	)
	apply := func(data []byte) error {
		if strings.HasPrefix(string(data), "bad") {
			return errors.New("line 1: bad https://u:hush@x/\n  password: hush")
		}
		applied = append(applied, string(data))
		return nil
	}
	r := newReloads(slog.New(slog.NewTextHandler(&log, nil)))
	if err := r.add("policy.file", path, apply); err == nil || !strings.Contains(err.Error(), "policy.file") {
		t.Errorf("a file that is not there: %v", err)
	}
	write("bad")
	if err := r.add("policy.file", path, apply); err == nil {
		t.Error("a bad file at the start is no error")
	}
	write("one")
	if err := r.add("policy.file", path, apply); err != nil {
		t.Fatal(err)
	}
	var since time.Time
	for _, step := range []struct{ content, want, logged, status string }{
		{"one", "one", "", ""},
		{"bad 1", "one", "stays in force", "line 1: bad https://hidden@x/"},
		{"bad 1", "one", "", "line 1: bad https://hidden@x/"},
		{"", "one", "no such file", "no such file"},
		{"two", "one two", "reloaded", ""},
		{"two", "one two", "", ""},
	} {
		log.Reset()
		if step.content == "" {
			os.Remove(path)
		} else {
			write(step.content)
		}
		r.look(r.files[0])
		if got := strings.Join(applied, " "); got != step.want {
			t.Errorf("after %q: applied %q, want %q", step.content, got, step.want)
		}
		if !strings.Contains(log.String(), step.logged) || step.logged == "" && log.Len() > 0 {
			t.Errorf("after %q: logged %q, want %q", step.content, log.String(), step.logged)
		}
		switch failed := r.failures(); {
		case (step.status == "") != (len(failed) == 0):
			t.Errorf("after %q: failures %+v", step.content, failed)
		case len(failed) == 1:
			f := failed[0]
			if since.IsZero() {
				since = f.Since
			}
			if f.Key != "policy.file" || f.File != path || !strings.Contains(f.Error, step.status) || strings.ContainsAny(f.Error, "\n") || f.Since.IsZero() || !f.Since.Equal(since) {
				t.Errorf("after %q: %+v, want %q since %s", step.content, f, step.status, since)
			}
		}
	}
}

func TestStrictYAML(t *testing.T) {
	t.Parallel()
	type file struct {
		Name  string   `yaml:"name"`
		Words []string `yaml:"words"`
	}
	for _, test := range []struct{ data, mistake string }{
		{"", ""},
		{"name: x\nwords: [a, b]\n", ""},
		{"name: x\nnmae: y\n", "f.yaml:2: "},
		{"name: [x]\n", "f.yaml:1: "},
		{"name: x\nname: y\n", "f.yaml:2: "},
		{"name: x\n---\nname: y\n", "second document"},
		{"{", "f.yaml:"},
		{"name: canary\nnmae: x\n", "f.yaml:2: "},
	} {
		var v file
		err := strictYAML("f.yaml", []byte(test.data), &v)
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: the error shows a line of the file: %v", test.data, err)
		}
		if test.mistake == "" && err != nil || test.mistake != "" && (err == nil || !strings.Contains(err.Error(), test.mistake)) {
			t.Errorf("%q: %v, want %q", test.data, err, test.mistake)
		}
	}
}
