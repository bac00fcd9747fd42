package redis_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/cachetest"
	"github.com/modgate/modgate/cache/redis"
	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/internal/breaker"
)

var spaces atomic.Int64

// open returns a running Store of its own namespace, closed with the test.
func open(t *testing.T, c redis.Config) *redis.Store {
	t.Helper()
	if c.Namespace == "" {
		c.Namespace = fmt.Sprintf("test%d", spaces.Add(1))
	}
	c.MaxObject = 1 << 20
	s, err := redis.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func put(t *testing.T, s *redis.Store, name, data string) {
	t.Helper()
	if err := s.Put(t.Context(), name, strings.NewReader(data), cache.PutOptions{Class: cache.Mutable}); err != nil {
		t.Fatal(err)
	}
}

// await waits until f returns nil.
func await(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func holds(s *redis.Store, name, want string) error {
	o, err := s.Get(context.Background(), name)
	if err != nil {
		return err
	}
	if string(o.Bytes) != want {
		return fmt.Errorf("%s holds %q, want %q", name, o.Bytes, want)
	}
	return nil
}

func TestContract(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewRedis(t)
	cachetest.Test(t, func(t *testing.T) cache.Store {
		return open(t, redis.Config{Addrs: []string{server.Addr}, Timeout: 5 * time.Second})
	})
}

func TestContractOfCluster(t *testing.T) {
	t.Parallel()
	var addrs []string
	for _, n := range sharedtest.NewCluster(t) {
		addrs = append(addrs, n.Addr)
	}
	cachetest.Test(t, func(t *testing.T) cache.Store {
		return open(t, redis.Config{Mode: redis.Cluster, Addrs: addrs[:1], Timeout: 5 * time.Second})
	})
}

func TestUserAndPassword(t *testing.T) {
	server := sharedtest.NewRedis(t, "--user", "default", "off", "--user", "modgate", "on", ">secret", "~test:*", "&test:*", "+@all", "-@dangerous", "-@admin")
	c := redis.Config{Addrs: []string{server.Addr}, Namespace: "test", User: "modgate", Password: "secret"}
	s := open(t, c)
	put(t, s, "a/@v/list", "v1\n")
	if err := holds(s, "a/@v/list", "v1\n"); err != nil {
		t.Error(err)
	}
	c.Password = "wrong"
	if err := open(t, c).Delete(t.Context(), "a"); err == nil || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong password: %v", err)
	}
}

// What is in Redis is not believed.
func TestWrongValues(t *testing.T) {
	server := sharedtest.NewRedis(t)
	const name, other = "example.com/m/@v/list", "example.com/n/@v/list"
	keyOf := func(space string) string {
		return strings.Fields(server.Do("--scan", "--pattern", space+":o:*"))[0]
	}
	for _, c := range []struct {
		about string
		spoil func(space, key string, s *redis.Store)
	}{
		{"garbage", func(_, key string, _ *redis.Store) { server.Do("set", key, strings.Repeat("x", 500)) }},
		{"short garbage", func(_, key string, _ *redis.Store) { server.Do("set", key, "x") }},
		{"more than it may be", func(_, key string, _ *redis.Store) { server.Do("setrange", key, "300000000", "x") }},
		{"truncated", func(_, key string, _ *redis.Store) {
			server.Do("eval", "redis.call('SET', KEYS[1], string.sub(redis.call('GET', KEYS[1]), 1, -2))", "1", key)
		}},
		{"extended", func(_, key string, _ *redis.Store) { server.Do("append", key, "x") }},
		{"a bit in the body", func(_, key string, _ *redis.Store) { server.Do("setrange", key, "-1", "x") }},
		{"a bit in the tag", func(_, key string, _ *redis.Store) { server.Do("setrange", key, "3", "x") }},
		{"of another type", func(_, key string, _ *redis.Store) { server.Do("del", key); server.Do("rpush", key, "x") }},
		{"the value of another name", func(_, key string, s *redis.Store) {
			server.Do("rename", key, key+"-kept")
			put(t, s, other, "v9\n")
			server.Do("del", key)
			var theirs string
			for _, k := range strings.Fields(server.Do("--scan", "--pattern", key[:strings.LastIndex(key, ":")]+":*")) {
				if k != key && k != key+"-kept" {
					theirs = k
				}
			}
			server.Do("copy", theirs, key)
		}},
	} {
		t.Run(c.about, func(t *testing.T) {
			space := fmt.Sprintf("wrong%d", spaces.Add(1))
			s := open(t, redis.Config{Addrs: []string{server.Addr}, Namespace: space})
			put(t, s, name, "v1\n")
			key := keyOf(space)
			if c.about == "a bit in the body" {
				n := server.Do("strlen", key)
				var last int
				fmt.Sscan(n, &last)
				server.Do("setrange", key, fmt.Sprint(last-1), "x")
			} else {
				c.spoil(space, key, s)
			}
			o, err := s.Get(t.Context(), name)
			if err == nil {
				t.Fatalf("got %q", o.Bytes)
			}
			if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, cache.ErrCorrupt) {
				t.Errorf("error %v", err)
			}
			if server.Do("exists", key) != "0" {
				t.Error("it was not deleted")
			}
			put(t, s, name, "v2\n")
			if err := holds(s, name, "v2\n"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSecretAuthenticatesValues(t *testing.T) {
	server := sharedtest.NewRedis(t)
	secret := sha256.Sum256([]byte("fleet"))
	c := redis.Config{Addrs: []string{server.Addr}, Namespace: "fleet", Secret: secret[:]}
	ours := open(t, c)
	put(t, ours, "a/@v/list", "ours")
	c.Secret = nil
	theirs := open(t, c)
	put(t, theirs, "a/@v/list", "theirs")
	// The attacker knows the key of the object, and puts a value there.
	keys := strings.Fields(server.Do("--scan", "--pattern", "fleet:o:*"))
	if len(keys) != 2 {
		t.Fatalf("keys %q", keys)
	}
	server.Do("copy", keys[0], "tmp")
	server.Do("copy", keys[1], keys[0], "replace")
	server.Do("copy", "tmp", keys[1], "replace")
	if o, err := ours.Get(t.Context(), "a/@v/list"); !errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("%+v, %v", o, err)
	}
}

// Keys end up in slow logs and dashboards.
func TestKeysDoNotTellNames(t *testing.T) {
	server := sharedtest.NewRedis(t)
	s := open(t, redis.Config{Addrs: []string{server.Addr}})
	put(t, s, "git.corp.example/secret/@v/list", "v1\n")
	release, _, err := s.Lease(t.Context(), "git.corp.example/secret/@v/v1.0.0.zip")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if keys := server.Do("--scan"); strings.Contains(keys, "corp") || len(strings.Fields(keys)) != 2 {
		t.Errorf("keys: %s", keys)
	}
	if ttl := server.Do("eval", "local least = 1e9 for _, k in ipairs(redis.call('KEYS', '*')) do least = math.min(least, redis.call('PTTL', k)) end return least", "0"); strings.HasPrefix(ttl, "-") {
		t.Errorf("a key does not expire: %s", ttl)
	}
}

func TestKilledAndBack(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewRedis(t)
	s := open(t, redis.Config{Addrs: []string{server.Addr}})
	put(t, s, "a/@v/list", "v1\n")
	server.Kill()
	if err := holds(s, "a/@v/list", ""); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a dead server: %v, want a fault", err)
	}
	server.Restart()
	await(t, func() error {
		err := holds(s, "a/@v/list", "v1\n")
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it came back empty
		}
		return fmt.Errorf("after the restart: %w", err)
	})
	put(t, s, "a/@v/list", "v2\n")
}

// A hung Redis costs the first request its time-out, and the next ones nothing.
func TestHung(t *testing.T) {
	t.Parallel()
	server := sharedtest.NewRedis(t)
	s := open(t, redis.Config{Addrs: []string{server.Addr}, Timeout: 200 * time.Millisecond})
	put(t, s, "a/@v/list", "v1\n")
	server.Hang()
	defer server.Resume()
	begin := time.Now()
	if err := holds(s, "a/@v/list", "v1\n"); err == nil {
		t.Fatal("a hung server answered")
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("the first request waited for %v", d)
	}
	begin = time.Now()
	for range 100 {
		if err := holds(s, "a/@v/list", "v1\n"); !errors.Is(err, breaker.ErrOpen) {
			t.Fatalf("%v, want breaker.ErrOpen", err)
		}
		if _, _, err := s.Lease(t.Context(), "a/@v/list"); err == nil {
			t.Fatal("a lease from a hung server")
		}
	}
	if d := time.Since(begin); d > 100*time.Millisecond {
		t.Errorf("100 requests after the first took %v", d)
	}
	server.Resume()
	await(t, func() error { return holds(s, "a/@v/list", "v1\n") })
}

// A server out of memory refuses what is new, and goes on with the rest.
func TestOutOfMemory(t *testing.T) {
	server := sharedtest.NewRedis(t)
	var log bytes.Buffer
	s := open(t, redis.Config{Addrs: []string{server.Addr}, Timeout: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	put(t, s, "a/@v/list", "v1\n")
	server.Do("config", "set", "maxmemory", "1")
	for range 3 {
		if err := s.Put(t.Context(), "b/@v/list", strings.NewReader("x"), cache.PutOptions{}); err == nil {
			t.Error("put into a full server")
		}
	}
	if n := strings.Count(log.String(), "allkeys-lru"); n != 1 {
		t.Errorf("it was said %d times:\n%s", n, log.String())
	}
	if err := holds(s, "a/@v/list", "v1\n"); err != nil {
		t.Error(err)
	}
	if err := s.Probe(t.Context()); err != nil || s.Trouble() != nil {
		t.Errorf("a full server: probe %v, trouble %v", err, s.Trouble())
	}
}

// A server that may not write is left alone until it may: a probe that asks less
// than the work needs would have every request run into it.
func TestServerThatMayNotWrite(t *testing.T) {
	for about, set := range map[string][2][]string{
		"a replica":   {{"replicaof", "127.0.0.1", "1"}, {"replicaof", "no", "one"}},
		"lone master": {{"config", "set", "min-replicas-to-write", "1"}, {"config", "set", "min-replicas-to-write", "0"}},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			server := sharedtest.NewRedis(t)
			s := open(t, redis.Config{Addrs: []string{server.Addr}, Timeout: 5 * time.Second})
			put(t, s, "a/@v/list", "v1\n")
			server.Do(set[0]...)
			_ = s.Put(t.Context(), "b/@v/list", strings.NewReader("x"), cache.PutOptions{})
			since := s.Trouble()
			if since == nil {
				t.Fatal("no trouble after a refused write")
			}
			for begin := time.Now(); time.Since(begin) < 1500*time.Millisecond; <-time.After(20 * time.Millisecond) {
				if tr := s.Trouble(); tr == nil || !tr.Since.Equal(since.Since) {
					t.Fatalf("trouble since %v is over, and now %v", since, tr)
				}
			}
			server.Do(set[1]...)
			await(t, func() error {
				return s.Put(t.Context(), "b/@v/list", strings.NewReader("x"), cache.PutOptions{Class: cache.Mutable})
			})
		})
	}
}

// A node of a Cluster that is taken for a server alone has the keys of its slots
// and no others: it is not used by halves.
func TestNodeTakenForAServer(t *testing.T) {
	for _, node := range sharedtest.NewCluster(t) {
		s := open(t, redis.Config{Addrs: []string{node.Addr}, Timeout: 5 * time.Second})
		await(t, func() error {
			if tr := s.Trouble(); tr == nil || !strings.HasPrefix(tr.Err.Error(), "CROSSSLOT ") {
				return fmt.Errorf("trouble %+v", tr)
			}
			return nil
		})
	}
}

func TestFailover(t *testing.T) {
	t.Parallel()
	fleet := sharedtest.NewSentinels(t)
	s := open(t, redis.Config{Mode: redis.Sentinel, Addrs: fleet.Addrs, Master: "mymaster"})
	put(t, s, "a/@v/list", "v1\n")
	await(t, func() error {
		if n := fleet.Replica.Do("dbsize"); n != "1" {
			return fmt.Errorf("the replica has %s keys", n)
		}
		return nil
	})
	fleet.Master.Kill()
	await(t, func() error { return holds(s, "a/@v/list", "v1\n") })
	await(t, func() error {
		return s.Put(t.Context(), "a/@v/list", strings.NewReader("v2\n"), cache.PutOptions{Class: cache.Mutable})
	})
}

func TestConfig(t *testing.T) {
	for want, c := range map[string]redis.Config{
		"no address":         {},
		"write host:port":    {Addrs: []string{"localhost"}},
		"mode \"ring\"":      {Mode: "ring", Addrs: []string{"a:1"}},
		"name of the master": {Mode: redis.Sentinel, Addrs: []string{"a:1"}},
		"only database 0":    {Mode: redis.Cluster, Addrs: []string{"a:1"}, DB: 2},
		"2 addresses":        {Addrs: []string{"a:1", "b:1"}},
		"negative":           {Addrs: []string{"a:1"}, TTL: -1},
		"namespace":          {Addrs: []string{"a:1"}, Namespace: "{x}"},
	} {
		if _, err := redis.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}
