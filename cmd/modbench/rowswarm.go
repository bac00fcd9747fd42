package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func warm(ctx context.Context, b *bench) (result, error) {
	r, err := b.warmRuns(ctx, false)
	r.ratio("modgate", static, 1.15, true)
	return r, err
}

func warmNoSum(ctx context.Context, b *bench) (result, error) {
	r, err := b.warmRuns(ctx, true)
	r.ratio("modgate", static, 1.5, true)
	r.note("the static file server with GOSUMDB=off, the proxies with the checksum database")
	return r, err
}

// warmRuns measures the client in turn through the warm servers.
func (b *bench) warmRuns(ctx context.Context, noSum bool) (result, error) {
	r := result{Unit: unitSeconds}
	servers, err := b.warm(ctx)
	if err != nil {
		return r, err
	}
	for range b.cfg.Rounds {
		for _, s := range servers {
			o := fetchOptions{Proxy: s.url, SumDB: b.cfg.SumDB, NoSum: noSum}
			if s.name == static {
				o.SumDB = "off"
			} else if noSum && !s.sumDB {
				continue
			}
			d, err := b.client.fetch(ctx, o)
			if err != nil {
				return r, fmt.Errorf("%s: %w", s.name, err)
			}
			if !noSum {
				if err := d.sameAs(b.need); err != nil {
					return r, fmt.Errorf("%s: %w", s.name, err)
				}
			}
			r.add(s.name, d.Elapsed.Seconds())
			b.log.Info("warm", "contender", s.name, "took", d.Elapsed, "nosum", noSum)
		}
	}
	return r, nil
}

func warmUpstream(ctx context.Context, b *bench) (result, error) {
	r := result{Unit: unitCount}
	servers, err := b.warm(ctx)
	if err != nil {
		return r, err
	}
	for _, s := range servers {
		if !s.sumDB {
			continue
		}
		b.counting.reset()
		for _, noSum := range []bool{false, true} {
			if _, err := b.client.fetch(ctx, fetchOptions{Proxy: s.url, SumDB: b.cfg.SumDB, NoSum: noSum}); err != nil {
				return r, fmt.Errorf("%s: %w", s.name, err)
			}
		}
		seen := b.counting.requests()
		total := 0
		for _, n := range seen {
			total += n
		}
		r.add(s.name, float64(total))
		if s.name == "modgate" {
			r.Checks = append(r.Checks, check{What: "modgate", Value: float64(total), Bar: 0, AtMost: true})
			if total > 0 {
				r.note("modgate asked for %s", most(seen, 5))
			}
		}
	}
	return r, nil
}

