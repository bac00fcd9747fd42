package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const interrupt = syscall.SIGINT // how strace is told to let go

// withProxy starts the proxy called name with an empty cache, lets use work
// with it, and removes everything.
func (b *bench) withProxy(ctx context.Context, name string, t target, use func(*server) error) error {
	dir := b.dir(name)
	defer os.RemoveAll(dir) // b.close reports what cannot be removed
	s, err := b.bin.startProxy(ctx, name, dir, t)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := use(s); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// near is the counted upstream that is near.
func (b *bench) near() target { return target{Upstream: b.countURL, SumDB: b.cfg.SumDB} }

// proxies are modgate and goproxy, if that was asked for: Athens would add
// minutes to rows in which it is no measure.
func (b *bench) proxies() []string {
	if slices.Contains(b.cfg.Peers, "goproxy") {
		return []string{"modgate", "goproxy"}
	}
	return []string{"modgate"}
}

// twoCold lets two clients work at once, with go.sum and then without, and
// looks for objects that were fetched more than once.
func twoCold(ctx context.Context, b *bench) (result, error) {
	r := result{Unit: unitCount}
	for _, name := range b.proxies() {
		worst := make(map[string]int)
		for _, noSum := range []bool{false, true} {
			err := b.withProxy(ctx, name, b.near(), func(s *server) error {
				b.counting.reset()
				g, ctx := errgroup.WithContext(ctx)
				for range 2 {
					g.Go(func() error {
						_, err := b.client.fetch(ctx, fetchOptions{Proxy: s.URL, SumDB: b.cfg.SumDB, NoSum: noSum})
						return err
					})
				}
				return g.Wait()
			})
			if err == nil && name == "modgate" {
				err = b.tellAgain(nil)
			}
			if err != nil {
				return r, err
			}
			for p, n := range b.counting.requests() {
				if isObject(p) {
					worst[p] = max(worst[p], n)
				}
			}
		}
		top, repeated := 0, 0
		for _, n := range worst {
			top = max(top, n)
			if n > 1 {
				repeated++
			}
		}
		r.add(name, float64(top))
		if name == "modgate" {
			r.Checks = append(r.Checks, check{What: "modgate", Value: float64(top), Bar: 1, AtMost: true})
		}
		r.note("%s: %d objects, %d of them more than once; most often %s", name, len(worst), repeated, most(worst, 3))
	}
	return r, nil
}

// isObject reports whether the answer to path never changes.
func isObject(path string) bool {
	return !strings.HasSuffix(path, "/supported") && !strings.HasSuffix(path, "/latest") &&
		!strings.HasSuffix(path, "/@latest") && !strings.HasSuffix(path, "/@v/list")
}

// firstByte measures when the first byte of a large cold zip arrives, as a
// share of the time until the last.
func firstByte(ctx context.Context, b *bench) (result, error) {
	r := result{Unit: unitPercent}
	rate := b.cfg.Rate
	if b.cfg.Upstream != "record" {
		rate = 0 // the real one is slow enough
	}
	_, upstream, err := b.relay(ctx, b.nearDelay(), rate)
	if err != nil {
		return r, err
	}
	zip, size, err := zipOfSize(b.tree, 36e6)
	if err != nil {
		return r, err
	}
	r.note("%s, %d bytes; the upstream sends %s per second", zip, size, rateText(rate))
	for range b.cfg.Rounds {
		for _, name := range b.proxies() {
			err := b.withProxy(ctx, name, target{Upstream: upstream, SumDB: b.cfg.SumDB}, func(s *server) error {
				first, all, err := timedGet(ctx, s.URL+zip, size)
				if err == nil {
					r.add(name, 100*first.Seconds()/all.Seconds())
					b.log.Info("ttfb", "contender", name, "first", first, "all", all)
				}
				return err
			})
			if err != nil {
				return r, err
			}
		}
	}
	r.Checks = append(r.Checks, check{What: "modgate", Value: r.median("modgate"), Bar: 10, AtMost: true})
	return r, nil
}

func rateText(rate int64) string {
	if rate == 0 {
		return "what it can"
	}
	return fmt.Sprintf("%.0f MB", float64(rate)/1e6)
}

// timedGet reads url and returns when the first and the last byte came.
func timedGet(ctx context.Context, url string, size int64) (first, all time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("%s: %s", url, resp.Status)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", url, err)
	}
	first = time.Since(start)
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && n+1 != size {
		err = fmt.Errorf("%d bytes, want %d", n+1, size)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", url, err)
	}
	return first, time.Since(start), nil
}

