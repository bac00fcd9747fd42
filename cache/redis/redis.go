// Package redis keeps small objects in Redis for all replicas of a fleet, and
// with them what the replicas must tell each other: who is fetching what, and
// what has changed.
//
// Redis is an accelerator. Everything in it is a copy that may go at any time,
// and nothing in it is believed: a value carries its own name and a digest of
// the whole, so that garbage, a torn value or the value of another key is found
// when it is read (as in CVE-2025-29923), counted, deleted and absent. Keys are
// hashes: they end up in slow logs and dashboards, where the names of private
// modules have no business.
//
// A Redis that does not answer costs those who are asking one time-out. Then it
// is left alone until it answers a probe.
package redis

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
	"golang.org/x/sync/errgroup"

	"github.com/modgate/modgate/internal/breaker"
	"github.com/modgate/modgate/internal/redisinfo"
)

// Modes of Config.
const (
	Standalone = "standalone"
	Sentinel   = "sentinel"
	Cluster    = "cluster"
)

// Config of a Store.
type Config struct {
	// Mode is Standalone, Sentinel or Cluster. Default: Standalone.
	Mode string
	// Addrs are host:port of the server, of the Sentinels, or of some nodes of
	// the Cluster. Required.
	Addrs []string
	// Master is what the Sentinels call the master. Required for Sentinel.
	Master string
	// User and Password of the server; an empty User is Redis' "default".
	User, Password string
	// SentinelUser and SentinelPassword are those of the Sentinels.
	SentinelUser, SentinelPassword string
	// DB is the number of the database. Default 0, which alone a Cluster has.
	DB int
	// TLS makes connections use TLS, with Trust as authorities; nil means those
	// of the system.
	TLS   bool
	Trust *x509.CertPool
	// Namespace begins each key and the name of the channel. Default "modgate".
	Namespace string
	// Secret authenticates values: who does not know it cannot forge one. All
	// replicas need the same. Default: values prove that they are whole and
	// where they belong, and not who wrote them.
	Secret []byte
	// MaxObject bounds one object, in bytes. Put of a larger one is ErrFull.
	// Default 128 KiB.
	MaxObject int64
	// TTL is how long an object is kept after Put or Touch. Default 24 hours.
	TTL time.Duration
	// LeaseTTL is how long a lease outlives a holder that has died. Default
	// 5 seconds.
	LeaseTTL time.Duration
	// Timeout bounds one operation, a new connection included. Default 250 ms.
	Timeout time.Duration
	// Advice returns what a person can do about an error, for the log. May be
	// nil.
	Advice func(error) string
	// Logger receives troubles and values that were not right. nil discards.
	Logger *slog.Logger
}

// Store is a cache.Store with the abilities Toucher, Quarantiner and Leaser. It
// connects when Run begins, or when it is first used.
type Store struct {
	c       Config
	log     *slog.Logger
	client  goredis.UniversalClient
	breaker *breaker.Breaker
	m       metrics
	id      string // of this process, in messages
	// toldFull is when it was last said that the server is full, in Unix time.
	toldFull atomic.Int64

	mu sync.Mutex
	// held are the leases of this process, by key, with their tokens. Guarded
	// by mu.
	held map[string]string
	// doubts are the leases that we may have, because Redis has not said that
	// we do not. Guarded by mu.
	doubts map[string]doubt
}

// New checks c. It does not connect; the caller runs Run beside the Store and
// closes it.
func New(c Config) (*Store, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	s := &Store{c: c, log: c.Logger, id: rand.Text(), held: make(map[string]string), doubts: make(map[string]doubt)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.m.init()
	s.client = c.client()
	s.breaker = breaker.New(breaker.Config{Name: "redis", Probe: s.probe, Up: s.m.up, Advice: c.Advice, Logger: s.log})
	return s, nil
}

// Check reports all mistakes of c, and sets what is not set to its default.
func (c *Config) Check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf("redis: "+format, args...)) }
	if c.Mode == "" {
		c.Mode = Standalone
	}
	switch c.Mode {
	case Standalone:
		if len(c.Addrs) > 1 {
			wrong("%d addresses, and standalone has one; set the mode to cluster or sentinel", len(c.Addrs))
		}
	case Sentinel:
		if c.Master == "" {
			wrong("the name of the master is missing, which the Sentinels know it by")
		}
	case Cluster:
		if c.DB != 0 {
			wrong("database %d: a Cluster has only database 0", c.DB)
		}
	default:
		wrong("mode %q: use %s, %s or %s", c.Mode, Standalone, Sentinel, Cluster)
	}
	if len(c.Addrs) == 0 {
		wrong("no address is set")
	}
	for _, a := range c.Addrs {
		if _, _, err := net.SplitHostPort(a); err != nil {
			wrong("address %q: write host:port", a)
		}
	}
	if c.Master != "" && c.Mode != Sentinel {
		wrong("the name of a master has a meaning in mode %s alone", Sentinel)
	}
	if c.DB < 0 || c.MaxObject < 0 || c.TTL < 0 || c.LeaseTTL < 0 || c.Timeout < 0 {
		wrong("a number or a time is negative")
	}
	if c.Namespace == "" {
		c.Namespace = "modgate"
	}
	if strings.ContainsAny(c.Namespace, "{} \r\n") {
		wrong("namespace %q: use letters, digits, colons and dashes", c.Namespace)
	}
	c.MaxObject = orDefault(c.MaxObject, 128<<10)
	c.TTL = orDefault(c.TTL, 24*time.Hour)
	c.LeaseTTL = orDefault(c.LeaseTTL, 5*time.Second)
	c.Timeout = orDefault(c.Timeout, 250*time.Millisecond)
	return errors.Join(errs...)
}

