package main

import (
	"cmp"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy/upstream"
)

// codeOf is the one place that turns the error of a request into a code of
// docs/doctor.md; "" if it has none.
func codeOf(err error) doctor.Code {
	var (
		up     *upstream.Error
		direct *upstream.DirectError
	)
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
	return doctor.FileCause(err)
}

// handshakeCode is codeOf for handshakes that have failed.
func handshakeCode(cause, text string) string { return string(doctor.HandshakeCause(cause, text)) }

// seenTroubles remembers the last trouble of each kind that requests have met, for
// /-/status. There are as many as there are codes and upstreams.
type seenTroubles struct {
	mu  sync.Mutex // guards all
	all map[troubleKey]*doctor.Trouble
}

type troubleKey struct {
	code doctor.Code
	host string
}

// observe notes what rec has met, if that has a code.
func (t *seenTroubles) observe(rec *access.Record) {
	if rec.Code == "" {
		return
	}
	var up *upstream.Error
	k := troubleKey{code: doctor.Code(rec.Code)}
	if errors.As(rec.Err, &up) {
		k.host = up.Upstream
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[troubleKey]*doctor.Trouble{}
	}
	if t.all[k] == nil {
		t.all[k] = &doctor.Trouble{Code: k.code, Host: k.host}
	}
	t.all[k].Count++
	t.all[k].Last, t.all[k].Err = time.Now(), rec.Err
}

// seen returns all of them, by code and host.
func (t *seenTroubles) seen() []doctor.Trouble {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []doctor.Trouble
	for _, one := range t.all {
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b doctor.Trouble) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Host, b.Host))
	})
	return all
}

// findings returns what is not as it should be at this server now.
func (a *admin) findings() []doctor.Finding {
	s := a.settings
	live := doctor.Live{Troubles: a.app.troubles.seen(), Dirs: s.dirs()}
	for _, f := range a.reloads.failures() {
		live.Unused = append(live.Unused, doctor.Unused{Key: f.Key, Path: f.File, Text: f.Error})
	}
	if a.certificates != nil {
		live.Certificates, live.Refused = a.certificates.Status(), a.certificates.Refused()
	}
	return live.Findings(doctor.Config{OS: runtime.GOOS, Now: time.Now})
}
