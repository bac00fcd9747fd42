package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/modgate/modgate/cache"
)

// Scripts, each of one key. A change is made only if the value still begins
// with what was read of it (""; there was none).
var (
	replaceIf = goredis.NewScript(`
if redis.call('GETRANGE', KEYS[1], 0, 63) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`)
	removeIf = goredis.NewScript(`
if redis.call('GETRANGE', KEYS[1], 0, 63) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)
)

// attempts to change a value that others change as well.
const attempts = 32

var errBusy = errors.New("redis: the value changes faster than it can be replaced")

// Get implements cache.Store. Objects have Bytes set.
func (s *Store) Get(ctx context.Context, name string) (*cache.Object, error) {
	if err := cache.CheckName(name); err != nil {
		return nil, err
	}
	r, err := s.load(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	return &cache.Object{Name: name, Attrs: r.Attrs, Class: r.Class, Bytes: r.body}, nil
}

// load returns what name holds. A value that is not right is deleted, and
// fs.ErrNotExist and ErrCorrupt at once.
func (s *Store) load(ctx context.Context, name string) (*record, error) {
	key := s.key('o', name)
	var value []byte
	err := s.ask(ctx, func(ctx context.Context) (err error) {
		// No more than we would have put there: it may be hostile.
		value, err = s.client.GetRange(ctx, key, 0, maxHeader+s.c.MaxObject).Bytes()
		return err
	})
	switch {
	case err == nil && len(value) == 0:
		return nil, fs.ErrNotExist
	case err != nil && strings.Contains(err.Error(), "WRONGTYPE"):
		return nil, s.condemn(ctx, key, "", fmt.Errorf("%w: the key holds no string", cache.ErrCorrupt))
	case err != nil:
		return nil, err
	}
	r, err := s.decode(key, name, value)
	if err != nil {
		return nil, s.condemn(ctx, key, string(value[:min(len(value), tagLen)]), err)
	}
	return r, nil
}

// condemn deletes a value that is not right, if it is still the one that began
// with tag.
func (s *Store) condemn(ctx context.Context, key, tag string, reason error) error {
	s.m.corrupt.Inc()
	err := s.ask(ctx, func(ctx context.Context) error {
		if tag == "" {
			return s.client.Del(ctx, key).Err()
		}
		return removeIf.Run(ctx, s.client, []string{key}, tag).Err()
	})
	s.log.Warn("a value in redis is not right and is deleted", "key", key, "reason", reason, "error", err)
	return fmt.Errorf("%w: %w", reason, fs.ErrNotExist)
}

// Put implements cache.Store.
func (s *Store) Put(ctx context.Context, name string, body io.Reader, opts cache.PutOptions) error {
	if err := cache.CheckName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	next := &record{header: header{name, cache.Stored{Class: opts.Class, Attrs: opts.Attrs}}}
	err := s.fill(ctx, next, body)
	if err == nil {
		err = s.change(ctx, name, next.after)
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}

// fill reads body into r and completes the attributes.
func (s *Store) fill(ctx context.Context, r *record, body io.Reader) error {
	var err error
	if r.body, err = io.ReadAll(io.LimitReader(body, s.c.MaxObject+1)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	size := int64(len(r.body))
	if size > s.c.MaxObject {
		if r.Size > 0 && r.Size <= s.c.MaxObject {
			return r.Complete(size, "")
		}
		return fmt.Errorf("%w: objects in redis have at most %d bytes", cache.ErrFull, s.c.MaxObject)
	}
	h := sha256.Sum256(r.body)
	return r.Complete(size, hex.EncodeToString(h[:]))
}

// after is what a name that had old holds after Put of r.
func (r *record) after(old *record) (*record, error) {
	var had *cache.Stored
	if old != nil {
		had = &old.Stored
	}
	next := *r
	var err error
	next.Stored, _, err = r.Stored.After(had) // kept bytes are the same
	return &next, err
}

// change replaces what name holds by what f makes of it; f gets nil where there
// is nothing.
func (s *Store) change(ctx context.Context, name string, f func(old *record) (*record, error)) error {
	key := s.key('o', name)
	for range attempts {
		old, err := s.load(ctx, name)
		tag := ""
		switch {
		case err == nil:
			tag = old.tag
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		next, err := f(old)
		if err != nil {
			return err
		}
		value, err := s.encode(key, next)
		if err != nil {
			return err
		}
		var done int
		if err := s.ask(ctx, func(ctx context.Context) (err error) {
			done, err = replaceIf.Run(ctx, s.client, []string{key}, tag, value, s.c.TTL.Milliseconds()).Int()
			return err
		}); err != nil || done == 1 {
			return err
		}
	}
	return errBusy
}

// Touch implements cache.Toucher.
func (s *Store) Touch(ctx context.Context, name string, checked time.Time) error {
	if err := cache.CheckName(name); err != nil {
		return err
	}
	err := s.change(ctx, name, func(old *record) (*record, error) {
		if old == nil {
			return nil, fs.ErrNotExist
		}
		r := *old
		r.Checked = checked.UTC().Round(0)
		return &r, nil
	})
	if err != nil {
		return fmt.Errorf("touch %s: %w", name, err)
	}
	return nil
}

// Delete implements cache.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := cache.CheckName(name); err != nil {
		return err
	}
	key := s.key('o', name)
	if err := s.ask(ctx, func(ctx context.Context) error { return s.client.Del(ctx, key).Err() }); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// Quarantine implements cache.Quarantiner: there is no place for what is wrong
// here but the log.
func (s *Store) Quarantine(ctx context.Context, name, reason string) error {
	if err := s.Delete(ctx, name); err != nil {
		return err
	}
	s.log.Warn("an object in redis was deleted", "name", name, "reason", reason)
	return nil
}
