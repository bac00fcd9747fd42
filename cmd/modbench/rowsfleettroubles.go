package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/modgate/modgate/cache/sharedtest"
)

// smallDisk bounds the directories of replicas that are to need what they share
// all the time: a third of what a client of the workload wants.
const smallDisk = 64 << 20

// A fleetTrouble happens to what replicas share, for a while.
type fleetTrouble struct {
	about      string
	begin, end func(*troubledFleet)
}

func nothing(*troubledFleet) {}

// redisTroubles begin with those that need values to be there.
var redisTroubles = []fleetTrouble{
	{"it holds garbage", func(f *troubledFleet) { f.master().Garble() }, nothing},
	{"it holds values of other keys", func(f *troubledFleet) { f.master().Confuse() }, nothing},
	{"its master is killed, and the other takes its place", func(f *troubledFleet) { f.dead = f.master(); f.dead.Kill() }, awaitFailover},
	{"it hangs", func(f *troubledFleet) { f.sentinels.Master.Hang(); f.sentinels.Replica.Hang() },
		func(f *troubledFleet) { f.sentinels.Master.Resume(); f.sentinels.Replica.Resume() }},
	{"it is killed", func(f *troubledFleet) { f.sentinels.Master.Kill(); f.sentinels.Replica.Kill() }, restartRedis},
}

// unitFailures is that of rows in which nothing may fail.
const unitFailures unit = "failures"

// awaitFailover waits until the Sentinels have chosen another master.
func awaitFailover(f *troubledFleet) {
	for f.master() == f.dead && pause(f.ctx, 50*time.Millisecond) {
	}
	restartRedis(f)
}

// restartRedis starts again what was killed.
func restartRedis(f *troubledFleet) {
	for _, r := range []*sharedtest.Redis{f.sentinels.Master, f.sentinels.Replica} {
		if r.Ended() {
			r.Restart()
		}
	}
}

func bucketTrouble(about string, fault sharedtest.Fault) fleetTrouble {
	return fleetTrouble{about, func(f *troubledFleet) { f.bucket.Always(fault) }, func(f *troubledFleet) { f.bucket.Always(sharedtest.Fault{}) }}
}

var bucketTroubles = []fleetTrouble{
	bucketTrouble("it answers 500", sharedtest.Fault{Status: http.StatusInternalServerError}),
	bucketTrouble("it answers 503", sharedtest.Fault{Status: http.StatusServiceUnavailable}),
	bucketTrouble("it sends parts of bodies", sharedtest.Fault{Cut: 700}),
	bucketTrouble("it does not answer", sharedtest.Fault{Hang: true}),
}

// fleetRedis makes troubles happen to Redis while clients work.
func fleetRedis(ctx context.Context, b *bench) (result, error) {
	return b.suffer(ctx, redisTroubles, "modgate_redis_errors_total ", "modgate_redis_corrupt_total ")
}

// fleetBucket does the same to the bucket.
func fleetBucket(ctx context.Context, b *bench) (result, error) {
	return b.suffer(ctx, bucketTroubles, "modgate_bucket_errors_total ", "modgate_bucket_corrupt_total ")
}

// suffer makes troubles happen one after the other while go commands with empty
// caches download the workload from replicas with small disks. The metrics show
// that the replicas have met them.
func (b *bench) suffer(ctx context.Context, troubles []fleetTrouble, metrics ...string) (result, error) {
	r := result{Unit: unitFailures}
	err := b.withTroubles(ctx, &r, smallDisk, b.near(), func(ctx context.Context, f *troubledFleet) error {
		l, err := f.load(ctx, false)
		if err != nil {
			return err
		}
		pause(ctx, troubleFree) // something is under way, and in Redis
		for _, t := range troubles {
			t.begin(f)
			pause(ctx, troubleLasts)
			t.end(f)
			f.sentinels.Settle()
			if err := f.usable(ctx); err != nil {
				return fmt.Errorf("after %s: %w", t.about, err)
			}
			r.note("%s: %d go commands are done, %d requests; failed: %d, %d", t.about, l.commands.Load(), l.requests.Load(), l.failed.Load(), l.lost.Load())
			pause(ctx, troubleFree)
		}
		if err := l.end(ctx); err != nil {
			return err
		}
		l.report()
		for _, m := range metrics {
			met, err := f.metric(ctx, m)
			if err != nil {
				return err
			}
			r.note("%s%s", m, number(met))
		}
		return nil
	})
	return r, err
}

