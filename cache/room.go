package cache

import (
	"context"
	"fmt"
	"time"
)

// reserve counts n as pending, after making room for it if need be.
func (l *Limit) reserve(ctx context.Context, n amount) error {
	if l.admit(n) {
		return nil
	}
	if l.c.MaxBytes > 0 && n.bytes > l.c.MaxBytes {
		return fmt.Errorf("%w: %d bytes are more than the whole cache may take", ErrFull, n.bytes)
	}
	if err := l.makeRoom(ctx, n); err != nil {
		return err
	}
	if !l.admit(n) {
		return fmt.Errorf("%w: others took the room", ErrFull)
	}
	return nil
}

// admit counts n as pending if there is room for it.
func (l *Limit) admit(n amount) bool {
	free := l.space()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.lack(n, 100, free).none() {
		return false
	}
	l.pending = l.pending.plus(n)
	if l.walked && !l.lack(amount{}, highWater, free).none() {
		l.signal()
	}
	return true
}

// insist counts n as pending whether or not there is room for it.
func (l *Limit) insist(n amount) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = l.pending.plus(n)
	l.signal()
}

// signal wakes Run.
func (l *Limit) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// unlimited is the Space of a file system that nobody can see.
func unlimited() Space { return Space{Free: 1 << 62, Total: 1 << 62} }

func (l *Limit) space() Space {
	if l.c.Space == nil {
		return unlimited()
	}
	sp, err := l.c.Space()
	if err != nil {
		l.log.Warn("free space is unknown", "err", err)
		return unlimited()
	}
	return sp
}

// lack is what is too little, for either reason.
type lack struct {
	// over is what the cache takes beyond its bound.
	over int64
	// short is what the file system has less than its reserve.
	short amount
}

func (k lack) none() bool { return k.over <= 0 && k.short.none() }

// want is what to evict, where all that may be evicted is room. Nothing is
// evicted for a file system that would be short all the same: others fill it,
// and an empty cache helps nobody.
func (k lack) want(room amount) amount {
	if k.short.bytes > room.bytes || k.short.files > room.files {
		return amount{bytes: max(k.over, 0)}
	}
	return amount{max(k.over, k.short.bytes, 0), max(k.short.files, 0)}
}

// lack returns what is missing for n more to leave the cache within percent of
// its bound, and the file system with its reserve. Below 100 percent the
// reserve is a tenth larger, so that eviction gets ahead. mu is held.
func (l *Limit) lack(n amount, percent int64, free Space) lack {
	var k lack
	if l.walked && l.c.MaxBytes > 0 {
		k.over = l.used().bytes + n.bytes - l.c.MaxBytes/100*percent
	}
	reserve := or(l.c.MinFree, min(1<<30, free.Total/20))
	reserveFiles := or(l.c.MinFreeFiles, min(10_000, free.TotalFiles/50))
	if percent < 100 {
		reserve += reserve / 10
		reserveFiles += reserveFiles / 10
	}
	k.short.bytes = max(l.squeeze, reserve+n.bytes-free.Free)
	if free.TotalFiles > 0 {
		k.short.files = reserveFiles + n.files - free.FreeFiles
	}
	return k
}

// or returns v, or its default if v is 0, or none if it is negative.
func or(v, byDefault int64) int64 {
	if v == 0 {
		return byDefault
	}
	return max(v, 0)
}

// lacks is lack for now.
func (l *Limit) lacks(n amount, percent int64) lack {
	free := l.space()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lack(n, percent, free)
}

// lock waits for the turn to walk.
func (l *Limit) lock(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Limit) unlock() { <-l.turn }

// futility is how long it is believed that there is nothing to evict.
const futility = 30 * time.Second

// futile is when an eviction last gained too little, and what could be evicted
// then.
type futile struct {
	at   time.Time
	left amount
}

// isFutile reports whether there is nothing to evict for k. Downloads that have
// become objects since the last attempt can be evicted. It is called with the
// turn held.
func (l *Limit) isFutile(k lack) bool {
	if l.futile.at.IsZero() || time.Since(l.futile.at) >= futility {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	came := l.ages.total().minus(l.futile.left)
	return !amount{max(k.over, k.short.bytes), k.short.files}.minus(came).none()
}

// gaveUp notes that an eviction gained too little. It is called with the turn
// held.
func (l *Limit) gaveUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.futile = futile{time.Now(), l.ages.total()}
}

// makeRoom evicts until n fits, down to the low watermark.
func (l *Limit) makeRoom(ctx context.Context, n amount) error {
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	if l.lacks(n, 100).none() {
		return nil
	}
	if !l.isFutile(l.lacks(n, 100)) {
		if _, err := l.evict(ctx, func() lack { return l.lacks(n, lowWater) }); err != nil {
			return err
		}
	}
	if k := l.lacks(n, 100); !k.none() {
		l.gaveUp()
		return fmt.Errorf("%w: too little may be evicted (%d bytes over the limit; the file system is short of %d bytes, %d files)",
			ErrFull, max(k.over, 0), max(k.short.bytes, 0), max(k.short.files, 0))
	}
	l.futile = futile{}
	return nil
}
