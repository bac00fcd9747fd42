package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// A visit is what one contender did, from an empty directory on.
type visit struct {
	first  time.Duration // a client gets a version; nothing was known before
	second time.Duration // another client gets the next version
	floor  time.Duration // of direct: that client, from the same files on a file server
	// commit is another that gets a commit without a tag, which needs the
	// history before it; next is one more that gets another such commit.
	commit, next time.Duration
	// Of a proxy: it answers for a further version, without the time that a
	// client takes to check and unpack it.
	answer time.Duration
	// Of a proxy: many clients get one more version at once, and how often
	// objects were taken from the git server for them.
	crowd   time.Duration
	fetches int
	// seen is how long a tag that was not there when the versions were last
	// asked for takes to be seen by clients that ask again and again.
	seen time.Duration
}

// visit measures one contender.
func (s *site) visit(ctx context.Context, bin binaries, name string, clients int) (v visit, err error) {
	env := s.env()
	var proxy *server
	if name != direct {
		if proxy, err = s.start(ctx, bin, name); err != nil {
			return v, err
		}
		defer func() { err = errors.Join(err, proxy.Close(), os.RemoveAll(filepath.Dir(proxy.Dir))) }()
		env = s.clientOf(proxy.URL)
	}
	if v.first, err = s.download(ctx, bin.Go, env, version(0)); err != nil {
		return v, err
	}
	if v.second, err = s.download(ctx, bin.Go, env, version(1)); err != nil {
		return v, err
	}
	if proxy == nil {
		if v.floor, err = s.fromFiles(ctx, bin.Go, version(1)); err != nil {
			return v, err
		}
		if v.seen, err = s.list(ctx, bin.Go, env); err != nil {
			return v, err
		}
		v.commit, v.next, err = s.untagged(ctx, bin.Go, env)
		return v, err
	}
	if v.answer, err = crowd(ctx, proxy.URL, version(2), 1); err != nil {
		return v, err
	}
	before := s.fetches()
	if v.crowd, err = crowd(ctx, proxy.URL, version(3), clients); err != nil {
		return v, err
	}
	v.fetches = s.fetches() - before
	if v.seen, err = s.untilSeen(ctx, proxy.URL); err != nil {
		return v, err
	}
	v.commit, v.next, err = s.untagged(ctx, bin.Go, env)
	return v, err
}

// untagged downloads two commits without a tag.
func (s *site) untagged(ctx context.Context, goCmd string, env []string) (first, next time.Duration, err error) {
	if first, err = s.download(ctx, goCmd, env, s.commits[0]); err != nil {
		return 0, 0, err
	}
	next, err = s.download(ctx, goCmd, env, s.commits[1])
	return first, next, err
}

// download is a client with empty caches that gets one version. Only the go
// command's time is counted. It fails if the content is not what the
// contenders before got.
func (s *site) download(ctx context.Context, goCmd string, env []string, version string) (time.Duration, error) {
	out, took, err := s.goCommand(ctx, goCmd, env, "mod", "download", "-json", privateModule+"@"+version)
	if err != nil {
		return 0, err
	}
	var m struct{ Sum string }
	if err := json.Unmarshal(out, &m); err != nil || m.Sum == "" {
		return 0, fmt.Errorf("go mod download -json: no sum: %w", err)
	}
	if want := s.sum[version]; want != "" && want != m.Sum {
		return 0, fmt.Errorf("%s has the hash %s, and had %s", version, m.Sum, want)
	}
	s.sum[version] = m.Sum
	return took, nil
}

