package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/cachetest"
	"github.com/modgate/modgate/cache/mem"
)

// far is a shared store that counts, and that can be in trouble. It knows the
// classes of its objects, as shared stores do.
type far struct {
	*mem.Store
	down       atomic.Bool
	gets, puts atomic.Int64
	mu         sync.Mutex
	classes    map[string]cache.Class
	watchers   map[int]func(string, bool)
	leases     map[string]string
	holding    int
	slow       atomic.Int64 // duration of a Put
	damaged    atomic.Bool  // Get returns bytes that end early
	mark       atomic.Int64
}

func (f *far) Mark(ctx context.Context) (string, error) {
	return fmt.Sprint("mark ", f.mark.Load()), f.trouble(ctx)
}

var errFar = errors.New("far away and down")

func newFar(t testing.TB) *far {
	return &far{Store: openMem(t), classes: map[string]cache.Class{}, watchers: map[int]func(string, bool){}, leases: map[string]string{}}
}

func (f *far) trouble(ctx context.Context) error {
	if f.down.Load() {
		return errFar
	}
	return ctx.Err()
}

func (f *far) Get(ctx context.Context, name string) (*cache.Object, error) {
	f.gets.Add(1)
	if err := f.trouble(ctx); err != nil {
		return nil, err
	}
	o, err := f.Store.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	o.Class = f.classes[name]
	f.mu.Unlock()
	if f.damaged.Load() {
		o.Body, o.Bytes = &broken{bytes.NewReader(o.Bytes[:len(o.Bytes)/2])}, nil
	}
	return o, nil
}

type broken struct{ *bytes.Reader }

func (b *broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = cache.ErrCorrupt
	}
	return n, err
}

func (b *broken) Close() error { return nil }

func (f *far) Put(ctx context.Context, name string, body io.Reader, o cache.PutOptions) error {
	f.puts.Add(1)
	if d := time.Duration(f.slow.Load()); d > 0 {
		time.Sleep(d)
	}
	if err := f.trouble(ctx); err != nil {
		return err
	}
	if old, err := f.Store.Get(ctx, name); err == nil && o.Class == cache.Immutable && old.Attrs.SHA256 != o.Attrs.SHA256 {
		return cache.ErrConflict
	}
	f.mu.Lock()
	f.classes[name] = o.Class
	f.mu.Unlock()
	return f.Store.Put(ctx, name, body, o)
}

func (f *far) Delete(ctx context.Context, name string) error {
	if err := f.trouble(ctx); err != nil {
		return err
	}
	return f.Store.Delete(ctx, name)
}

func (f *far) List(ctx context.Context, prefix string) iter.Seq2[cache.Entry, error] {
	if err := f.trouble(ctx); err != nil {
		return func(yield func(cache.Entry, error) bool) { yield(cache.Entry{}, err) }
	}
	return f.Store.List(ctx, prefix)
}

// fast is a far with the abilities of Redis, for one replica.
type fast struct {
	*far
	id int
}

func (f *fast) Announce(ctx context.Context, name string, gone bool) error {
	if err := f.trouble(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, w := range f.watchers {
		if id != f.id {
			w(name, gone)
		}
	}
	return nil
}

func (f *fast) Watch(ctx context.Context, changed func(string, bool)) error {
	f.mu.Lock()
	f.watchers[f.id] = changed
	f.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (f *fast) Lease(ctx context.Context, name string) (func(), string, error) {
	if err := f.trouble(ctx); err != nil {
		return nil, "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if h := f.leases[name]; h != "" {
		return nil, h, nil
	}
	f.holding++
	h := fmt.Sprint(f.holding)
	f.leases[name] = h
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.leases, name)
	}, h, nil
}

// fleet is what replicas share.
type fleet struct {
	bucket *far
	redis  *far
	n      int
}

func newFleet(t testing.TB) *fleet { return &fleet{bucket: newFar(t), redis: newFar(t)} }

// replica is one Shared that runs.
type replica struct {
	*cache.Shared
	near cache.Store
	end  func()
}

func (f *fleet) replica(t testing.TB, near cache.Store, c cache.SharedConfig) *replica {
	t.Helper()
	f.n++
	c.Bucket, c.Fast = f.bucket, &fast{f.redis, f.n}
	s, err := cache.NewShared(near, c)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return &replica{s, near, end}
}

