package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

func TestPrivateMeasuresARepository(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs the go command and git")
	}
	gittest.Need(t, "git", "go")
	var out, progress bytes.Buffer
	err := run(t.Context(), []string{"private", "--contenders=direct", "--commits=20", "--tags=4", "--tree=0", "--old=1", "--rounds=2", "--delay=0",
		"--work", t.TempDir(), "--scratch", t.TempDir()}, &out, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	for _, want := range []string{"20 commits and 4 tags", "| first version of a repository", "| what | unit | direct | static |", "| a commit without a tag", "2, contenders in turn"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("report lacks %q:\n%s", want, out.String())
		}
	}
}

func TestPrivateReportsAllMistakesOfTheCommandLine(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), []string{"private", "--contenders=atehns", "--rounds=0", "--tags=1", "--work", t.TempDir()}, &bytes.Buffer{}, &bytes.Buffer{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"--contenders", "--rounds", "--tags"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %s: %v", want, err)
		}
	}
}

func TestPrivateHasOnlyVersionsOfOneContent(t *testing.T) {
	t.Parallel()
	gittest.Need(t, "git", "go")
	s, err := newSite(t.TempDir(), privateConfig{Commits: 10, Tags: 4})
	defer s.end()
	if err != nil {
		t.Fatal(err)
	}
	s.sum[version(0)] = "h1:other"
	if _, err := s.visit(t.Context(), binaries{Go: "go"}, direct, 1); err == nil || !strings.Contains(err.Error(), "h1:other") {
		t.Errorf("error %v", err)
	}
}