// fromFiles is download from a server of plain files, which nothing is faster
// than: what it takes is the client's own.
func (s *site) fromFiles(ctx context.Context, goCmd, version string) (took time.Duration, err error) {
	dir, err := os.MkdirTemp(s.dir, "files-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cache := filepath.Join(dir, "mod")
	if _, err := s.download(ctx, goCmd, append(s.env(), "GOMODCACHE="+cache), version); err != nil {
		return 0, err
	}
	files, err := listen(ctx, "127.0.0.1:0", http.FileServer(http.Dir(filepath.Join(cache, "cache", "download"))))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	return s.download(ctx, goCmd, s.clientOf(files.URL), version)
}

// clientOf is the environment of a client of a proxy.
func (s *site) clientOf(proxy string) []string {
	return []string{"GOPROXY=" + proxy, "GOSUMDB=off", "GOTOOLCHAIN=local", "GOFLAGS=-modcacherw", "HOME=" + s.home}
}

// list is a client with empty caches that asks for the versions.
func (s *site) list(ctx context.Context, goCmd string, env []string) (time.Duration, error) {
	out, took, err := s.goCommand(ctx, goCmd, env, "list", "-m", "-versions", privateModule)
	if err == nil && !strings.Contains(string(out), " "+version(s.tags-1)) {
		err = fmt.Errorf("the newest version is missing: %s", out)
	}
	return took, err
}

func (s *site) goCommand(ctx context.Context, goCmd string, env []string, args ...string) (out []byte, took time.Duration, err error) {
	dir, err := os.MkdirTemp(s.dir, "client-")
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cmd := exec.CommandContext(ctx, goCmd, args...)
	cmd.Dir = dir
	cmd.Env = append(clientEnv(dir, fetchOptions{}), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	out, err = cmd.Output()
	took = time.Since(start)
	if err != nil {
		err = fmt.Errorf("go %s: %w\n%s\n%s", strings.Join(args, " "), err, lastLines(out, 8), lastLines(stderr.Bytes(), 8))
	}
	return out, took, err
}

// crowd lets n clients at once ask for the files of a version in the order of
// the go command.
func crowd(ctx context.Context, proxy, version string, n int) (time.Duration, error) {
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range n {
		g.Go(func() error {
			for _, kind := range []string{".info", ".mod", ".zip"} {
				resp, err := askFor(ctx, proxy, version+kind)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, resp.Body)
				if err = errors.Join(err, resp.Body.Close()); err != nil {
					return err
				}
				if resp.StatusCode != http.StatusOK {
					return fmt.Errorf("%s%s: %s", version, kind, resp.Status)
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return time.Since(start), err
}

// untilSeen asks for the list, adds a version, and asks until it is there.
func (s *site) untilSeen(ctx context.Context, proxy string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := listed(ctx, proxy, version(s.tags-1)); err != nil {
		return 0, err
	}
	if err := s.tagNext(); err != nil {
		return 0, err
	}
	for start := time.Now(); ; {
		there, err := listed(ctx, proxy, version(s.tags-1))
		if there || err != nil {
			return time.Since(start), err
		}
		if !pause(ctx, 50*time.Millisecond) {
			return 0, ctx.Err()
		}
	}
}

// listed reports whether a proxy has a version on its list.
func listed(ctx context.Context, proxy, version string) (bool, error) {
	resp, err := askFor(ctx, proxy, "list")
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("list: %s", resp.Status)
	}
	return slices.Contains(strings.Fields(string(body)), version), err
}

// privateRows gathers the visits as rows of the report.
type privateRows struct{ first, second, answer, commit, next, crowd, fetches, seen result }

func newPrivateRows(cfg privateConfig) *privateRows {
	return &privateRows{
		first:   result{Title: "first version of a repository, `go mod download m@v`", Unit: unitSeconds},
		second:  result{Title: "second version, by another client", Unit: unitSeconds},
		answer:  result{Title: "third version, what the proxy takes (.info, .mod, .zip)", Unit: unitSeconds},
		commit:  result{Title: "a commit without a tag, by another client", Unit: unitSeconds},
		next:    result{Title: "one more such commit", Unit: unitSeconds},
		crowd:   result{Title: fmt.Sprintf("fourth version, %d clients at once", cfg.Clients), Unit: unitSeconds},
		fetches: result{Title: "transfers from the git server for them", Unit: unitCount},
		seen:    result{Title: "a new tag is on the list after (direct: `go list -m -versions`)", Unit: unitSeconds},
	}
}

func (p *privateRows) add(name string, v visit) {
	p.first.add(name, v.first.Seconds())
	p.second.add(name, v.second.Seconds())
	p.commit.add(name, v.commit.Seconds())
	p.next.add(name, v.next.Seconds())
	p.seen.add(name, v.seen.Seconds())
	if name == direct {
		p.second.add(static, v.floor.Seconds())
	} else {
		p.answer.add(name, v.answer.Seconds())
		p.crowd.add(name, v.crowd.Seconds())
		p.fetches.add(name, float64(v.fetches))
	}
}

// results are the rows with their bars.
func (p *privateRows) results() []result {
	const m = "modgate"
	p.first.ratio(m, direct, 1.0, true)
	p.second.ratio("athens", m, 5, false)
	p.answer.ratio("athens", m, 5, false)
	p.fetches.bound(m, 1)
	p.seen.bound(m, 6) // ttl.private is 5 s, and then it must be asked for
	return []result{p.first, p.second, p.answer, p.commit, p.next, p.crowd, p.fetches, p.seen}
}
