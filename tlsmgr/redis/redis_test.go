package redis

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/goleak"

	"github.com/modgate/modgate/cache/sharedtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"))
}

var secret = []byte("a secret of thirty-two bytes, at least")

// open opens a Store that is closed with the test.
func open(t *testing.T, c Config) *Store {
	t.Helper()
	if c.Secret == nil {
		c.Secret = secret
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// The same operations, at random, on a Store and on the directory that
// certmagic itself keeps: there must be no difference, by whatever kind of
// Redis.
func TestLikeFiles(t *testing.T) {
	sentinels := sharedtest.NewSentinels(t)
	cluster := sharedtest.NewCluster(t)
	for name, c := range map[string]Config{
		"standalone": {Addrs: []string{sentinels.Master.Addr}},
		"sentinel":   {Addrs: sentinels.Addrs, Master: "mymaster", Namespace: "by-sentinel"},
		"cluster":    {Addrs: []string{cluster[0].Addr, cluster[1].Addr}, Cluster: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			likeFiles(t, open(t, c))
		})
	}
}

func likeFiles(t *testing.T, s *Store) {
	ctx := t.Context()
	f := &certmagic.FileStorage{Path: t.TempDir()}
	dirs := []string{"a", "a/b", "ab", "a/b/c", "certificates/x", "a0", "a.b"}
	leaves := []string{"f", "f.json", "g-1"}
	random := rand.New(rand.NewSource(1))
	pick := func(from []string) string { return from[random.Intn(len(from))] }
	key := func() string { return pick(dirs) + "/" + pick(leaves) }
	same := func(op, key string, a, b any) {
		t.Helper()
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%s %q: %v, files: %v", op, key, a, b)
		}
	}
	for i := range 2000 {
		switch k := key(); random.Intn(6) {
		case 0, 1:
			value := fmt.Appendf(nil, "value %d\x00\xff", i)
			same("store", k, s.Store(ctx, k, value), f.Store(ctx, k, value))
		case 2:
			a, aerr := s.Load(ctx, k)
			b, berr := f.Load(ctx, k)
			same("load", k, fmt.Sprintf("%q %v", a, errors.Is(aerr, fs.ErrNotExist)), fmt.Sprintf("%q %v", b, errors.Is(berr, fs.ErrNotExist)))
		case 3:
			if random.Intn(3) == 0 {
				k = pick(dirs)
			}
			same("delete", k, s.Delete(ctx, k), f.Delete(ctx, k))
			for range 4 { // files leave empty directories behind
				for _, d := range append(dirs, "certificates") {
					os.Remove(f.Filename(d))
				}
			}
		case 4:
			d := pick(append(dirs, "certificates", "nothing"))
			for _, recursive := range []bool{false, true} {
				same("list", d, listed(s.List(ctx, d, recursive)), listed(f.List(ctx, d, recursive)))
			}
			same("stat", d, described(s.Stat(ctx, d)), described(f.Stat(ctx, d)))
		case 5:
			same("stat", k, described(s.Stat(ctx, k)), described(f.Stat(ctx, k)))
			same("exists", k, s.Exists(ctx, k), f.Exists(ctx, k))
		}
	}
}

func listed(keys []string, err error) string {
	slices.Sort(keys)
	return fmt.Sprint(keys, errors.Is(err, fs.ErrNotExist))
}

func described(info certmagic.KeyInfo, err error) string {
	if !info.IsTerminal {
		info.Size = 0 // of a directory
	}
	return fmt.Sprint(info.Key, info.IsTerminal, info.Size, info.Modified.IsZero() && info.IsTerminal, errors.Is(err, fs.ErrNotExist))
}

