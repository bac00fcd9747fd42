package cache

import (
	"maps"
	"math"
	"slices"
	"time"
)

// What to evict, as arithmetic: no store, no lock, no clock.
//
// A cache of millions of objects has no list of them in memory. Their times of
// use, which are exact to the hour, are counted instead: so many bytes were
// last used in that hour. From these sums follows how far back the objects must
// go that make up the bytes wanted, and one walk over the store removes them.

// amount of room.
type amount struct{ bytes, files int64 }

func (a amount) plus(b amount) amount  { return amount{a.bytes + b.bytes, a.files + b.files} }
func (a amount) minus(b amount) amount { return amount{a.bytes - b.bytes, a.files - b.files} }

// none reports whether nothing is left of a.
func (a amount) none() bool { return a.bytes <= 0 && a.files <= 0 }

// block is what file systems give room by, usually.
const block = 4096

// room is what an object of size bytes takes: its own blocks, and one for its
// attributes.
func room(size int64) amount {
	return amount{bytes: (max(size, 0)+block-1)/block*block + block, files: 2}
}

// Taken is what an object of size bytes takes on disk as LimitConfig.MaxBytes
// counts it, in bytes.
func Taken(size int64) int64 { return room(size).bytes }

// hour of the Unix era.
type hour int64

// hourOf returns the hour of used. A time to come, which a clock that was set
// back leaves behind, counts as now.
func hourOf(used, now time.Time) hour {
	return hour(min(used.Unix(), now.Unix()) / 3600)
}

// ages says how much room objects take that were last used in an hour.
type ages map[hour]amount

func (a ages) add(h hour, n amount) { a[h] = a[h].plus(n) }

func (a ages) total() amount {
	var sum amount
	for _, n := range a {
		sum = sum.plus(n)
	}
	return sum
}

// plan returns which objects to evict to gain want.
func (a ages) plan(want amount) plan {
	if want.none() {
		return plan{before: never}
	}
	for _, h := range slices.Sorted(maps.Keys(a)) {
		left := want.minus(a[h])
		if left.none() {
			return plan{before: h, budget: want}
		}
		want = left
	}
	return plan{before: math.MaxInt64}
}

// never is before all hours.
const never = math.MinInt64

// plan takes every object last used before an hour, and of those used in that
// hour so many as are still needed.
type plan struct {
	before hour
	budget amount
}

// takes reports whether an object last used in h and taking n is to go. It is
// asked once for each object.
func (p *plan) takes(h hour, n amount) bool {
	if h != p.before {
		return h < p.before
	}
	if p.budget.none() {
		return false
	}
	p.budget = p.budget.minus(n)
	return true
}
