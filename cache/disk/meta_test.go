package disk

import (
	"fmt"
	"testing"
)

func TestMetaIsNotRememberedAfterAChange(t *testing.T) {
	var c metaCache
	id := identity{ino: 1, size: 2}
	_, gen := c.get("a", id)
	c.forget("a") // a change on disk, after it was read
	c.put("a", &meta{id: id}, gen)
	m, gen := c.get("a", id)
	if m != nil {
		t.Error("what was read before the change is remembered after it")
	}
	c.put("a", &meta{id: id}, gen)
	if m, _ := c.get("a", id); m == nil {
		t.Error("not remembered at all")
	}
	for _, other := range []identity{{ino: 2, size: 2}, {ino: 1, size: 3}, {ino: 1, size: 2, mtime: 1}, {ino: 1, size: 2, ctime: 1}} {
		if m, _ := c.get("a", other); m != nil {
			t.Errorf("taken for %+v", other)
		}
	}
}

func TestMetaIsBounded(t *testing.T) {
	var c metaCache
	for i := range 3 * metaShards * metaPerShard {
		name := fmt.Sprint(i)
		_, gen := c.get(name, identity{})
		c.put(name, &meta{}, gen)
	}
	n := 0
	for i := range c.shards {
		n += len(c.shards[i].m)
	}
	if n > metaShards*metaPerShard || n < metaShards*metaPerShard/2 {
		t.Errorf("%d are remembered", n)
	}
}
