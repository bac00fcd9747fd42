package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// withFleet starts n replicas, lets use work with them, and removes everything.
// Where a program is missing the row says so and is empty.
func (b *bench) withFleet(ctx context.Context, r *result, n int, use func(*fleet) error) error {
	p, err := b.findFleetPrograms(ctx)
	if err != nil {
		r.note("NOT MEASURED: %v (make setup installs what a fleet needs)", err)
		return nil
	}
	f, err := b.startFleet(ctx, p, n)
	if err != nil {
		return err
	}
	return errors.Join(use(f), f.Close())
}

// fleetName is the column of n replicas.
func fleetName(n int) string {
	if n == 1 {
		return "modgate"
	}
	return fmt.Sprintf("modgate ×%d", n)
}

// fleetCold lets six clients start at once on three replicas that have nothing,
// with a go.sum and then without, and counts how often each object was fetched.
func fleetCold(ctx context.Context, b *bench) (result, error) {
	const clients, replicas = 6, 3
	r := result{Unit: unitCount}
	worst := make(map[string]int)
	for _, noSum := range []bool{false, true} {
		err := b.withFleet(ctx, &r, replicas, func(f *fleet) error {
			b.counting.reset()
			began := time.Now()
			if err := b.fetchTogether(ctx, f.URL, clients, noSum); err != nil {
				return err
			}
			seen := b.counting.requests()
			for p, n := range seen {
				if isObject(p) {
					worst[p] = max(worst[p], n)
				}
			}
			r.note("%d clients, go.sum %v: %s; the upstream was asked %s", clients, map[bool]string{false: "complete", true: "missing"}[noSum],
				time.Since(began).Round(100*time.Millisecond), countText(seen))
			return nil
		})
		if err != nil {
			return r, err
		}
	}
	if len(worst) == 0 {
		return r, nil
	}
	top, repeated := mostOften(worst)
	r.add(fleetName(replicas), float64(top))
	r.Checks = append(r.Checks, check{What: fleetName(replicas), Value: float64(top), Bar: 1, AtMost: true})
	r.note("%d objects, %d of them more than once; most often %s", len(worst), repeated, most(worst, 3))
	return r, nil
}

// fetchTogether runs n clients at once, which must all get the same.
func (b *bench) fetchTogether(ctx context.Context, proxy string, n int, noSum bool) error {
	got := make([]download, n)
	g, ctx := errgroup.WithContext(ctx)
	for i := range got {
		g.Go(func() (err error) {
			got[i], err = b.client.fetch(ctx, fetchOptions{Proxy: proxy, SumDB: b.cfg.SumDB, NoSum: noSum})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, d := range got {
		if err := d.sameAs(got[0]); err != nil {
			return err
		}
	}
	return nil
}

// mostOften returns the largest count, and how many are larger than 1.
func mostOften(counts map[string]int) (top, repeated int) {
	for n := range maps.Values(counts) {
		top = max(top, n)
		if n > 1 {
			repeated++
		}
	}
	return top, repeated
}

// fleetScale fills fleets of one, two and four replicas and asks for what they
// have then. On one machine more replicas cannot be faster, so that the measure
// is what a replica's core brings: requests per second of processor time.
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
			for range b.cfg.Rounds {
				v, err := b.hitsPerCPUSecond(ctx, f, paths)
				if err != nil {
					return err
				}
				r.add(fleetName(n), v)
				b.log.Info("fleet-scale", "replicas", n, "per_cpu_second", int(v))
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
	r.ratio(fleetName(2), fleetName(1), 0.85, false)
	r.ratio(fleetName(4), fleetName(1), 0.85, false)
	few, top := objects[1], objects[1]
	for n := range maps.Values(objects) {
		few, top = min(few, n), max(top, n)
	}
	// Which .info files are fetched ahead of the client is a matter of timing.
	r.Checks = append(r.Checks, check{What: "upstream requests, most / fewest", Value: float64(top) / float64(few), Bar: 1.02, AtMost: true})
	r.note("%d different .mod files in turn, all replicas at once; processor time is that of the replicas alone; the upstream was asked for %d, %d and %d objects", len(paths), objects[1], objects[2], objects[4])
	return r, nil
}

// hitsPerCPUSecond asks all replicas at once, past nginx, which would be what
// is measured.
func (b *bench) hitsPerCPUSecond(ctx context.Context, f *fleet, paths []string) (float64, error) {
	const requests = "modgate_requests_total"
	cpu, err := f.cpuSeconds()
	if err != nil {
		return 0, err
	}
	before, err := f.sum(ctx, requests)
	if err != nil {
		return 0, err
	}
	g, limited := errgroup.WithContext(ctx)
	for i, s := range f.replicas {
		dir := filepath.Join(b.tmp, fmt.Sprintf("load%d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return 0, err
		}
		g.Go(func() error {
			_, err := load(limited, loadConfig{Base: s.URL, Paths: paths, Connections: b.cfg.Conns, Duration: b.cfg.Duration, Wrk: b.wrk, Dir: dir})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	after, err := f.sum(ctx, requests)
	if err != nil {
		return 0, err
	}
	used, err := f.cpuSeconds()
	if err != nil {
		return 0, err
	}
	if used <= cpu || after <= before {
		return 0, fmt.Errorf("%v requests in %v seconds of processor time", after-before, used-cpu)
	}
	return (after - before) / (used - cpu), nil
}
