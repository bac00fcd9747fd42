package redis

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/modgate/modgate/cache"
)

// batch is how many keys are looked at in one round trip.
const batch = 128

// List implements cache.Store. It looks at every object, whatever the prefix:
// it is for people and not for requests. Used is when an object was put.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[cache.Entry, error] {
	return func(yield func(cache.Entry, error) bool) {
		keys, err := s.keys(ctx)
		if err != nil {
			yield(cache.Entry{}, err)
			return
		}
		for part := range slices.Chunk(keys, batch) {
			entries, err := s.entries(ctx, part, prefix)
			if err != nil {
				yield(cache.Entry{}, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// keys returns those of all objects, each once.
func (s *Store) keys(ctx context.Context) ([]string, error) {
	var mu sync.Mutex
	var all []string
	scan := func(ctx context.Context, c goredis.Cmdable) error {
		for cursor := uint64(0); ; {
			var keys []string
			err := s.ask(ctx, func(ctx context.Context) (err error) {
				keys, cursor, err = c.Scan(ctx, cursor, s.c.Namespace+":o:*", 1000).Result()
				return err
			})
			if err != nil {
				return err
			}
			mu.Lock()
			all = append(all, keys...)
			mu.Unlock()
			if cursor == 0 {
				return nil
			}
		}
	}
	var err error
	if c, ok := s.client.(*goredis.ClusterClient); ok {
		err = c.ForEachMaster(ctx, func(ctx context.Context, node *goredis.Client) error { return scan(ctx, node) })
	} else {
		err = scan(ctx, s.client)
	}
	slices.Sort(all)
	return slices.Compact(all), err
}

// entries returns those of keys whose names start with prefix. Only the heads
// of the values are read; a head that does not belong to its key is passed over.
func (s *Store) entries(ctx context.Context, keys []string, prefix string) ([]cache.Entry, error) {
	heads := make([]*goredis.StringCmd, len(keys))
	ages := make([]*goredis.DurationCmd, len(keys))
	err := s.ask(ctx, func(ctx context.Context) error {
		_, err := s.client.Pipelined(ctx, func(p goredis.Pipeliner) error {
			for i, k := range keys {
				heads[i], ages[i] = p.GetRange(ctx, k, 0, maxHeader), p.PTTL(ctx, k)
			}
			return nil
		})
		if err != nil && strings.Contains(err.Error(), "WRONGTYPE") {
			err = nil // one that is no string; the others have been read
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var entries []cache.Entry
	for i, h := range heads {
		value := h.Val()
		if len(value) < tagLen {
			continue
		}
		r, err := parseHeader([]byte(value[tagLen:]))
		if err != nil || s.key('o', r.Name) != keys[i] || !strings.HasPrefix(r.Name, prefix) {
			continue
		}
		used := time.Now().Add(-max(0, s.c.TTL-ages[i].Val()))
		entries = append(entries, cache.Entry{Name: r.Name, Size: r.Size, Used: used, Class: r.Class})
	}
	return entries, nil
}