// fleetReplica kills one replica and drains another while clients work. Whoever
// spoke to the one that was killed asks once more.
func fleetReplica(ctx context.Context, b *bench) (result, error) {
	r := result{Unit: unitFailures}
	err := b.withTroubles(ctx, &r, smallDisk, b.near(), func(ctx context.Context, f *troubledFleet) error {
		l, err := f.load(ctx, true)
		if err != nil {
			return err
		}
		killed, drained := f.replicas[0], f.replicas[1]
		cut := l.askSlowly(ctx, killed.URL)
		pause(ctx, troubleLasts)
		_ = killed.end(ctx, syscall.SIGKILL)
		r.note("%d large downloads of the replica that was killed broke off, and were repeated", cut())
		pause(ctx, troubleFree)
		if err := killed.start(ctx); err != nil {
			return err
		}
		l.everyoneIsDone(ctx) // who met the dead one has noticed
		r.note("a replica was killed and started again: %d repeated, %d failed", l.again.Load(), l.failed.Load()+l.lost.Load())
		requests, failed, err := l.drain(ctx, drained)
		if err != nil {
			return err
		}
		if err := l.end(ctx); err != nil {
			return err
		}
		l.report()
		left, err := f.remains(ctx)
		if err != nil {
			return err
		}
		r.note("the drained replica took %d requests past nginx while it was told to end", requests)
		r.Checks = append(r.Checks, check{What: "failed requests of the drained replica", Value: float64(failed), AtMost: true},
			check{What: "half-written files", Value: float64(left), AtMost: true})
		return nil
	})
	return r, err
}

// askSlowly begins to fetch the largest zip from one replica, which takes longer
// than that will live. What broke off is fetched by nginx then; cut waits for that
// and returns how often it was so. An answer that is short and has no error is
// wrong.
func (l *fleetLoad) askSlowly(ctx context.Context, replica string) (cut func() int64) {
	const readers = 4
	var all sync.WaitGroup
	var broke atomic.Int64
	path, _, err := zipOfSize(l.f.b.tree, 1<<40)
	for range readers {
		all.Go(func() {
			if err == nil {
				err := l.get(ctx, &http.Client{Transport: slowReads{newTransport()}}, replica, path)
				if errors.Is(err, errWrong) {
					l.count(ctx, err)
				} else if err != nil {
					broke.Add(1)
				}
			}
			l.count(ctx, errors.Join(err, l.get(ctx, plainClient(), l.f.nginx.URL, path)))
		})
	}
	return func() int64 { all.Wait(); return broke.Load() }
}

// slowReads reads 1 MB of each body in a second.
type slowReads struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s slowReads) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &slowBody{resp.Body}
	}
	return resp, err
}

type slowBody struct{ io.ReadCloser }

func (b *slowBody) Read(p []byte) (int, error) {
	<-time.After(10 * time.Millisecond)
	return b.ReadCloser.Read(p[:min(len(p), 10<<10)])
}

// drain tells a replica to end while it is asked past nginx as well, which would
// hide what it does not answer, and starts it again. Of the
// others nobody may have to repeat anything meanwhile.
func (l *fleetLoad) drain(ctx context.Context, r *troubledReplica) (requests, failed int, err error) {
	before := l.again.Load()
	var g errgroup.Group
	counts := make([][2]int, 4)
	for i := range counts {
		g.Go(func() error {
			counts[i][0], counts[i][1] = l.askAlone(ctx, r.URL)
			return nil
		})
	}
	pause(ctx, time.Second)
	if err := r.end(ctx, syscall.SIGTERM); err != nil {
		return 0, 0, fmt.Errorf("a replica that was told to end: %w", err)
	}
	if err := g.Wait(); err != nil {
		return 0, 0, err
	}
	for _, c := range counts {
		requests, failed = requests+c[0], failed+c[1]
	}
	if err := r.start(ctx); err != nil {
		return requests, failed, err
	}
	pause(ctx, 2*time.Second)
	return requests, failed + int(l.again.Load()-before), nil
}