// memory asks for 16 toolchains at once and looks at the largest resident size
// that the proxy has had.
func memory(ctx context.Context, b *bench) (result, error) {
	r := result{Unit: unitMiB}
	t, err := b.toolchains(ctx, 16)
	if err != nil {
		return r, err
	}
	l, err := listen(ctx, "127.0.0.1:0", t.Handler)
	if err != nil {
		return r, err
	}
	defer l.Close()
	r.note("%d zips of %d MB, all of the files of %s@%s under other version names; an own checksum database vouches for them",
		len(t.Paths), t.Size/1e6, toolchainPath, toolchainVersion)
	for range b.cfg.Rounds {
		for _, name := range b.proxies() {
			err := b.withProxy(ctx, name, target{Upstream: l.URL, SumDB: t.SumDB}, func(s *server) error {
				g, ctx := errgroup.WithContext(ctx)
				for _, p := range t.Paths {
					g.Go(func() error {
						_, _, err := timedGet(ctx, s.URL+p, t.Size)
						return err
					})
				}
				if err := g.Wait(); err != nil {
					return err
				}
				rss, err := peakRSS(s.PID)
				r.add(name, float64(rss)/(1<<20))
				b.log.Info("memory", "contender", name, "peak", rss)
				return err
			})
			if err != nil {
				return r, err
			}
		}
	}
	r.Checks = append(r.Checks, check{What: "modgate", Value: r.median("modgate"), Bar: 128, AtMost: true})
	return r, nil
}

// toolchains fetches one toolchain, if it is not yet recorded, and makes n.
func (b *bench) toolchains(ctx context.Context, n int) (*toolchains, error) {
	l, err := listen(ctx, "127.0.0.1:0", b.rec)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	dir := b.dir("toolchains")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	source, err := os.Create(filepath.Join(dir, "source.zip"))
	if err != nil {
		return nil, err
	}
	defer source.Close()
	if _, err := get(ctx, http.DefaultClient, l.URL+"/"+toolchainPath+"/@v/"+toolchainVersion+".zip", source); err != nil {
		return nil, err
	}
	return makeToolchains(ctx, source.Name(), filepath.Join(dir, "tree"), n)
}

// disk compares what a proxy keeps after a cold run with what the client got.
func disk(ctx context.Context, b *bench) (result, error) {
	r := result{Unit: unitMiB}
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	r.add("needed", mib(b.need.Bytes))
	r.note("needed: %.1f MiB allocated in the client's cache", mib(b.need.Used.Allocated))
	for _, name := range b.proxies() {
		err := b.withProxy(ctx, name, b.near(), func(s *server) error {
			if _, err := b.client.fetch(ctx, fetchOptions{Proxy: s.URL, SumDB: b.cfg.SumDB}); err != nil {
				return err
			}
			u, err := diskUsage(s.Dir)
			r.add(name, mib(u.Apparent))
			r.note("%s: %d files, %.1f MiB allocated", name, u.Files, mib(u.Allocated))
			return err
		})
		if err != nil {
			return r, err
		}
	}
	off := math.Abs(r.median("modgate")/r.median("needed") - 1)
	r.Checks = append(r.Checks, check{What: "|modgate / needed − 1|", Value: off, Bar: 0.05, AtMost: true})
	return r, nil
}
