package main

import (
	"math/bits"
	"time"
)

// A histogram counts durations in buckets that are at most 1/16 wide of their
// value, from one nanosecond up. The zero value is empty. It is not safe for
// concurrent use: each worker has its own, merged at the end.
type histogram struct {
	counts [64 << subBits]int64
	n      int64
}

const subBits = 4

func bucketOf(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - 1 - subBits
	return (shift+1)<<subBits + int(v>>shift)&(1<<subBits-1)
}

// upperBound is the largest value that falls into bucket b.
func upperBound(b int) uint64 {
	if b < 1<<subBits {
		return uint64(b)
	}
	shift := b>>subBits - 1
	return (uint64(1<<subBits|b&(1<<subBits-1))+1)<<shift - 1
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(uint64(max(d, 0)))]++
	h.n++
}

func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
}

// quantile returns an upper bound of the q-quantile, 0 < q ≤ 1; 0 if empty.
func (h *histogram) quantile(q float64) time.Duration {
	want := int64(q*float64(h.n) + 0.999999)
	for b, c := range h.counts {
		if want -= c; want <= 0 && h.n > 0 {
			return time.Duration(upperBound(b))
		}
	}
	return 0
}
