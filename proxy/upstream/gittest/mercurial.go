package gittest

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// An HgRepo is a Mercurial repository. Its methods must not be called at the
// same time.
type HgRepo struct {
	Name string // host/path
	Dir  string
	n    int // commits written
}

// NewHg makes the Mercurial repository called name (host/path), and serves it
// with the real hg serve, behind the server's HTTPS and accounts. Of a Commit
// it knows Files and Tags.
func (s *Server) NewHg(tb TB, name string, commits ...Commit) *HgRepo {
	tb.Helper()
	r := &HgRepo{Name: name, Dir: filepath.Join(s.root, filepath.FromSlash(name)+".mercurial")}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		tb.Fatalf("%v", err)
	}
	r.Hg(tb, "init")
	r.Commit(tb, commits...)
	backend := r.serve(tb)
	proxy := &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(backend)
		p.Out.URL.Path = "/"
	}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hg == nil {
		s.hg = make(map[string]http.Handler)
	}
	s.hg[name] = proxy
	return r
}

// Commit writes the commits in order.
func (r *HgRepo) Commit(tb TB, commits ...Commit) {
	tb.Helper()
	for _, c := range commits {
		for name, text := range c.Files {
			file := filepath.Join(r.Dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				tb.Fatalf("%v", err)
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				tb.Fatalf("%v", err)
			}
		}
		r.n++
		date := fmt.Sprintf("%d 0", time.Date(2024, 1, 1, 0, r.n, 0, 0, time.UTC).Unix())
		r.Hg(tb, "commit", "--addremove", "--user=ci", "--date="+date, "--message=commit")
		for _, tag := range c.Tags {
			r.Hg(tb, "tag", "--user=ci", "--date="+date, tag)
		}
	}
}

// Hg runs hg in the repository and returns what it says.
func (r *HgRepo) Hg(tb TB, args ...string) string {
	tb.Helper()
	out, err := r.command(args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("hg %s: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *HgRepo) command(args ...string) *exec.Cmd {
	cmd := exec.Command("hg", args...)
	cmd.Dir = r.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HGRCPATH=", "HGPLAIN=1", "PYTHONUNBUFFERED=1", "HOME=" + os.DevNull}
	return cmd
}

var hgListens = regexp.MustCompile(`bound to (127\.0\.0\.1:\d+)`)

// serve runs hg serve until the test ends.
func (r *HgRepo) serve(tb TB) *url.URL {
	tb.Helper()
	cmd := r.command("serve", "--address=127.0.0.1", "--port=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatalf("%v", err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("hg serve: %v", err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	m := hgListens.FindStringSubmatch(line)
	if m == nil {
		tb.Fatalf("hg serve says %q: %v", line, err)
	}
	return &url.URL{Scheme: "http", Host: m[1]}
}
