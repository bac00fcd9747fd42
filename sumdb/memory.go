package sumdb

import (
	"container/list"
	"sync"
)

// memory keeps values up to a number of bytes and forgets the one that was not
// used for the longest time.
type memory[V any] struct {
	mu    sync.Mutex
	max   int64
	used  int64
	order list.List // of *kept[V], the newest in front
	items map[string]*list.Element
}

type kept[V any] struct {
	name  string
	value V
	bytes int64
}

// keptOverhead is about what an entry costs beside its name and value.
const keptOverhead = 200

func newMemory[V any](limit int64) *memory[V] {
	return &memory[V]{max: limit, items: make(map[string]*list.Element)}
}

func (m *memory[V]) get(name string) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.items[name]
	if !ok {
		return v, false
	}
	m.order.MoveToFront(e)
	return e.Value.(*kept[V]).value, true
}

// put keeps v, which has size bytes, in place of what name had.
func (m *memory[V]) put(name string, v V, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.items[name]; ok {
		m.drop(e)
	}
	k := &kept[V]{name, v, int64(size+len(name)) + keptOverhead}
	if k.bytes > m.max {
		return
	}
	m.items[name] = m.order.PushFront(k)
	for m.used += k.bytes; m.used > m.max; {
		m.drop(m.order.Back())
	}
}

func (m *memory[V]) drop(e *list.Element) {
	k := m.order.Remove(e).(*kept[V])
	delete(m.items, k.name)
	m.used -= k.bytes
}