// At most one holds a lock, whichever process it is in.
func TestLocksExclude(t *testing.T) {
	r := sharedtest.NewRedis(t)
	stores := []*Store{open(t, Config{Addrs: []string{r.Addr}}), open(t, Config{Addrs: []string{r.Addr}})}
	var inside atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := stores[i%2]
			if err := s.Lock(t.Context(), "x"); err != nil {
				t.Error(err)
				return
			}
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d inside", n)
			}
			time.Sleep(5 * time.Millisecond)
			inside.Add(-1)
			if err := s.Unlock(t.Context(), "x"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestLockRules(t *testing.T) {
	r := sharedtest.NewRedis(t)
	ttl := 3 * time.Second // of which a machine that is busy may lose a second
	mine, other := open(t, Config{Addrs: []string{r.Addr}, LockTTL: ttl}), open(t, Config{Addrs: []string{r.Addr}, LockTTL: ttl})
	ctx, cancel := context.WithCancel(t.Context())
	if err := mine.Lock(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	cancel() // the lock outlives it
	short, stop := context.WithTimeout(t.Context(), 2*ttl)
	defer stop()
	if err := other.Lock(short, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("locked although it is kept: %v", err)
	}
	if err := other.Unlock(t.Context(), "x"); err == nil {
		t.Error("another's lock was freed")
	}
	if err := mine.Unlock(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	if err := other.Lock(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	// A holder that dies leaves the lock to others within its time to live.
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	begin := time.Now()
	if err := mine.Lock(t.Context(), "x"); err != nil || time.Since(begin) > ttl+time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	// One that was lost is not freed: it is another's now.
	r.Do("SET", mine.lock("x"), "stranger")
	if err := mine.Unlock(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	if got := strings.TrimSpace(r.Do("GET", mine.lock("x"))); got != "stranger" {
		t.Errorf("the stranger's lock is %q", got)
	}
}

// Nothing of a value is readable in Redis, and no value is accepted that was
// tampered with, moved or stored by another secret; that is no absence, or it
// would be obtained anew.
func TestValuesAreSealed(t *testing.T) {
	r := sharedtest.NewRedis(t)
	s := open(t, Config{Addrs: []string{r.Addr}})
	ctx := t.Context()
	for _, key := range []string{"a/k.key", "b/k.key"} {
		if err := s.Store(ctx, key, []byte("PRIVATE KEY of "+key)); err != nil {
			t.Fatal(err)
		}
	}
	if dump := r.Do("--no-raw", "HGETALL", s.value("a/k.key")); strings.Contains(dump, "PRIVATE") {
		t.Errorf("readable: %s", dump)
	}
	bad := func(what string, s *Store, key string) {
		t.Helper()
		if _, err := s.Load(ctx, key); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "tls.storage_key") {
			t.Errorf("%s: %v", what, err)
		}
	}
	bad("another secret", open(t, Config{Addrs: []string{r.Addr}, Secret: []byte(strings.Repeat("x", 32))}), "a/k.key")
	sealed, err := s.client.HGet(ctx, s.value("a/k.key"), "v").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, value []byte) {
		t.Helper()
		if err := s.client.HSet(ctx, s.value(key), "v", value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	put("b/k.key", sealed)
	bad("moved", s, "b/k.key")
	for i := range sealed {
		flipped := slices.Clone(sealed)
		flipped[i] ^= 1
		put("a/k.key", flipped)
		bad(fmt.Sprint("bit flipped in byte ", i), s, "a/k.key")
	}
	put("a/k.key", []byte("PRIVATE KEY in the clear"))
	bad("in the clear", s, "a/k.key")
}

// A Redis that is away, or refuses, is an error, and never an absence.
func TestTroubleIsNoAbsence(t *testing.T) {
	r := sharedtest.NewRedis(t)
	s := open(t, Config{Addrs: []string{r.Addr}, Timeout: 500 * time.Millisecond})
	ctx := t.Context()
	if err := s.Store(ctx, "a/b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	r.Do("CONFIG", "SET", "maxmemory", "1")
	if err := s.Store(ctx, "a/c", []byte("x")); err == nil {
		t.Error("stored without memory")
	}
	r.Do("CONFIG", "SET", "maxmemory", "0")
	r.Kill()
	_, load := s.Load(ctx, "a/b")
	_, stat := s.Stat(ctx, "a/b")
	_, list := s.List(ctx, "a", false)
	for op, err := range map[string]error{"load": load, "stat": stat, "list": list, "store": s.Store(ctx, "a/b", nil), "delete": s.Delete(ctx, "a/b"), "lock": s.Lock(ctx, "x")} {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", op, err)
		}
	}
	r.Restart()
	if _, err := s.Load(ctx, "a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("back, and empty: %v", err)
	}
}

// What a Redis refuses is told with what to do about it.
func TestRemedies(t *testing.T) {
	r := sharedtest.NewRedis(t)
	ctx := t.Context()
	store := func(c Config) error {
		c.Addrs = []string{r.Addr}
		return open(t, c).Store(ctx, "a/b", []byte("x"))
	}
	told := func(what string, err error, remedy string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), " → ") || !strings.Contains(err.Error(), remedy) || strings.Contains(err.Error(), "pa55w0rd") {
			t.Errorf("%s: %v, want %q", what, err, remedy)
		}
	}
	told("user", store(Config{User: "nobody", Password: "pa55w0rd"}), "the user and the password")
	r.Do("ACL", "SETUSER", "weak", "on", ">pa55w0rd", "~*", "+get")
	told("rights", store(Config{User: "weak", Password: "pa55w0rd"}), "let its user (ACL)")
	r.Do("CONFIG", "SET", "maxmemory", "1")
	told("memory", store(Config{}), "raise its maxmemory")
	told("lock without memory", open(t, Config{Addrs: []string{r.Addr}}).Lock(ctx, "x"), "raise its maxmemory")
	r.Do("CONFIG", "SET", "maxmemory", "0")
	r.Do("REPLICAOF", "127.0.0.1", "1")
	told("replica", store(Config{}), "name its master")
	r.Do("REPLICAOF", "NO", "ONE")
	if err := store(Config{}); err != nil {
		t.Error(err)
	}
	told("secret", func() error {
		_, err := open(t, Config{Addrs: []string{r.Addr}, Secret: []byte(strings.Repeat("y", 32))}).Load(ctx, "a/b")
		return err
	}(), "tls.storage_key that it was stored with")
}

func TestParseURL(t *testing.T) {
	for text, want := range map[string]Config{
		"redis://localhost":                  {Addrs: []string{"localhost:6379"}},
		"redis://u:p%40ss@h:1/2?namespace=n": {Addrs: []string{"h:1"}, User: "u", Password: "p@ss", DB: 2, Namespace: "n"},
		"rediss://:pw@[::1]:7":               {Addrs: []string{"[::1]:7"}, Password: "pw", TLS: true},
		"redis://a:1,b,c:3/1?master=m":       {Addrs: []string{"a:1", "b:26379", "c:3"}, Master: "m", DB: 1},
		"redis://a:1,b:2?cluster=true":       {Addrs: []string{"a:1", "b:2"}, Cluster: true},
		"redis://":                           {},
		"redis://pa55w0rd@h/x":               {},
		"redis://:pa55w0rd@h?mode=cluster":   {},
		"redis://:pa55w0rd@h:p":              {},
		"http://:pa55w0rd@h":                 {},
		"redis://h?cluster=pa55w0rd":         {},
	} {
		got, err := ParseURL(text)
		if !reflect.DeepEqual(got, want) || (err == nil) != (want.Addrs != nil) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "pa55w0rd") {
			t.Errorf("%s: the error shows the password: %v", text, err)
		}
	}
}

func TestConfigMistakes(t *testing.T) {
	_, err := New(Config{Addrs: []string{"a:1", "b:1"}, DB: 1, Namespace: "{x}", Secret: []byte("short")})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
	if text := fmt.Sprintf("%v %+v", open(t, Config{Addrs: []string{"a:1"}, Password: "pa55w0rd"}), Config{}.Addrs); strings.Contains(text, "pa55w0rd") {
		t.Error(text)
	}
}
