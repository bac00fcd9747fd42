package cache

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRoom(t *testing.T) {
	for _, c := range []struct{ size, want int64 }{
		{-1, 4096}, {0, 4096}, {1, 8192}, {4096, 8192}, {4097, 12288}, {1 << 30, 1<<30 + 4096},
	} {
		if got := room(c.size); got.bytes != c.want || got.files != 2 {
			t.Errorf("room(%d) = %+v, want %d bytes", c.size, got, c.want)
		}
	}
}

func TestHourOf(t *testing.T) {
	now := time.Unix(10*3600+5, 0)
	for _, c := range []struct {
		used time.Time
		want hour
	}{
		{time.Unix(0, 0), 0},
		{time.Unix(3599, 0), 0},
		{time.Unix(3600, 0), 1},
		{now, 10},
		{now.Add(10 * 365 * 24 * time.Hour), 10},
	} {
		if got := hourOf(c.used, now); got != c.want {
			t.Errorf("hourOf(%v) = %d, want %d", c.used, got, c.want)
		}
	}
}

func TestPlanOfNothingTakesNothing(t *testing.T) {
	a := ages{}
	a.add(1, room(100))
	for _, want := range []amount{{}, {-1, 0}, {0, -1}} {
		p := a.plan(want)
		for h := hour(-1); h < 3; h++ {
			if p.takes(h, room(100)) {
				t.Errorf("plan(%+v) takes hour %d", want, h)
			}
		}
	}
}

// TestPlan checks, for objects in any order: enough goes, or all; nothing goes
// while something older stays, to the hour; and no more than one object too
// many.
func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type object struct {
			h hour
			n amount
		}
		var objects []object
		a := ages{}
		for range rapid.IntRange(0, 30).Draw(t, "objects") {
			o := object{hour(rapid.IntRange(0, 8).Draw(t, "hour")), room(rapid.Int64Range(0, 50_000).Draw(t, "size"))}
			objects = append(objects, o)
			a.add(o.h, o.n)
		}
		want := amount{rapid.Int64Range(0, 500_000).Draw(t, "bytes"), rapid.Int64Range(0, 40).Draw(t, "files")}
		p := a.plan(want)
		var freed amount
		gone, kept := hour(-1), hour(99)
		var last object
		for _, o := range objects {
			if p.takes(o.h, o.n) {
				freed = freed.plus(o.n)
				gone = max(gone, o.h)
				if o.h == p.before {
					last = o
				}
			} else {
				kept = min(kept, o.h)
			}
		}
		if left := want.minus(freed); !left.none() && kept != 99 {
			t.Fatalf("%+v too little, and something is kept", left)
		}
		if gone > kept {
			t.Fatalf("hour %d is gone, hour %d kept", gone, kept)
		}
		if last.n.bytes > 0 && want.minus(freed.minus(last.n)).none() && kept != 99 && gone == last.h {
			// Without the last object of the hour at the edge it was enough.
			t.Fatalf("one too many: wanted %+v, got %+v", want, freed)
		}
	})
}

func TestNothingIsEvictedInVain(t *testing.T) {
	have := amount{1000, 10}
	for _, c := range []struct {
		name string
		k    lack
		want amount
	}{
		{"nothing", lack{}, amount{}},
		{"over", lack{over: 5}, amount{bytes: 5}},
		{"far over", lack{over: 5000}, amount{bytes: 5000}},
		{"short", lack{short: amount{7, 3}}, amount{7, 3}},
		{"both", lack{over: 9, short: amount{7, 3}}, amount{9, 3}},
		{"short of more bytes than there are", lack{over: 5, short: amount{1001, 0}}, amount{bytes: 5}},
		{"short of more files than there are", lack{short: amount{5, 11}}, amount{}},
		{"less than nothing", lack{over: -5, short: amount{-7, -3}}, amount{}},
	} {
		if got := c.k.want(have); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