func orDefault[T int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

func (c *Config) client() goredis.UniversalClient {
	// It writes to standard error whenever a connection fails.
	goredis.SetLogger(&logging.VoidLogger{})
	o := &goredis.UniversalOptions{
		Addrs: slices.Clone(c.Addrs), MasterName: c.Master, IsClusterMode: c.Mode == Cluster, DB: c.DB,
		Username: c.User, Password: c.Password, SentinelUsername: c.SentinelUser, SentinelPassword: c.SentinelPassword,
		DialTimeout: c.Timeout, ReadTimeout: c.Timeout, WriteTimeout: c.Timeout, PoolTimeout: c.Timeout,
		ContextTimeoutEnabled: true,
		// The breaker decides when to try again.
		MaxRetries: -1, DialerRetries: 1, PoolSize: 64,
		DisableIdentity:          true, // one round trip less, and the one of CVE-2025-29923
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if c.TLS {
		o.TLSConfig = &tls.Config{RootCAs: c.Trust, MinVersion: tls.VersionTLS12}
	}
	return goredis.NewUniversalClient(o)
}

// Run looks whether Redis is well, keeps leases and looks after a Redis in
// trouble, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.breaker.Run(ctx) })
	g.Go(func() error { return s.firstLook(ctx) })
	g.Go(func() error { return s.keepLeases(ctx) })
	return g.Wait()
}

// firstLook says at the start that Redis is in trouble, and not only when the
// first request comes. An answer may be late without any trouble while
// everything begins at once, and nobody waits for this one.
func (s *Store) firstLook(ctx context.Context) error {
	err := s.probe(ctx)
	for n := 1; n < firstLooks && late(err) && ctx.Err() == nil; n++ {
		err = s.probe(ctx)
	}
	if err != nil && ctx.Err() == nil {
		s.breaker.Trip(err)
	}
	return nil
}

// firstLooks is how many late answers in a row are trouble at the start.
const firstLooks = 8

func late(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// Trouble returns why Redis is left alone at the moment; nil if it is not.
func (s *Store) Trouble() *breaker.Trouble { return s.breaker.Trouble() }

// Again implements cache.Recoverer.
func (s *Store) Again(ctx context.Context, err error, began time.Time, most time.Duration) bool {
	return s.breaker.Again(ctx, err, began, most)
}

// Info asks the server what it says of itself.
func (s *Store) Info(ctx context.Context) (redisinfo.Info, error) {
	return redisinfo.Ask(ctx, s.client)
}

// Close ends all connections.
func (s *Store) Close() error { return s.client.Close() }

// Collectors are the metrics of the store.
func (s *Store) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.m.up, s.m.corrupt, s.m.errors}
}

// probeDelete deletes what cannot exist: a server that is loading its data, is a
// replica, or may not write for another reason, answers no command that could
// change something; one that is full does.
var probeDelete = goredis.NewScript(`return redis.call('DEL', KEYS[1])`)

// probe runs a script that could change a value, as the work needs it. A node of
// a Cluster that is taken for a server alone refuses two keys, and otherwise would
// have a part of the work.
func (s *Store) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	keys := []string{s.key('o', ".probe")}
	if s.c.Mode != Cluster {
		keys = append(keys, s.key('o', ".probe/2"))
	}
	return probeDelete.Run(ctx, s.client, keys).Err()
}

// ask runs one operation: within its time, and not while Redis is in trouble.
func (s *Store) ask(ctx context.Context, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.breaker.Open() {
		return fmt.Errorf("redis: %w", breaker.ErrOpen)
	}
	limited, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	err := f(limited)
	if err == nil || errors.Is(err, goredis.Nil) {
		return err
	}
	if e := ctx.Err(); e != nil {
		return e // the caller's, and no fault of Redis
	}
	s.m.errors.Inc()
	switch kind := kindOf(err); {
	case trouble(kind), kind == "MOVED" && s.c.Mode != Cluster:
		s.breaker.Trip(err)
	case kind == "OOM":
		s.tellFull(err)
	}
	return fmt.Errorf("redis: %w", err)
}

// tellFull says once an hour that what is new does not get in. What is there can
// be read, so this is no trouble.
func (s *Store) tellFull(err error) {
	last, now := s.toldFull.Load(), time.Now().Unix()
	if now-last < 3600 || !s.toldFull.CompareAndSwap(last, now) {
		return
	}
	s.log.Warn("redis is full and evicts nothing: until it has room replicas may fetch the same file twice",
		"error", err, "advice", "redis-cli config set maxmemory-policy allkeys-lru, and the same in redis.conf")
}

// kindOf returns the first word of the reply that err is, "" if it is none.
func kindOf(err error) string {
	var reply goredis.Error
	if !errors.As(err, &reply) {
		return ""
	}
	kind, _, _ := strings.Cut(reply.Error(), " ")
	return kind
}

// trouble reports whether an error of this kind speaks of the server, and not of
// the one operation. What is no reply at all is trouble, a time-out first of all.
func trouble(kind string) bool {
	switch kind {
	case "", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "NOREPLICAS", "NOAUTH", "WRONGPASS", "NOPERM", "MISCONF":
		return true
	}
	return false
}
