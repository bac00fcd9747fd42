package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// What the replicas of the row "fleet-disk" keep, and what clients want of them:
// 1 GB, in zips of 64 MB.
const (
	boundedDisk = 256 << 20
	boundedZips = 16
	favourites  = 12 // requests of each client after the first round
)

// fleetDisk lets clients ask three replicas for four times as much as the disk of
// each holds: for everything once, and then for some more often than others.
func fleetDisk(ctx context.Context, b *bench) (result, error) {
	r := result{Unit: unitFailures}
	t, err := b.toolchains(ctx, boundedZips)
	if err != nil {
		return r, err
	}
	counting := newRelay(t.Handler, 0, 0)
	upstream, err := listen(ctx, "127.0.0.1:0", counting)
	if err != nil {
		return r, err
	}
	defer upstream.Close()
	err = b.withTroubles(ctx, &r, boundedDisk, target{Upstream: upstream.URL, SumDB: t.SumDB}, func(ctx context.Context, f *troubledFleet) error {
		sums, err := sumsOf(ctx, upstream.URL, t.Paths)
		if err != nil {
			return err
		}
		counting.reset()
		watched := &fleetLoad{f: f, stop: make(chan struct{})}
		watched.running.Go(func() { watched.watch(ctx) })
		v := &visits{f: f, paths: t.Paths, sums: sums, client: plainClient()}
		if err := v.run(ctx); err != nil {
			return err
		}
		if err := watched.end(ctx); err != nil {
			return err
		}
		fetched := 0
		for _, p := range t.Paths {
			fetched = max(fetched, counting.requests()[p])
		}
		r.note("%d zips of %d MB, each fetched from upstream %d times at most", len(t.Paths), t.Size/1e6, fetched)
		return v.report(ctx, watched.mostBytes.Load())
	})
	return r, err
}

// visits are requests for large files.
type visits struct {
	f      *troubledFleet
	paths  []string
	sums   map[string][sha256.Size]byte
	client *http.Client

	asked, failed, wrong atomic.Int64
	first                sync.Once
}

// run is four clients. An error is that the time is over.
func (v *visits) run(ctx context.Context) error {
	const clients = 4
	var g errgroup.Group
	for c := range clients {
		g.Go(func() error {
			for n := c; n < len(v.paths); n += clients {
				v.visit(ctx, v.paths[n])
			}
			favour := rand.NewZipf(rand.New(rand.NewPCG(uint64(c), 0)), 1.1, 4, uint64(len(v.paths)-1))
			for range favourites {
				v.visit(ctx, v.paths[favour.Uint64()])
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

func (v *visits) visit(ctx context.Context, path string) {
	h := sha256.New()
	_, err := get(ctx, v.client, v.f.nginx.URL+path, h)
	if ctx.Err() != nil {
		return
	}
	v.asked.Add(1)
	if err == nil && [sha256.Size]byte(h.Sum(nil)) != v.sums[path] {
		v.wrong.Add(1)
		err = fmt.Errorf("%w: %s", errWrong, path)
	}
	if err != nil {
		v.failed.Add(1)
		v.first.Do(func() { v.f.r.note("the first failure: %v", err) })
	}
}

// report puts what the clients have met into the row; most is the size of the
// largest directory.
func (v *visits) report(ctx context.Context, most int64) error {
	far, err := v.f.metric(ctx, `modgate_shared_reads_total{outcome="hit",tier="bucket"}`)
	if err != nil {
		return err
	}
	evictions, err := v.f.metric(ctx, "modgate_cache_evictions_total ")
	if err != nil {
		return err
	}
	r, failed := v.f.r, float64(v.failed.Load())
	r.add(fleetName(len(v.f.replicas)), failed)
	r.Checks = append(r.Checks, check{What: "failed requests", Value: failed, AtMost: true},
		check{What: "wrong bytes", Value: float64(v.wrong.Load()), AtMost: true},
		check{What: "largest directory / bound", Value: float64(most) / float64(v.f.disk), Bar: 1, AtMost: true})
	again := float64(v.asked.Load()) - float64(len(v.paths))
	r.note("%d requests; of %.0f for what had been asked for before, %.0f%% were answered by the disk of the replica and the others by the bucket; %.0f evictions; at most %d MiB on a disk of %d MiB",
		v.asked.Load(), again, 100*(again-far)/again, evictions, most>>20, v.f.disk>>20)
	return nil
}

// sumsOf are the digests of what upstream has.
func sumsOf(ctx context.Context, upstream string, paths []string) (map[string][sha256.Size]byte, error) {
	sums := make(map[string][sha256.Size]byte, len(paths))
	for _, p := range paths {
		h := sha256.New()
		if _, err := get(ctx, http.DefaultClient, upstream+p, h); err != nil {
			return nil, err
		}
		sums[p] = [sha256.Size]byte(h.Sum(nil))
	}
	return sums, nil
}
