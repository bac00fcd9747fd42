package redis_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
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

// A Redis that has forgotten the leases gets those again that are held, and not
// those that were given back.
func TestForgottenLeases(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewRedis(t)
	c := redis.Config{Addrs: []string{server.Addr}, Namespace: "lease", LeaseTTL: 400 * time.Millisecond}
	a, b := open(t, c), open(t, c)
	release, first, err := a.Lease(t.Context(), zip)
	if release == nil {
		t.Fatal(err)
	}
	server.Do("flushall")
	await(t, func() error {
		if n := server.Do("dbsize"); !strings.Contains(n, "1") {
			return fmt.Errorf("keys: %s", n)
		}
		return nil
	})
	if r, holder, err := b.Lease(t.Context(), zip); r != nil || holder != first || err != nil {
		t.Fatalf("taken %v, holder %q (want %q), %v", r != nil, holder, first, err)
	}
	release()
	<-time.After(time.Second)
	if n := server.Do("dbsize"); !strings.Contains(n, "0") {
		t.Errorf("a lease that was given back is there again: %s", n)
	}
}

// Many leases are kept although each answer of Redis takes long.
func TestManyLeasesAreKept(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewRedis(t)
	slow := slowly(t, server.Addr, 20*time.Millisecond)
	c := redis.Config{Addrs: []string{slow}, Namespace: "lease", LeaseTTL: time.Second, Timeout: 5 * time.Second}
	a := open(t, c)
	c.Addrs = []string{server.Addr}
	b := open(t, c)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if release, _, err := a.Lease(t.Context(), fmt.Sprintf("m/@v/v1.0.%d.zip", i)); release == nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	<-time.After(3 * time.Second)
	for i := range 200 {
		if release, _, err := b.Lease(t.Context(), fmt.Sprintf("m/@v/v1.0.%d.zip", i)); release != nil || err != nil {
			t.Fatalf("lease %d has run out: %v", i, err)
		}
	}
}

// slowly returns the address of a Redis whose answers come late.
func slowly(t *testing.T, addr string, delay time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				client.Close()
				return
			}
			wg.Go(func() { io.Copy(server, client); server.Close() })
			wg.Go(func() {
				defer client.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := server.Read(buf)
					if err != nil {
						return
					}
					<-time.After(delay)
					if _, err := client.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() }) // after the stores are closed
	return l.Addr().String()
}

// A lease that was taken with an answer that came too late is ours.
func TestLeaseWithALateAnswer(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewRedis(t)
	c := redis.Config{Addrs: []string{server.Addr}, Namespace: "lease", Timeout: 200 * time.Millisecond, LeaseTTL: time.Hour}
	a := open(t, c)
	if release, _, err := a.Lease(t.Context(), "warm.zip"); release == nil { // there is a connection
		t.Fatal(err)
	}
	server.Hang()
	_, _, err := a.Lease(t.Context(), zip)
	server.Resume()
	if err == nil {
		t.Fatal("Redis did not hang")
	}
	await(t, func() error {
		release, holder, err := a.Lease(t.Context(), zip)
		switch {
		case err != nil:
			return err
		case release == nil:
			t.Fatalf("we wait for ourselves: %q", holder)
		}
		release()
		return nil
	})
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
