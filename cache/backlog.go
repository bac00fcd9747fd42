package cache

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// backlog is what waits to be written to the bucket, in the order of coming. What
// has just been put goes before what is caught up on: other replicas wait for it.
type backlog struct {
	mu sync.Mutex
	// All below is guarded by mu.
	items map[string]*backlogItem
	queue []*backlogItem // those that nobody works on
	later []*backlogItem // the same, of what is caught up on
	most  int
	// behind says that objects did not fit, so that there are more.
	behind bool
	// held says that what is caught up on is to wait.
	held bool

	wake chan struct{} // has a place for one: the queue is not empty
}

type backlogItem struct {
	name string
	// removed says that the object was deleted while it was written.
	removed atomic.Bool

	// Guarded by backlog.mu.
	class   Class
	visible bool     // others can get it already
	tried   bool     // it was tried to write it
	fails   int      // how often that failed for reasons of its own
	waiting []func() // called when it is visible, or cannot be made so
	again   bool     // it was put again while it was written
	busy    bool
}

// maxFails is how often one object is tried. What the bucket will not have must
// not be in the way of what it will.
const maxFails = 10

func (b *backlog) init(most int) {
	b.items, b.most, b.wake = make(map[string]*backlogItem), most, make(chan struct{}, 1)
}

// add reports whether there is room for name, which has just been put.
func (b *backlog) add(name string, class Class) bool { return b.insert(name, class, &b.queue) }

// catchUp is add for what was put long ago.
func (b *backlog) catchUp(name string, class Class) bool { return b.insert(name, class, &b.later) }

func (b *backlog) insert(name string, class Class, queue *[]*backlogItem) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if it := b.items[name]; it != nil {
		it.class, it.again = class, it.busy
		it.removed.Store(false)
		return true
	}
	if len(b.items) >= b.most {
		b.behind = true
		return false
	}
	it := &backlogItem{name: name, class: class}
	b.items[name] = it
	*queue = append(*queue, it)
	b.signal()
	return true
}

// signal is called with mu held.
func (b *backlog) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// next takes what has waited longest. It returns nil when ctx ends, or when
// there is nothing and ending is closed.
func (b *backlog) next(ctx context.Context, ending <-chan struct{}) (*backlogItem, Class) {
	for ctx.Err() == nil {
		b.mu.Lock()
		if it := b.first(); it != nil {
			class := it.class
			b.mu.Unlock()
			return it, class
		}
		b.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-b.wake:
		case <-ending:
			return nil, 0
		}
	}
	return nil, 0
}

// first takes the first item, nil if there is none. It is called with mu held.
func (b *backlog) first() *backlogItem {
	for _, queue := range []*[]*backlogItem{&b.queue, &b.later} {
		if len(*queue) == 0 || b.held && queue == &b.later {
			continue
		}
		it := (*queue)[0]
		(*queue)[0] = nil
		*queue = (*queue)[1:]
		it.busy = true
		if len(b.queue)+len(b.later) > 0 {
			b.signal()
		}
		return it
	}
	return nil
}

// finish ends the work on an item. failed says that it is to be written again;
// idle that this is no fault of the item.
func (b *backlog) finish(it *backlogItem, failed, idle bool) {
	b.mu.Lock()
	it.busy, it.tried = false, true
	if failed && !idle {
		it.fails++
	}
	switch {
	case b.items[it.name] != it: // removed
	case it.again, failed && it.fails < maxFails:
		if it.again {
			b.queue = append(b.queue, it)
		} else {
			b.later = append(b.later, it) // nobody waits for it any more
		}
		it.again = false
		b.signal()
	default:
		b.behind = b.behind || failed
		delete(b.items, it.name)
	}
	waiting := it.waiting
	it.waiting = nil
	b.mu.Unlock()
	for _, f := range waiting {
		f()
	}
}

// seen notes that others can get the object without the bucket.
func (b *backlog) seen(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if it := b.items[name]; it != nil {
		it.visible = true
	}
}

// whenVisible calls f when others can get the object, or it has turned out that
// they cannot for now, at the latest after most. f may be called twice.
func (b *backlog) whenVisible(name string, most time.Duration, f func()) {
	b.mu.Lock()
	it := b.items[name]
	if it == nil || it.visible || it.tried {
		b.mu.Unlock()
		f()
		return
	}
	timer := time.AfterFunc(most, f)
	it.waiting = append(it.waiting, func() { timer.Stop(); f() })
	b.mu.Unlock()
}

// remove forgets name, which is about to be deleted. It waits a while for who is
// writing it: what they write would come back.
func (b *backlog) remove(ctx context.Context, name string) {
	b.mu.Lock()
	it := b.items[name]
	if it == nil {
		b.mu.Unlock()
		return
	}
	it.removed.Store(true)
	delete(b.items, name)
	for _, queue := range []*[]*backlogItem{&b.queue, &b.later} {
		if i := slices.Index(*queue, it); i >= 0 {
			*queue = slices.Delete(*queue, i, i+1)
		}
	}
	written := make(chan struct{})
	if it.busy {
		it.waiting = append(it.waiting, func() { close(written) })
		b.mu.Unlock()
		limited, cancel := context.WithTimeout(ctx, flushTime)
		defer cancel()
		select {
		case <-written:
		case <-limited.Done():
		}
		return
	}
	waiting := it.waiting
	it.waiting = nil
	b.mu.Unlock()
	for _, f := range waiting {
		f()
	}
}

// left returns what has not been written, and whether there is more.
func (b *backlog) left() (map[string]Class, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make(map[string]Class, len(b.items))
	for n, it := range b.items {
		names[n] = it.class
	}
	return names, b.behind
}

func (b *backlog) setBehind(v bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.behind = v
}

func (b *backlog) isBehind() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.behind
}

func (b *backlog) isHeld() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// release ends the time for which what is caught up on was held.
func (b *backlog) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = false
	if len(b.queue)+len(b.later) > 0 {
		b.signal()
	}
}

// roomy reports whether the backlog is at most half full.
func (b *backlog) roomy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items) <= b.most/2
}

func (b *backlog) size() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return float64(len(b.items))
}