const (
	aZip  = "example.com/m/@v/v1.0.0.zip"
	aList = "example.com/m/@v/list"
)

func TestSharedContract(t *testing.T) {
	for about, bucketOnly := range map[string]bool{"bucket and redis": false, "bucket alone": true} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			cachetest.Test(t, func(t *testing.T) cache.Store {
				f := newFleet(t)
				near := cache.NewTiered(openMem(t), openDisk(t, t.TempDir()), cache.TieredConfig{})
				if bucketOnly {
					s, err := cache.NewShared(near, cache.SharedConfig{Bucket: f.bucket})
					must(t, err)
					return s
				}
				return f.replica(t, near, cache.SharedConfig{MaxFast: 1000}).Shared
			})
		})
	}
}

// What one replica stores the other has, small or large, whatever the class.
func TestSharedReachesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		a, b := f.replica(t, openMem(t), cache.SharedConfig{MaxFast: 1000}), f.replica(t, openMem(t), cache.SharedConfig{MaxFast: 1000})
		for name, class := range map[string]cache.Class{aZip: cache.Immutable, "x/@v/v1.mod": cache.Immutable, aList: cache.Mutable, "pins/m@v1": cache.Precious} {
			data := random(100)
			if name == aZip {
				data = random(100_000)
			}
			put(t, a, name, data, class)
			synctest.Wait()
			if got, err := read(b, name); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			f.bucket.down.Store(true)
			f.redis.down.Store(true)
			if got, err := read(b, name); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s is not near afterwards: %d bytes, %v", name, len(got), err)
			}
			f.bucket.down.Store(false)
			f.redis.down.Store(false)
		}
		// A pin may still be changed by the one who has it from the other.
		put(t, b, "pins/m@v1", []byte("changed"), cache.Precious)
		if got, err := read(b, "pins/m@v1"); err != nil || string(got) != "changed" {
			t.Errorf("%q, %v", got, err)
		}
		a.end()
		b.end()
	})
}

// A list that one replica replaces, and an object that it purges, are seen by
// the others at once.
func TestSharedChangesAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		a, b := f.replica(t, openMem(t), cache.SharedConfig{}), f.replica(t, openMem(t), cache.SharedConfig{})
		synctest.Wait() // they listen
		for i := range 3 {
			data := []byte(fmt.Sprint("v", i))
			must(t, a.Put(t.Context(), aList, bytes.NewReader(data), cache.PutOptions{Class: cache.Mutable, Attrs: cache.Attrs{Checked: time.Now()}}))
			time.Sleep(time.Millisecond)
			if got, err := read(b, aList); err != nil || !bytes.Equal(got, data) {
				t.Errorf("b reads %q, %v", got, err)
			}
			a, b = b, a
		}
		put(t, a, aZip, []byte("zip"), cache.Immutable)
		synctest.Wait()
		if _, err := read(b, aZip); err != nil {
			t.Error(err)
		}
		must(t, a.Delete(t.Context(), aZip))
		for about, s := range map[string]cache.Store{"a": a, "b": b, "bucket": f.bucket, "redis": f.redis} {
			if _, err := read(s, aZip); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s after the purge: %v", about, err)
			}
		}
		a.end()
		b.end()
	})
}

// Nobody's older list replaces a newer one.
func TestSharedKeepsTheNewerList(t *testing.T) {
	f := newFleet(t)
	a := f.replica(t, openMem(t), cache.SharedConfig{})
	now := time.Now()
	list := func(s cache.Store, data string, checked time.Time) {
		must(t, s.Put(t.Context(), aList, strings.NewReader(data), cache.PutOptions{Class: cache.Mutable, Attrs: cache.Attrs{Checked: checked}}))
	}
	list(a, "newer", now)
	list(f.redis, "older", now.Add(-time.Minute))
	look := func(want string) {
		t.Helper()
		o, err := a.Look(t.Context(), aList)
		must(t, err)
		if b, err := o.ReadAll(100); err != nil || string(b) != want {
			t.Errorf("%q, %v, want %q", b, err, want)
		}
	}
	look("newer")
	list(f.redis, "newest", now.Add(time.Minute))
	if got, _ := read(a, aList); string(got) != "newer" {
		t.Errorf("Get looked far: %q", got)
	}
	look("newest")
}

