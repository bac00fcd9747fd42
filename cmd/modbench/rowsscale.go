package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// fleetScale fills fleets of one, two and four replicas and asks for what they
// have then. On one machine more replicas cannot be faster, so that the measure
// is what a replica's core brings: requests per second of processor time.
//
// Many busy processes on few cores cost each of them: they are woken for less
// work at a time, and find cold caches. That is the machine's, not modgate's,
// and doubles the processor time of a hit of any server. So each fleet is
// measured beside as many processes of the bare server, in turn with them.
func fleetScale(ctx context.Context, b *bench) (result, error) {
	r := result{Unit: unitPerCPUSecond}
	paths, err := treePaths(b.tree, ".mod")
	if err != nil {
		return r, err
	}
	paths = paths[:min(256, len(paths))]
	objects := make(map[int]int)
	for _, n := range []int{1, 2, 4} {
		err := b.withFleet(ctx, &r, n, func(f *fleet) error {
			b.counting.reset()
			if err := b.fetchTogether(ctx, f.URL, 1, false); err != nil {
				return err
			}
			// What all have is what they answer with.
			for _, s := range f.replicas {
				if _, err := load(ctx, loadConfig{Base: s.URL, Paths: paths, Connections: 1, Duration: time.Millisecond}); err != nil {
					return err
				}
			}
			if err := b.scaleRounds(ctx, &r, f.replicas, paths); err != nil {
				return err
			}
			for p, c := range b.counting.requests() {
				if isObject(p) {
					objects[n] += c
				}
			}
			return nil
		})
		if err != nil {
			return r, err
		}
	}
	if len(objects) == 0 {
		return r, nil
	}
	for _, n := range []int{2, 4} {
		v := r.median(fleetName(n)) / r.median(fleetName(1))
		machine := r.median(bareName(n)) / r.median(bareName(1))
		r.Checks = append(r.Checks, check{What: fmt.Sprintf("%s / one, of what bare keeps", fleetName(n)), Value: v / machine, Bar: 0.85})
		r.note("%s / one = %.2f, bare ×%d / one = %.2f", fleetName(n), v, n, machine)
	}
	counts := slices.Sorted(maps.Values(objects))
	// Which .info files are fetched ahead of the client is a matter of timing.
	r.Checks = append(r.Checks, check{What: "upstream requests, most / fewest", Value: float64(counts[len(counts)-1]) / float64(counts[0]), Bar: 1.02, AtMost: true})
	r.note("%d different .mod files in turn, all replicas at once; processor time is that of the replicas alone; the upstream was asked for %d, %d and %d objects", len(paths), objects[1], objects[2], objects[4])
	return r, nil
}

// bareName is the column of n processes of the bare server.
func bareName(n int) string {
	if n == 1 {
		return bare
	}
	return fmt.Sprintf("%s ×%d", bare, n)
}

// scaleRounds measures the replicas and as many bare servers in turn.
func (b *bench) scaleRounds(ctx context.Context, r *result, replicas []*server, paths []string) (err error) {
	n := len(replicas)
	var bares []*server
	defer func() {
		for _, s := range bares {
			err = errors.Join(err, s.Close())
		}
	}()
	for i := range n {
		s, err := b.bin.startProxy(ctx, bare, b.dir(fmt.Sprintf("%s%d", bare, i)), b.near())
		if err != nil {
			return err
		}
		bares = append(bares, s)
	}
	for range max(3, b.cfg.Rounds) {
		for name, servers := range map[string][]*server{fleetName(n): replicas, bareName(n): bares} {
			v, err := b.hitsPerCPUSecond(ctx, servers, paths)
			if err != nil {
				return err
			}
			r.add(name, v)
			b.log.Info("fleet-scale", "servers", name, "per_cpu_second", int(v))
		}
	}
	return nil
}

// hitsPerCPUSecond asks all servers at once, past nginx, which would be what is
// measured. It counts their processor time alone.
func (b *bench) hitsPerCPUSecond(ctx context.Context, servers []*server, paths []string) (float64, error) {
	before, err := cpuSecondsOf(servers)
	if err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var requests float64
	g, limited := errgroup.WithContext(ctx)
	for i, s := range servers {
		dir := filepath.Join(b.tmp, fmt.Sprintf("load%d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return 0, err
		}
		g.Go(func() error {
			lr, err := load(limited, loadConfig{Base: s.URL, Paths: paths, Connections: b.cfg.Conns, Duration: b.cfg.Duration, Wrk: b.wrk, Dir: dir})
			mu.Lock()
			defer mu.Unlock()
			requests += lr.PerSecond * b.cfg.Duration.Seconds()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	after, err := cpuSecondsOf(servers)
	if err != nil {
		return 0, err
	}
	if after <= before || requests == 0 {
		return 0, fmt.Errorf("%v requests in %v seconds of processor time", requests, after-before)
	}
	return requests / (after - before), nil
}

// cpuSecondsOf is the processor time that the servers have used together.
func cpuSecondsOf(servers []*server) (sum float64, err error) {
	for _, s := range servers {
		t, err := cpuSeconds(s.PID)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}
