package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
)

// allTiers opens what replicas share, if the configuration names it, beside the
// directory, for a command; a closes it.
func (a *app) allTiers(ctx context.Context, s *settings, directory *disk.Store) ([]tier, error) {
	store, _, err := a.openShared(ctx, &s.Config, stores{directory, directory}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	a.store, a.near = store, directory
	return append([]tier{a.directoryTier(directory)}, a.sharedTiers()...), nil
}

// directoryTier is the directory of this replica.
func (a *app) directoryTier(d *disk.Store) tier {
	t := tier{name: tierDirectory, list: d.List, open: d.Peek, aside: d.Quarantine}
	if a.near != nil {
		// What is wrong is forgotten by the memory and the count of bytes too.
		t.aside = func(ctx context.Context, name, reason string) error { return quarantine(ctx, a.near, name, reason) }
	}
	if a.bucket != nil || a.fast != nil || a.handler != nil {
		t.heal = a.healNear
	}
	return t
}

// sharedTiers are those that replicas share.
func (a *app) sharedTiers() []tier {
	var all []tier
	if b := a.bucket; b != nil {
		all = append(all, tier{name: tierBucket, list: b.Names, open: b.Get, aside: a.asideBucket, heal: a.healBucket, quarantined: b.Quarantined})
	}
	if f := a.fast; f != nil {
		all = append(all, tier{name: tierRedis, list: f.List, open: f.Get, aside: func(ctx context.Context, name, _ string) error { return f.Delete(ctx, name) }})
	}
	return all
}

func (a *app) asideBucket(ctx context.Context, name, reason string) error {
	defer a.moved(ctx, name)
	return a.bucket.Quarantine(ctx, name, reason)
}

// moved tells all replicas that name is not in the bucket any more. One that is
// not told notices when it looks there again, within a minute.
func (a *app) moved(ctx context.Context, name string) {
	if s, ok := a.store.(interface {
		Announce(ctx context.Context, name string) error
	}); ok {
		_ = s.Announce(ctx, name)
	}
}

func quarantine(ctx context.Context, store cache.Store, name, reason string) error {
	if q, ok := store.(cache.Quarantiner); ok {
		return q.Quarantine(ctx, name, reason)
	}
	return store.Delete(ctx, name)
}

// healNear has what is missing here fetched: from what replicas share, else, in a
// server, from upstream.
func (a *app) healNear(ctx context.Context, name string) error {
	o, err := a.store.Get(ctx, name)
	if err == nil {
		return o.Close()
	}
	return a.fetch(ctx, name)
}

// healBucket writes what the bucket lacks from what is here, else, in a server,
// from upstream.
func (a *app) healBucket(ctx context.Context, name string) error {
	o, err := a.near.Get(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return a.fetch(ctx, name)
	}
	if err != nil {
		return err
	}
	defer o.Close()
	if o.Attrs.SHA256 == "" {
		return errUnproven
	}
	body := io.Reader(bytes.NewReader(o.Bytes))
	if o.Body != nil {
		body = o.Body
	}
	return a.bucket.Put(ctx, name, body, cache.PutOptions{Class: cache.Immutable, Attrs: o.Attrs})
}

// errUnproven says that an object is of another program, and nobody knows
// whether it is right.
var errUnproven = errors.New("nothing is known of its bytes")
