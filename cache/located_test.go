package cache_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/cache"
)

// locating is a far that clients can be sent to, and that counts how often it was
// asked for that. meanwhile, if set, happens before it answers.
type locating struct {
	*far
	asked     int
	meanwhile func()
}

func (l *locating) Locate(ctx context.Context, name string) (string, cache.Attrs, error) {
	l.asked++
	if err := l.trouble(ctx); err != nil {
		return "", cache.Attrs{}, err
	}
	o, err := l.Store.Get(ctx, name)
	if err != nil {
		return "", cache.Attrs{}, err
	}
	if l.meanwhile != nil {
		l.meanwhile()
	}
	return fmt.Sprintf("https://bucket.example/%s?%d", name, l.asked), o.Attrs, nil
}

// Where an object is, is asked for once a minute, while the bucket answers: once a
// second for all objects together.
func TestLocateIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bucket, redis := &locating{far: newFar(t)}, newFar(t)
		open := func(id int) *cache.Shared {
			s, err := cache.NewShared(openMem(t), cache.SharedConfig{Bucket: bucket, Fast: &fast{redis, id}})
			must(t, err)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- s.Run(ctx) }()
			t.Cleanup(func() { cancel(); must(t, <-ended) })
			return s
		}
		s, other := open(1), open(2)
		synctest.Wait() // they listen
		data := random(1000)
		const bZip = "example.com/n/@v/v1.0.0.zip"
		for _, name := range []string{aZip, bZip} {
			put(t, bucket.far, name, data, cache.Immutable)
		}
		locate := func(what, name string, asked int) (url string) {
			t.Helper()
			before := bucket.asked
			url, attrs, err := s.Locate(t.Context(), name)
			if err != nil || url == "" || attrs.Size != 1000 || bucket.asked-before != asked {
				t.Errorf("%s: %q, %+v, %v; the bucket was asked %d times, want %d", what, url, attrs, err, bucket.asked-before, asked)
			}
			return url
		}
		first := locate("at first", aZip, 1)
		if again := locate("at once", aZip, 0); again != first {
			t.Errorf("%s and %s", first, again)
		}
		locate("another", bZip, 1)
		time.Sleep(2 * time.Second)
		locate("is the bucket well?", bZip, 1)
		locate("it is", aZip, 0)
		for range 65 {
			time.Sleep(time.Second)
			locate("every second", bZip, 1)
		}
		locate("a minute later", aZip, 1)

		bucket.down.Store(true)
		locate("in trouble that nobody noticed", aZip, 0)
		time.Sleep(time.Second)
		for range 3 {
			if url, _, err := s.Locate(t.Context(), aZip); !errors.Is(err, errFar) {
				t.Errorf("in trouble: %q, %v", url, err)
			}
		}
		bucket.down.Store(false)
		locate("again", aZip, 1)

		must(t, s.Delete(t.Context(), aZip))
		for about, remove := range map[string]func(){
			"deleted":           func() { must(t, s.Delete(t.Context(), aZip)) },
			"deleted elsewhere": func() { must(t, other.Delete(t.Context(), aZip)) },
			"quarantined":       func() { must(t, s.Quarantine(t.Context(), aZip, "wrong")) },
			"moved, and said so": func() {
				must(t, bucket.Store.Delete(t.Context(), aZip))
				must(t, other.Announce(t.Context(), aZip))
			},
			"news were missed": func() {
				must(t, bucket.Store.Delete(t.Context(), aZip))
				redis.mu.Lock()
				defer redis.mu.Unlock()
				redis.watchers[1]("", false)
			},
		} {
			put(t, bucket.far, aZip, data, cache.Immutable)
			locate(about, aZip, 1)
			locate(about, aZip, 0)
			remove()
			if url, _, err := s.Locate(t.Context(), aZip); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %q, %v", about, url, err)
			}
			time.Sleep(2 * time.Minute)
		}

		// What is removed while the bucket is asked is not remembered.
		put(t, bucket.far, aZip, data, cache.Immutable)
		bucket.meanwhile = func() { must(t, other.Delete(context.Background(), aZip)) }
		_, _, _ = s.Locate(t.Context(), aZip)
		bucket.meanwhile = nil
		if url, _, err := s.Locate(t.Context(), aZip); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("removed meanwhile: %q, %v", url, err)
		}
	})
}
