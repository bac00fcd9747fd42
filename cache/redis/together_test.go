package redis_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/redis"
	"github.com/modgate/modgate/cache/sharedtest"
)

const zip = "example.com/m/@v/v1.0.0.zip"

func TestLease(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewRedis(t)
	c := redis.Config{Addrs: []string{server.Addr}, Namespace: "lease", LeaseTTL: 400 * time.Millisecond}
	a, b := open(t, c), open(t, c)
	release, first, err := a.Lease(t.Context(), zip)
	if err != nil || release == nil {
		t.Fatal(release == nil, err)
	}
	refused := func(s *redis.Store) {
		t.Helper()
		if r, holder, err := s.Lease(t.Context(), zip); r != nil || holder != first || err != nil {
			t.Fatalf("taken %v, holder %q (want %q), %v", r != nil, holder, first, err)
		}
	}
	refused(b)
	refused(a)
	<-time.After(time.Second)
	refused(b) // it is kept, beyond its time
	release()
	release()
	again, second, err := b.Lease(t.Context(), zip)
	if err != nil || again == nil || second == first {
		t.Fatalf("taken %v, %q then %q, %v", again != nil, first, second, err)
	}
	release() // of the one before, which is over
	if r, holder, err := a.Lease(t.Context(), zip); r != nil || holder != second || err != nil {
		t.Fatalf("a lease given back twice took away the next one: %v, %v", r != nil, err)
	}
	again()
}

func TestLeaseOfADeadHolderRunsOut(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewRedis(t)
	c := redis.Config{Addrs: []string{server.Addr}, Namespace: "lease", LeaseTTL: 300 * time.Millisecond}
	dead, err := redis.New(c) // nobody runs it
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	if release, _, err := dead.Lease(t.Context(), zip); release == nil {
		t.Fatal(err)
	}
	b := open(t, c)
	await(t, func() error {
		release, holder, err := b.Lease(t.Context(), zip)
		if release == nil {
			return fmt.Errorf("held by %q, %w", holder, err)
		}
		release()
		return nil
	})
}

func TestOneOfManyHasTheLease(t *testing.T) {
	server := sharedtest.NewRedis(t)
	c := redis.Config{Addrs: []string{server.Addr}, Namespace: "lease", Timeout: 5 * time.Second}
	stores := []*redis.Store{open(t, c), open(t, c), open(t, c)}
	for round := range 20 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		holders, taken := map[string]bool{}, 0
		for i := range 12 {
			wg.Go(func() {
				release, holder, err := stores[i%3].Lease(t.Context(), fmt.Sprintf("m/@v/v1.0.%d.zip", round))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				holders[holder] = true
				if release != nil {
					taken++
				}
			})
		}
		wg.Wait()
		if taken != 1 || len(holders) != 1 {
			t.Fatalf("%d have the lease, holders %v", taken, holders)
		}
	}
}

func TestAnnounceAndWatch(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewRedis(t)
	c := redis.Config{Addrs: []string{server.Addr}, Namespace: "talk"}
	a, b := open(t, c), open(t, c)
	heard := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- b.Watch(ctx, func(name string, gone bool) { heard <- fmt.Sprintf("%s %v", name, gone) })
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Fatalf("heard %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("did not hear %q", want)
		}
	}
	expect(" false") // from here on it listens
	for range 2 {
		if err := b.Announce(t.Context(), "mine/@v/list", false); err != nil {
			t.Fatal(err)
		}
		server.Do("publish", "talk:changes", "garbage")
		server.Do("publish", "talk:changes", `{"from":"x","name":"../../etc/passwd","gone":true}`)
		if err := a.Announce(t.Context(), "m/@v/list", false); err != nil {
			t.Fatal(err)
		}
		if err := a.Announce(t.Context(), zip, true); err != nil {
			t.Fatal(err)
		}
		expect("m/@v/list false")
		expect(zip + " true")
		server.Kill()
		server.Restart()
		expect(" false") // something may have been missed
		await(t, func() error { return a.Announce(t.Context(), "w/@v/list", false) })
		expect("w/@v/list false")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