// most names the paths that were asked for most often.
func most(counts map[string]int, n int) string {
	paths := make([]string, 0, len(counts))
	for p := range counts {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(a, b string) int {
		if d := counts[b] - counts[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	var s []string
	for _, p := range paths[:min(n, len(paths))] {
		s = append(s, fmt.Sprintf("%s ×%d", p, counts[p]))
	}
	return strings.Join(s, ", ")
}

func hitsMod(ctx context.Context, b *bench) (result, error) {
	paths, err := treePaths(b.tree, ".mod")
	if err != nil {
		return result{}, err
	}
	if len(paths) > 256 {
		paths = paths[:256]
	}
	s, err := b.bin.startProxy(ctx, bare, b.dir(bare), b.near())
	if err != nil {
		return result{}, err
	}
	defer s.Close()
	r, err := b.hits(ctx, paths, b.cfg.Conns, b.cfg.Duration, warmServer{name: bare, url: s.URL})
	r.ratio("modgate", "goproxy", 1.6, false)
	r.ratio("modgate", static, 0.7, false)
	r.note("%d different files in turn; bare is a Go HTTP server that answers everything with one text of 200 bytes, without looking, logging or counting", len(paths))
	return r, err
}

func hitsZip(ctx context.Context, b *bench) (result, error) {
	return b.zipHits(ctx, 240e3, b.cfg.Conns, b.cfg.Duration)
}

// hitsBigZip takes its time: the answers that are on their way when it ends do
// not count, and at some 50 a second they must not be what decides.
func hitsBigZip(ctx context.Context, b *bench) (result, error) {
	return b.zipHits(ctx, 36e6, 8, max(b.cfg.Duration, 6*time.Second))
}

func (b *bench) zipHits(ctx context.Context, size int64, conns int, d time.Duration) (result, error) {
	p, got, err := zipOfSize(b.tree, size)
	if err != nil {
		return result{}, err
	}
	r, err := b.hits(ctx, []string{p}, conns, d)
	r.ratio("modgate", "goproxy", 1.0, false)
	r.note("%s, %d bytes", p, got)
	return r, err
}

// hits measures the warm servers, and more, in turn, each for d in a round.
func (b *bench) hits(ctx context.Context, paths []string, conns int, d time.Duration, more ...warmServer) (result, error) {
	r := result{Unit: unitPerSecond}
	servers, err := b.warm(ctx)
	if err != nil {
		return r, err
	}
	servers = slices.Concat(servers, more)
	last := make(map[string]loadResult)
	for range b.cfg.Rounds {
		for _, s := range servers {
			lr, err := load(ctx, loadConfig{Base: s.url, Paths: paths, Connections: conns, Duration: d, Wrk: b.wrk, Dir: b.tmp})
			if err != nil {
				return r, fmt.Errorf("%s: %w", s.name, err)
			}
			r.add(s.name, lr.PerSecond)
			last[s.name] = lr
			b.log.Info("hits", "contender", s.name, "per_second", int(lr.PerSecond), "p50", lr.P50, "p99", lr.P99)
		}
	}
	var tails []string
	for _, s := range servers {
		tails = append(tails, fmt.Sprintf("%s %s and %s", s.name, last[s.name].P50, last[s.name].P99))
	}
	r.note("p50 and p99 in the last round: %s", strings.Join(tails, ", "))
	return r, nil
}

// treePaths returns the request paths of the files below tree that end in ext.
func treePaths(tree, ext string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(tree, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && filepath.Ext(p) == ext {
			paths = append(paths, strings.TrimPrefix(filepath.ToSlash(p), filepath.ToSlash(tree)))
		}
		return err
	})
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("the workload has no %s file", ext)
	}
	return paths, err
}

// zipOfSize returns the zip whose size comes nearest to size.
func zipOfSize(tree string, size int64) (string, int64, error) {
	paths, err := treePaths(tree, ".zip")
	if err != nil {
		return "", 0, err
	}
	best, bestSize := "", int64(0)
	for _, p := range paths {
		u, err := diskUsage(filepath.Join(tree, p))
		if err != nil {
			return "", 0, err
		}
		if best == "" || abs(u.Apparent-size) < abs(bestSize-size) {
			best, bestSize = p, u.Apparent
		}
	}
	return best, bestSize, nil
}

func abs(v int64) int64 { return max(v, -v) }

// sendfile looks at the system calls of a warm modgate while it sends a zip.
func sendfile(ctx context.Context, b *bench) (result, error) {
	r := result{Unit: unitCount}
	strace, err := exec.LookPath("strace")
	if err != nil {
		r.note("not looked at: strace is not installed")
		return r, nil
	}
	servers, err := b.warm(ctx)
	if err != nil {
		return r, err
	}
	zip, _, err := zipOfSize(b.tree, 36e6)
	if err != nil {
		return r, err
	}
	for _, s := range servers {
		if s.name != "modgate" && s.name != "goproxy" {
			continue
		}
		n, err := countSendfile(ctx, strace, s, zip)
		if err != nil {
			return r, fmt.Errorf("%s: %w", s.name, err)
		}
		r.add(s.name, float64(n))
		if s.name == "modgate" {
			r.Checks = append(r.Checks, check{What: "modgate", Value: float64(n), Bar: 1})
		}
	}
	return r, nil
}

// countSendfile returns the number of sendfile calls of s while it sends path.
func countSendfile(ctx context.Context, strace string, s warmServer, path string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tracing, stop := context.WithCancel(ctx)
	defer stop()
	var out bytes.Buffer
	cmd := exec.CommandContext(tracing, strace, "-f", "-e", "trace=sendfile", "-p", strconv.Itoa(s.pid))
	cmd.Stderr = &out
	cmd.Cancel = func() error { return cmd.Process.Signal(interrupt) }
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	// strace has no way to say that it is attached: give it a moment.
	pause(ctx, 500*time.Millisecond)
	_, err := get(ctx, http.DefaultClient, s.url+path, io.Discard)
	stop()
	if werr := cmd.Wait(); err == nil && werr != nil && !errors.Is(werr, context.Canceled) {
		var exit *exec.ExitError
		if !errors.As(werr, &exit) {
			err = werr
		}
	}
	n := strings.Count(out.String(), "sendfile(")
	if err == nil && n == 0 && strings.Contains(out.String(), "ptrace") {
		err = errors.New(strings.TrimSpace(out.String()))
	}
	return n, err
}
