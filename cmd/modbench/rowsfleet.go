package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	var f *fleet
	for range 3 { // a port that was free may be taken meanwhile
		if f, err = b.startFleet(ctx, p, n); err == nil {
			return errors.Join(use(f), f.Close())
		}
		b.log.Warn("the fleet did not start", "error", err)
	}
	return err
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
			took, seen := time.Since(began), b.counting.requests()
			if err := b.tellAgain(f); err != nil {
				return err
			}
			for p, n := range seen {
				if isObject(p) {
					worst[p] = max(worst[p], n)
				}
			}
			r.note("%d clients, go.sum %v: %s; the upstream was asked %s", clients, map[bool]string{false: "complete", true: "missing"}[noSum],
				took.Round(100*time.Millisecond), countText(seen))
			trouble, err1 := f.said(saidTrouble)
			alone, err2 := f.said(saidAlone)
			r.note("Redis or the bucket took longer than their time-outs %d times; %d fetches without a lease", len(trouble), len(alone))
			return errors.Join(err1, err2)
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

// What replicas log.
const (
	saidTrouble = "is in trouble; requests go on without it"
	saidAlone   = "fetching without a lease"
)

// maxTold is of how many objects tellAgain tells.
const maxTold = 20

// tellAgain logs which objects were fetched more than once, by whom and when,
// and what the replicas of f, which may be nil, have to say to it.
func (b *bench) tellAgain(f *fleet) error {
	again := b.counting.again()
	for i, p := range slices.Sorted(maps.Keys(again)) {
		if i == maxTold {
			break
		}
		b.log.Warn("fetched more than once", "path", p, "by", again[p])
		if f == nil {
			continue
		}
		// A record of a checksum database is stored under another name.
		_, name, ok := strings.Cut(p, "/lookup/")
		if !ok {
			name = strings.TrimPrefix(p, "/")
		}
		lines, err := f.said(name, saidTrouble, "is back")
		if err != nil {
			return err
		}
		for _, l := range lines {
			b.log.Warn("said", "log", l)
		}
	}
	return nil
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
