package gittest

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Commit describes a commit. Names of files have slashes.
type Commit struct {
	// Branch is where the commit is put on top. Default: main, which is what
	// HEAD names. A branch that does not exist begins at From (a branch or a
	// hash), or with nothing.
	Branch, From string
	// Files are written with these contents; those of earlier commits stay.
	Files map[string]string
	// Links are symbolic links and where they point to.
	Links map[string]string
	// Submodules are directories and the commits of other repositories there.
	Submodules map[string]string
	// Remove takes files and directories away, before anything is written.
	Remove []string
	// Tags are the names of tags that are put on the commit.
	Tags []string
	// Annotated makes them annotated tags.
	Annotated bool
	// Time of the commit. Default: a minute after the one before it, the
	// first being of 2024-01-01.
	Time time.Time
}

// A Repo is a bare repository. Its methods must not be called at the same time.
type Repo struct {
	Name string // host/path
	Dir  string
	n    int // commits written by this value
}

// NewRepo makes the repository called name (host/path) in root.
func NewRepo(tb TB, root, name string, commits ...Commit) *Repo {
	tb.Helper()
	r := &Repo{Name: name, Dir: filepath.Join(root, filepath.FromSlash(name)+".git")}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		tb.Fatalf("%v", err)
	}
	r.Git(tb, "init", "--quiet", "--bare", "--template=", "--initial-branch=main")
	r.Commit(tb, commits...)
	return r
}

// Commit writes the commits in order and returns their hashes. Thousands take
// a second.
func (r *Repo) Commit(tb TB, commits ...Commit) []string {
	tb.Helper()
	if len(commits) == 0 {
		return nil
	}
	var stream bytes.Buffer
	begun := map[string]bool{}
	for i, c := range commits {
		if c.Branch == "" {
			c.Branch = "main"
		}
		if c.Time.IsZero() {
			c.Time = time.Date(2024, 1, 1, 0, r.n, 0, 0, time.UTC)
		}
		r.n++
		writeCommit(&stream, i+1, r.parent(c, begun), c)
		begun[c.Branch] = true
	}
	marks := filepath.Join(r.Dir, "gittest-marks")
	defer os.Remove(marks)
	r.run(tb, &stream, "fast-import", "--quiet", "--force", "--date-format=raw", "--export-marks="+marks)
	data, err := os.ReadFile(marks)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	hashes := make([]string, len(commits))
	for line := range strings.Lines(string(data)) {
		var mark int
		var hash string
		if _, err := fmt.Sscanf(line, ":%d %s", &mark, &hash); err != nil {
			tb.Fatalf("marks of git fast-import: %q: %v", line, err)
		}
		hashes[mark-1] = hash
	}
	return hashes
}

// parent returns what fast-import cannot know by itself: where a branch that
// it has not yet written to goes on.
func (r *Repo) parent(c Commit, begun map[string]bool) string {
	const heads = "refs/heads/"
	switch {
	case begun[c.Branch]:
		return ""
	case r.has(heads + c.Branch):
		return heads + c.Branch + "^0"
	case begun[c.From] || r.has(heads+c.From):
		return heads + c.From
	}
	return c.From
}

// writeCommit writes c in the language of git fast-import.
func writeCommit(w io.Writer, mark int, from string, c Commit) {
	const who = "Gopher <gopher@corp.example>"
	text := func(s string) { fmt.Fprintf(w, "data %d\n%s\n", len(s), s) }
	fmt.Fprintf(w, "commit refs/heads/%s\nmark :%d\ncommitter %s %d +0000\n", c.Branch, mark, who, c.Time.Unix())
	text(fmt.Sprintf("Change %d", mark))
	if from != "" {
		fmt.Fprintf(w, "from %s\n", from)
	}
	for _, name := range c.Remove {
		fmt.Fprintf(w, "D %s\n", name)
	}
	for _, kind := range []struct {
		mode  string
		files map[string]string
	}{{"100644", c.Files}, {"120000", c.Links}} {
		for _, name := range slices.Sorted(maps.Keys(kind.files)) {
			fmt.Fprintf(w, "M %s inline %s\n", kind.mode, name)
			text(kind.files[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Submodules)) {
		fmt.Fprintf(w, "M 160000 %s %s\n", c.Submodules[name], name)
	}
	for _, tag := range c.Tags {
		if c.Annotated {
			fmt.Fprintf(w, "tag %s\nfrom :%d\ntagger %s %d +0000\n", tag, mark, who, c.Time.Unix())
			text("Release " + tag)
		} else {
			fmt.Fprintf(w, "reset refs/tags/%s\nfrom :%d\n\n", tag, mark)
		}
	}
}

// Tag puts a tag on a revision; one that exists is moved.
func (r *Repo) Tag(tb TB, name, revision string) {
	tb.Helper()
	r.Git(tb, "tag", "--force", name, revision)
}

// Untag takes a tag away.
func (r *Repo) Untag(tb TB, name string) {
	tb.Helper()
	r.Git(tb, "tag", "--delete", name)
}

// Delete removes the repository.
func (r *Repo) Delete(tb TB) {
	tb.Helper()
	if err := os.RemoveAll(r.Dir); err != nil {
		tb.Fatalf("%v", err)
	}
}

// Git runs git in the repository and returns what it printed, trimmed.
func (r *Repo) Git(tb TB, args ...string) string {
	tb.Helper()
	return r.run(tb, nil, args...)
}

func (r *Repo) run(tb TB, stdin io.Reader, args ...string) string {
	tb.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin, cmd.Env = r.Dir, stdin, gitEnv()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		tb.Fatalf("git %s in %s: %v: %s", strings.Join(args, " "), r.Name, err, stderr.Bytes())
	}
	return strings.TrimSpace(stdout.String())
}

func (r *Repo) has(ref string) bool {
	cmd := exec.Command("git", "rev-parse", "--quiet", "--verify", ref)
	cmd.Dir, cmd.Env = r.Dir, gitEnv()
	return cmd.Run() == nil
}

// History returns n commits as a repository gathers them over the years: each
// changes one of a few hundred Go files in twenty packages. The same n gives
// the same commits.
func History(n int) []Commit {
	rnd := rand.New(rand.NewPCG(1, uint64(n)))
	commits := make([]Commit, n)
	for i := range commits {
		pkg, file := i%20, rnd.IntN(15)
		var src strings.Builder
		fmt.Fprintf(&src, "package p%d\n\n", pkg)
		for line := range 20 + rnd.IntN(60) {
			fmt.Fprintf(&src, "const c%d_%d = %d // %x\n", file, line, rnd.IntN(100), rnd.Uint64())
		}
		commits[i].Files = map[string]string{fmt.Sprintf("p%d/f%d.go", pkg, file): src.String()}
	}
	return commits
}

// Random returns n bytes that no compression makes smaller. The same seed
// gives the same bytes.
func Random(n int, seed uint64) string {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return string(b)
}
