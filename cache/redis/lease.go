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
	keepLease = goredis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`)
	dropLease = goredis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)
)

// Lease implements cache.Leaser. The lease is kept by Run.
func (s *Store) Lease(ctx context.Context, name string) (release func(), holder string, err error) {
	if err := cache.CheckName(name); err != nil {
		return nil, "", err
	}
	key, token := s.key('l', name), rand.Text()
	err = s.ask(ctx, func(ctx context.Context) error {
		holder, err = takeLease.Run(ctx, s.client, []string{key}, token, s.c.LeaseTTL.Milliseconds()).Text()
		return err
	})
	if err != nil {
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
		s.mu.Unlock()
		for key, token := range held {
			if s.breaker.Open() || ctx.Err() != nil {
				break
			}
			s.prolong(ctx, key, token)
		}
	}
}

func (s *Store) prolong(ctx context.Context, key, token string) {
	kept := 1
	err := s.ask(ctx, func(ctx context.Context) (err error) {
		kept, err = keepLease.Run(ctx, s.client, []string{key}, token, s.c.LeaseTTL.Milliseconds()).Int()
		return err
	})
	if err != nil || kept == 1 {
		return
	}
	s.log.Debug("a lease was lost; what it was for may be done twice", "key", key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[key] == token {
		delete(s.held, key)
	}
}
