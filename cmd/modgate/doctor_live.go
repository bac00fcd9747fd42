package main

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/modgate/modgate/cache/redis"
	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/internal/breaker"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/upstream"
	"github.com/modgate/modgate/sumdb"
)

// codeOf is the one place that turns the error of a request into a code of
// docs/doctor.md.
func codeOf(err error) doctor.Code {
	var (
		up     *upstream.Error
		direct *upstream.DirectError
		file   *fs.PathError
		own    interface{ Cause() string }
	)
	cause := ""
	if errors.As(err, &own) {
		cause = own.Cause()
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(err, sumdb.ErrClosed):
		return doctor.OwnCause(proxy.CauseBusy)
	case cause == proxy.CauseContent && errors.As(err, &file): // one of the cache
	case cause != "": // before what has come of it on the network
		return doctor.OwnCause(cause)
	}
	switch {
	case errors.Is(err, sumdb.ErrUntrusted): // before what has come of it on the network
		return doctor.SumdbUntrusted
	case errors.Is(err, sumdb.ErrForged):
		return doctor.SumdbForged
	}
	if code := doctor.CauseOf(err); code != "" {
		return code
	}
	switch {
	case errors.As(err, &up) && up.Status != 0:
		return doctor.StatusCause(up.Status)
	case up != nil && up.Before != nil:
		return codeOf(up.Before)
	case errors.As(err, &direct):
		return doctor.PrivateFails
	}
	return cmp.Or(doctor.FileCause(err), doctor.OwnCause(""))
}

// handshakeCode is codeOf for handshakes that have failed.
func handshakeCode(cause, text string) string { return string(doctor.HandshakeCause(cause, text)) }

// seenTroubles remembers the last trouble of each kind that requests have met, for
// /-/status. There are as many as there are codes and upstreams, and
// maxPrivateTroubles for private modules.
type seenTroubles struct {
	mu      sync.Mutex // guards what follows
	all     map[troubleKey]*seenTrouble
	private int // how many keys have a module
}

// seenTrouble is the last trouble of its kind, and the module that was asked for.
type seenTrouble struct {
	doctor.Trouble
	asked string
}

type troubleKey struct {
	code   doctor.Code
	host   string
	module string // a private module
}

// maxPrivateTroubles bounds the troubles that are remembered by module. What is
// beyond is told until it is old.
const maxPrivateTroubles = 100

// observe notes what rec has met, if that has a code, and forgets the troubles of
// a private module that has been fetched.
func (t *seenTroubles) observe(rec *access.Record) {
	if rec.Code == "" {
		t.fetched(rec)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.keyOf(rec)
	if t.all == nil {
		t.all = map[troubleKey]*seenTrouble{}
	}
	if t.all[k] == nil {
		t.all[k] = &seenTrouble{Trouble: doctor.Trouble{Code: k.code, Host: k.host}}
		if k.module != "" {
			t.private++
		}
	}
	one := t.all[k]
	one.Count++
	one.Module, one.Last, one.Err, one.asked = "", time.Now(), rec.Err, rec.Module
	if isPrivate(rec.Err) {
		one.Module = rec.Module
	}
}

// isPrivate reports whether err is from the repository of a private module.
func isPrivate(err error) bool {
	var direct *upstream.DirectError
	return errors.As(err, &direct)
}

func (t *seenTroubles) keyOf(rec *access.Record) troubleKey {
	k := troubleKey{code: doctor.Code(rec.Code)}
	var up *upstream.Error
	switch {
	case errors.As(rec.Err, &up):
		k.host = up.Upstream
	case isPrivate(rec.Err):
		own := k
		own.module = rec.Module
		if t.all[own] != nil || t.private < maxPrivateTroubles {
			return own
		}
	}
	return k
}

// fetched forgets what is mended now that rec has fetched a module: what that module
// has met, be it private or what only it can mend, and what passes by itself.
func (t *seenTroubles) fetched(rec *access.Record) {
	if rec.Module == "" || rec.Err != nil || rec.Outcome != access.Miss && rec.Outcome != access.Follow {
		return // before the lock: hits are many
	}
	t.forget(func(k troubleKey, one *seenTrouble) bool {
		own := k.module == "" && !isPrivate(one.Err) && one.asked == rec.Module && doctor.OfOneModule(k.code)
		return k.module == rec.Module || own || k.code == doctor.ServerBusy
	})
}

// answered forgets what an upstream as a whole has met before it answered.
func (t *seenTroubles) answered(upstream string) {
	t.forget(func(k troubleKey, _ *seenTrouble) bool { return k.host == upstream && doctor.OfTheWay(k.code) })
}

func (t *seenTroubles) forget(mended func(troubleKey, *seenTrouble) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, one := range t.all {
		if !mended(k, one) {
			continue
		}
		if delete(t.all, k); k.module != "" {
			t.private--
		}
	}
}

// seen returns the last of each code and host, sorted by them, with the count of
// all.
func (t *seenTroubles) seen() []doctor.Trouble {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := map[troubleKey]doctor.Trouble{}
	for k, one := range t.all {
		k.module = ""
		merged, found := last[k]
		count := merged.Count + one.Count
		if !found || one.Last.After(merged.Last) {
			merged = one.Trouble
		}
		merged.Count = count
		last[k] = merged
	}
	return slices.SortedFunc(maps.Values(last), func(a, b doctor.Trouble) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Host, b.Host))
	})
}

// findings returns what is not as it should be at this server now.
func (a *admin) findings() []doctor.Finding {
	s := a.settings
	live := doctor.Live{Troubles: a.app.troubles.seen(), Dirs: s.dirs(), Shared: a.sharedTroubles()}
	if d := a.app.directory; d != nil {
		live.Dirs[0].Lost = d.Lost() // cache.dir comes first
	}
	for _, f := range a.reloads.failures() {
		live.Unused = append(live.Unused, doctor.Unused{Key: f.Key, Path: f.File, Text: f.Error})
	}
	if a.certificates != nil {
		live.Certificates, live.Refused = a.certificates.Status(), a.certificates.Refused()
	}
	return live.Findings(doctor.Config{OS: runtime.GOOS, Now: time.Now})
}

// sharedTroubles returns the Redis and the bucket, if they are left alone now.
func (a *admin) sharedTroubles() []doctor.SharedTrouble {
	var all []doctor.SharedTrouble
	add := func(about doctor.Shared, now *breaker.Trouble) {
		if now != nil {
			all = append(all, doctor.SharedTrouble{Shared: about, Err: now.Err, Since: now.Since})
		}
	}
	if r, ok := a.app.fast.(*redis.Store); ok {
		add(a.settings.Cache.Redis.shared(), r.Trouble())
	}
	if b := a.app.bucket; b != nil {
		add(a.settings.Cache.S3.shared(), b.Trouble())
	}
	return all
}
