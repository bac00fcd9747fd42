package redis

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/modgate/modgate/cache"
)

var (
	// takeLease returns who holds the lease afterwards.
	takeLease = goredis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
return ARGV[1]`)
	// keepLease also takes a lease that has run out, or that a Redis has
	// forgotten, and that nobody else has taken since.
	keepLease = goredis.NewScript(`
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`)
	dropLease = goredis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)
)

// doubt is a lease that was asked for, with an answer that never came.
type doubt struct {
	token string
	since time.Time
}

// Lease implements cache.Leaser. The lease is kept by Run.
func (s *Store) Lease(ctx context.Context, name string) (release func(), holder string, err error) {
	if err := cache.CheckName(name); err != nil {
		return nil, "", err
	}
	key := s.key('l', name)
	token := s.token(key)
	err = s.ask(ctx, func(ctx context.Context) error {
		holder, err = takeLease.Run(ctx, s.client, []string{key}, token, s.c.LeaseTTL.Milliseconds()).Text()
		return err
	})
	if err != nil {
		s.mu.Lock()
		s.doubts[key] = doubt{token, time.Now()}
		s.mu.Unlock()
		return nil, "", fmt.Errorf("lease of %s: %w", name, err)
	}
	if holder != token {
		return nil, holder, nil
	}
	s.mu.Lock()
	s.held[key] = token
	s.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	return func() { s.drop(ctx, key, token) }, holder, nil
}

// token returns a new token, or the one of the last time if that may have got the
// lease: else we would wait for ourselves.
func (s *Store) token(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.doubts[key]; ok {
		delete(s.doubts, key)
		return d.token
	}
	return rand.Text()
}

// drop gives a lease back. If that fails it runs out.
func (s *Store) drop(ctx context.Context, key, token string) {
	s.mu.Lock()
	if s.held[key] == token {
		delete(s.held, key)
	}
	s.mu.Unlock()
	err := s.ask(ctx, func(ctx context.Context) error {
		return dropLease.Run(ctx, s.client, []string{key}, token).Err()
	})
	if err != nil {
		s.log.Debug("a lease could not be given back and runs out", "error", err)
	}
}

// keepLeases prolongs the leases of this process, until ctx ends.
func (s *Store) keepLeases(ctx context.Context) error {
	tick := time.NewTicker(s.c.LeaseTTL / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s.mu.Lock()
		held := maps.Clone(s.held)
		maps.DeleteFunc(s.doubts, func(_ string, d doubt) bool { return time.Since(d.since) > s.c.LeaseTTL })
		s.mu.Unlock()
		if len(held) > 0 {
			s.prolong(ctx, held)
		}
	}
}

// prolong keeps leases, by key with their tokens, all in one round trip: they
// must not run out because there are many of them and Redis is slow.
func (s *Store) prolong(ctx context.Context, held map[string]string) {
	kept := make(map[string]*goredis.Cmd, len(held))
	err := s.ask(ctx, func(ctx context.Context) error {
		_, err := s.client.Pipelined(ctx, func(p goredis.Pipeliner) error {
			for key, token := range held {
				kept[key] = keepLease.Eval(ctx, p, []string{key}, token, s.c.LeaseTTL.Milliseconds())
			}
			return nil
		})
		return err
	})
	if err != nil {
		return // the next time
	}
	for key, token := range held {
		n, err := kept[key].Int()
		s.mu.Lock()
		ours := s.held[key] == token
		if ours && err == nil && n == 0 {
			s.log.Debug("a lease was lost; what it was for may be done twice", "key", key)
			delete(s.held, key)
		}
		s.mu.Unlock()
		if !ours {
			s.drop(ctx, key, token) // it was given back meanwhile, and perhaps taken again
		}
	}
}