// A tier in trouble is no reason for an error, and what it missed it gets when
// it is back.
func TestSharedInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		a := f.replica(t, openMem(t), cache.SharedConfig{MaxFast: 10})
		f.bucket.down.Store(true)
		f.redis.down.Store(true)
		data := random(1000)
		put(t, a, aZip, data, cache.Immutable)
		put(t, a, aList, data, cache.Mutable)
		for _, n := range []string{aZip, aList} {
			if got, err := read(a, n); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %d bytes, %v", n, len(got), err)
			}
		}
		if _, err := read(a, "nowhere/@v/list"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what is nowhere: %v", err)
		}
		if n := value(t, a.Collectors(), "modgate_shared_backlog"); n != 1 {
			t.Errorf("backlog %v", n)
		}
		time.Sleep(time.Minute)
		f.bucket.down.Store(false)
		time.Sleep(5 * time.Second)
		if got, err := read(f.bucket, aZip); err != nil || !bytes.Equal(got, data) {
			t.Errorf("the bucket has %d bytes, %v", len(got), err)
		}
		if n := value(t, a.Collectors(), "modgate_shared_backlog"); n != 0 {
			t.Errorf("backlog %v", n)
		}
		a.end()
	})
}

// What waits for the bucket survives the end of the process, a crash, and a
// backlog that is too small.
func TestSharedBacklogSurvives(t *testing.T) {
	for _, c := range []struct {
		about   string
		crash   bool
		backlog int
	}{{"end", false, 0}, {"crash", true, 0}, {"full", false, 4}, {"full and crash", true, 4}} {
		t.Run(c.about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t)
				f.bucket.down.Store(true)
				near := openMem(t)
				a := f.replica(t, near, cache.SharedConfig{Backlog: c.backlog, MaxFast: 1})
				for i := range 50 {
					put(t, a, fmt.Sprintf("m/@v/v1.0.%d.zip", i), random(100+i), cache.Immutable)
				}
				put(t, a, aList, []byte("list"), cache.Mutable)
				time.Sleep(10 * time.Second)
				running, err := read(near, "shared/backlog")
				must(t, err)
				a.end()
				if c.crash {
					put(t, near, "shared/backlog", running, cache.Precious)
				}
				f.bucket.down.Store(false)
				b := f.replica(t, near, cache.SharedConfig{Backlog: c.backlog})
				time.Sleep(time.Minute)
				n := 0
				for e, err := range f.bucket.List(t.Context(), "") {
					must(t, err)
					if n++; !strings.HasSuffix(e.Name, ".zip") {
						t.Errorf("in the bucket: %s", e.Name)
					}
				}
				if n != 50 {
					t.Errorf("%d objects in the bucket", n)
				}
				b.end()
			})
		})
	}
}

// A bucket that was emptied, or is another one, is filled from what is near, also
// by a process that has written all of it before and has ended well.
func TestSharedFillsAnEmptyBucket(t *testing.T) {
	for about, running := range map[string]bool{"while it runs": true, "between two runs": false, "while it cannot be reached": true} {
		t.Run(about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t)
				near := openMem(t)
				a := f.replica(t, near, cache.SharedConfig{})
				for i := range 5 {
					put(t, a, fmt.Sprintf("m/@v/v1.0.%d.zip", i), random(100+i), cache.Immutable)
				}
				time.Sleep(time.Minute)
				if !running {
					a.end()
				}
				for e, err := range f.bucket.List(t.Context(), "") {
					must(t, err)
					must(t, f.bucket.Delete(t.Context(), e.Name))
				}
				f.bucket.mark.Add(1)
				if about == "while it cannot be reached" {
					f.bucket.down.Store(true)
					time.Sleep(10 * time.Minute)
					f.bucket.down.Store(false)
				}
				if !running {
					a = f.replica(t, near, cache.SharedConfig{})
				}
				time.Sleep(2 * time.Minute)
				n := 0
				for range f.bucket.List(t.Context(), "") {
					n++
				}
				if n != 5 {
					t.Errorf("%d objects in the bucket", n)
				}
				// Once it has all, it is not looked for more.
				a.end()
				gets := f.bucket.puts.Load()
				a = f.replica(t, near, cache.SharedConfig{})
				time.Sleep(10 * time.Minute)
				a.end()
				if more := f.bucket.puts.Load() - gets; more > 0 {
					t.Errorf("%d objects were written once more", more)
				}
			})
		})
	}
}

