package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/modgate/modgate/proxy/proxytest"
)

// A working set of 1 GiB in zips of 16 MiB, on replicas with 256 MiB each.
const (
	workingZips  = 64
	workingZip   = 16<<20 - 100_000
	workingBound = 256 << 20
)

// TestFleetLocalDisk lets clients ask replicas for four times as much as their
// disks hold. No request fails, upstream is asked once for each zip, and no
// directory is ever larger than its bound.
func TestFleetLocalDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 3 GB")
	}
	f := newSharingFleet(t, fmt.Sprintf("--cache-max-size=%d", workingBound), "--cache-s3-timeout=10s")
	set := f.largeModules(workingZips, workingZip)
	stopped := make(chan struct{})
	var watching, clients sync.WaitGroup
	var most int64
	watching.Go(func() {
		most = watchSizes(t.Context(), t, stopped, workingBound, func() (dirs []string) {
			for _, i := range f.replicas {
				dirs = append(dirs, i.dir)
			}
			return dirs
		})
	})
	var asked atomic.Int64
	ask := func(n int) {
		asked.Add(1)
		if err := set[n].fetch(t.Context(), f.nginx.URL); err != nil {
			t.Error(err)
		}
	}
	// Each once, then some more often than others, as it is with modules.
	for c := range 4 {
		clients.Go(func() {
			for n := c; n < workingZips; n += 4 {
				ask(n)
			}
			favour := rand.NewZipf(rand.New(rand.NewPCG(uint64(c), 0)), 1.1, 8, workingZips-1)
			for range 12 {
				ask(int(favour.Uint64()))
			}
		})
	}
	clients.Wait()
	close(stopped)
	watching.Wait()
	for _, z := range set {
		if n := f.upstream.Count(z.path); n != 1 {
			t.Errorf("%s was fetched %d times", z.path, n)
		}
	}
	var far, evicted float64
	for _, i := range f.replicas {
		far += i.metric(t, `modgate_shared_reads_total{outcome="hit",tier="bucket"}`)
		evicted += i.metric(t, "modgate_cache_evictions_total")
	}
	again := float64(asked.Load() - workingZips)
	t.Logf("%d requests; of %v for what had been fetched before, %.0f%% were answered by the disk of the replica; %v evictions; at most %d MiB on a disk of %d",
		asked.Load(), again, 100*(again-far)/again, evicted, most>>20, workingBound>>20)
	if evicted < workingZips/2 || far == 0 {
		t.Errorf("%v evictions, %v from the bucket: too few to prove anything", evicted, far)
	}
	// One that fits nowhere is served all the same.
	huge := f.largeModules(1, workingBound+1<<20)[0]
	for _, i := range f.replicas {
		if err := huge.fetch(t.Context(), i.url); err != nil {
			t.Error(err)
		}
	}
}

// largeModule is known by its digest: many of them would not fit into memory.
type largeModule struct {
	path string
	sum  [sha256.Size]byte
}

// largeModules adds modules that are made anew whenever upstream is asked for
// one.
func (f *sharingFleet) largeModules(n, size int) []largeModule {
	all := make([]largeModule, n)
	var work sync.WaitGroup
	for worker := range 2 {
		work.Go(func() {
			for i := worker; i < n; i += 2 {
				name, version := fmt.Sprintf("example.com/large%d", size), fmt.Sprintf("v1.%d.0", i)
				m := proxytest.Big(f.t, name, version, size)
				all[i] = largeModule{proxytest.Path(f.t, m.Version, "zip"), sha256.Sum256(m.Zip)}
				f.log.Add(m.Version, m.H1, m.ModH1)
				m.Zip = nil
				f.upstream.Add(f.t, m)
				f.upstream.SetFault(all[i].path, func(x proxytest.Exchange) {
					proxytest.Bytes("application/zip", proxytest.Big(f.t, name, version, size).Zip)(x)
				})
			}
		})
	}
	work.Wait()
	return all
}

// fetch gets the zip and compares its digest.
func (z *largeModule) fetch(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+z.path, nil)
	if err != nil {
		return err
	}
	resp, err := sharingClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s, %v", z.path, resp.Status, err)
	}
	if [sha256.Size]byte(h.Sum(nil)) != z.sum {
		return fmt.Errorf("%s: %w", z.path, errWrongBytes)
	}
	return nil
}
