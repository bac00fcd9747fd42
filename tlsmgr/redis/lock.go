package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

var (
	// unlock removes a lock, if it is still ours.
	unlock = goredis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end`)
	// keep prolongs a lock, if it is still ours.
	keep = goredis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) else return 0 end`)
)

// held is a lock of this process and the goroutine that keeps it.
type held struct {
	token  string
	cancel context.CancelFunc
	done   chan struct{}
}

// end stops the keeping.
func (h *held) end() {
	h.cancel()
	<-h.done
}

func (s *Store) lock(name string) string { return s.prefix + ":l:" + name }

// Lock waits until the lock is ours, or until ctx ends. It is kept until
// Unlock, whatever becomes of ctx, or until the process ends; then it ends
// within LockTTL.
func (s *Store) Lock(ctx context.Context, name string) error {
	for {
		ok, err := s.tryLock(ctx, name)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250*time.Millisecond + mathrand.N(500*time.Millisecond)):
		}
	}
}

func (s *Store) tryLock(ctx context.Context, name string) (bool, error) {
	token := rand.Text()
	ok, err := s.client.SetNX(ctx, s.lock(name), token, s.c.LockTTL).Result()
	if err != nil || !ok {
		return false, wrap("lock", name, err)
	}
	keeping, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h := &held{token, cancel, make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		cancel()
		return false, wrap("lock", name, errors.New("the store is closed"))
	}
	s.held[name] = h
	go s.keepLock(keeping, name, h)
	return true, nil
}

// keepLock prolongs a lock every third of its time to live. A Redis that does
// not answer may come back before that ends.
func (s *Store) keepLock(ctx context.Context, name string, h *held) {
	defer close(h.done)
	ticker := time.NewTicker(s.c.LockTTL / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		once, cancel := context.WithTimeout(ctx, s.c.LockTTL/3)
		n, err := keep.Run(once, s.client, []string{s.lock(name)}, h.token, s.c.LockTTL.Milliseconds()).Int()
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.c.Logger.Warn("a lock in Redis could not be prolonged", "lock", name, "error", err)
		case n == 0:
			s.c.Logger.Error("a lock in Redis was lost: another replica may do the same work", "lock", name)
			return
		}
	}
}

// Unlock frees a lock of this process. One that was lost meanwhile, and may be
// another's now, is left alone.
func (s *Store) Unlock(ctx context.Context, name string) error {
	s.mu.Lock()
	h := s.held[name]
	delete(s.held, name)
	s.mu.Unlock()
	if h == nil {
		return fmt.Errorf("redis: unlock %s: not locked by this process", name)
	}
	h.end()
	return wrap("unlock", name, unlock.Run(ctx, s.client, []string{s.lock(name)}, h.token).Err())
}