// full is a store without room for the backlog.
type full struct {
	cache.Store
	is atomic.Bool
}

func (f *full) Put(ctx context.Context, name string, body io.Reader, o cache.PutOptions) error {
	if f.is.Load() && name == "shared/backlog" {
		return cache.ErrFull
	}
	return f.Store.Put(ctx, name, body, o)
}

// A process that cannot note what the bucket lacks ends well, and the next finds
// it: also where a file of a clean end is left from before, which is not true any
// more.
func TestSharedBacklogWithoutRoom(t *testing.T) {
	for about, atStart := range map[string]bool{"at the end": false, "from the start": true} {
		t.Run(about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t)
				near := &full{Store: openMem(t)}
				f.replica(t, near, cache.SharedConfig{}).end()
				near.is.Store(atStart)
				a := f.replica(t, near, cache.SharedConfig{})
				synctest.Wait()
				f.bucket.down.Store(true)
				put(t, a, aZip, random(1000), cache.Immutable)
				near.is.Store(true)
				a.end() // fails the test if Run does
				f.bucket.down.Store(false)
				near.is.Store(false)
				b := f.replica(t, near, cache.SharedConfig{})
				time.Sleep(time.Minute)
				if !exists(f.bucket, aZip) {
					t.Error("the bucket lacks the object")
				}
				b.end()
			})
		})
	}
}

// The lease of what is on its way is kept until others can see it.
func TestSharedLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		a, b := f.replica(t, openMem(t), cache.SharedConfig{MaxFast: 10}), f.replica(t, openMem(t), cache.SharedConfig{MaxFast: 10})
		f.bucket.slow.Store(int64(time.Second))
		release, first, err := a.Lease(t.Context(), aZip)
		if release == nil || err != nil {
			t.Fatal(err)
		}
		put(t, a, aZip, random(100), cache.Immutable)
		release()
		if r, holder, err := b.Lease(t.Context(), aZip); r != nil || holder != first || err != nil {
			t.Errorf("the lease was given back before the object was there (%v)", err)
		}
		time.Sleep(1100 * time.Millisecond)
		if _, err := read(b, aZip); err != nil {
			t.Error(err)
		}
		r, _, err := b.Lease(t.Context(), aZip)
		if r == nil || err != nil {
			t.Errorf("the lease was kept: %v", err)
		}
		// Nothing was put: it is given back at once.
		r()
		if r, _, err = a.Lease(t.Context(), aZip); r == nil || err != nil {
			t.Errorf("the lease was kept: %v", err)
		}
		r()
		// The bucket is down: nobody is to wait for it.
		f.bucket.down.Store(true)
		release, _, _ = a.Lease(t.Context(), "other.zip")
		put(t, a, "other.zip", random(100), cache.Immutable)
		release()
		time.Sleep(2 * time.Second)
		if r, _, err := b.Lease(t.Context(), "other.zip"); r == nil || err != nil {
			t.Errorf("the lease waits for a bucket that is down: %v", err)
		}
		f.bucket.down.Store(false)
		time.Sleep(10 * time.Second)
		a.end()
		b.end()
	})
}

// What is caught up on is not in the way of what other replicas wait for.
func TestSharedWritesTheNewFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		near := openMem(t)
		for i := range 1000 {
			put(t, near, fmt.Sprintf("m/@v/v1.%d.0.zip", i), random(10), cache.Immutable)
		}
		f.bucket.slow.Store(int64(time.Second))
		a := f.replica(t, near, cache.SharedConfig{MaxFast: 1, Writers: 2})
		time.Sleep(10 * time.Second)
		release, _, _ := a.Lease(t.Context(), aZip)
		put(t, a, aZip, random(100), cache.Immutable)
		release()
		time.Sleep(3 * time.Second)
		if _, err := read(f.bucket, aZip); err != nil {
			t.Error(err)
		}
		if r, _, err := a.Lease(t.Context(), aZip); r == nil || err != nil {
			t.Errorf("the lease is kept: %v", err)
		}
		time.Sleep(20 * time.Minute)
		n := 0
		for range f.bucket.Store.List(t.Context(), "") {
			n++
		}
		if n != 1001 {
			t.Errorf("%d objects in the bucket", n)
		}
		a.end()
	})
}

// A body that proves wrong on the way is not stored, and is no error.
func TestSharedDamagedFarObject(t *testing.T) {
	f := newFleet(t)
	a := f.replica(t, openMem(t), cache.SharedConfig{})
	put(t, f.bucket, aZip, random(100_000), cache.Immutable)
	f.bucket.damaged.Store(true)
	if got, err := read(a, aZip); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := read(a.near, aZip); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("near: %v", err)
	}
	f.bucket.damaged.Store(false)
	o, err := a.Look(t.Context(), aZip)
	must(t, err)
	o.Close()
}

// Two replicas that store the same content as other bytes end with the same.
func TestSharedSettlesOtherBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		a, b := f.replica(t, openMem(t), cache.SharedConfig{}), f.replica(t, openMem(t), cache.SharedConfig{})
		o := cache.PutOptions{Attrs: cache.Attrs{H1: "h1:same="}}
		f.bucket.down.Store(true)
		f.redis.down.Store(true)
		must(t, a.Put(t.Context(), aZip, strings.NewReader("deflated"), o))
		must(t, b.Put(t.Context(), aZip, strings.NewReader("stored"), o))
		f.bucket.down.Store(false)
		f.redis.down.Store(false)
		time.Sleep(10 * time.Second)
		x, err1 := read(a, aZip)
		y, err2 := read(b, aZip)
		if err1 != nil || err2 != nil || !bytes.Equal(x, y) {
			t.Errorf("%q, %v and %q, %v", x, err1, y, err2)
		}
		a.end()
		b.end()
	})
}

// Many who want an object that is far fetch it once.
func TestSharedFetchesOnce(t *testing.T) {
	f := newFleet(t)
	a := f.replica(t, openMem(t), cache.SharedConfig{})
	put(t, f.bucket, aZip, random(100_000), cache.Immutable)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := read(a, aZip); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.bucket.gets.Load(); n != 1 {
		t.Errorf("%d times", n)
	}
}

func BenchmarkSharedGet(b *testing.B) {
	near := cache.NewTiered(openMem(b), openDisk(b, b.TempDir()), cache.TieredConfig{})
	s, err := cache.NewShared(near, cache.SharedConfig{Bucket: newFar(b)})
	must(b, err)
	put(b, s, aList, random(2000), cache.Mutable)
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Get(ctx, aList); err != nil {
				b.Error(err)
			}
		}
	})
}

// What has been near for long is not written to the bucket before it is known what
// others have purged meanwhile; what comes new is.
func TestSharedWaitsForPurges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t)
		near := openMem(t)
		a := f.replica(t, near, cache.SharedConfig{})
		f.bucket.down.Store(true)
		put(t, a, "old/@v/v1.0.0.zip", random(1000), cache.Immutable)
		a.end()
		put(t, near, "older/@v/v1.0.0.zip", random(1000), cache.Immutable)
		f.bucket.down.Store(false)
		var known atomic.Bool
		missed := func(ctx context.Context) error {
			if !known.Load() {
				return errFar
			}
			return near.Delete(ctx, "older/@v/v1.0.0.zip")
		}
		b := f.replica(t, near, cache.SharedConfig{Missed: missed})
		put(t, b, aZip, random(1000), cache.Immutable)
		time.Sleep(time.Minute)
		if !exists(f.bucket, aZip) || exists(f.bucket, "old/@v/v1.0.0.zip") {
			t.Error("what is new waits, or what is old does not")
		}
		b.end() // what waits is kept
		b = f.replica(t, near, cache.SharedConfig{Missed: missed})
		known.Store(true)
		time.Sleep(time.Minute)
		if !exists(f.bucket, "old/@v/v1.0.0.zip") || exists(f.bucket, "older/@v/v1.0.0.zip") {
			t.Error("what is old still waits, or what was purged is back")
		}
		b.end()
	})
}
