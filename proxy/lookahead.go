package proxy

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

// lookahead fetches the go.mod files that a client is about to ask for.
//
// The go command loads the module graph with as many workers as it has cores,
// each waiting for one file: with two cores and a far upstream it is waiting
// most of the time. But what it will ask for next stands in the go.mod that it
// just got. Below a module that says "go 1.16" or less, or nothing, it loads
// all requirements of all requirements; a module that says more is the end of
// its branch, unless that branch hangs below an older one (go.dev/ref/mod
// #graph-pruning). So only what is certain to be asked for is fetched: go.mod
// files, never zips.
type lookahead struct {
	s       *Server
	workers int
	queue   chan module.Version

	mu   sync.Mutex
	seen map[module.Version]bool // requirements are queued; bounded by maxSeen
}

const (
	// maxQueue bounds what waits. What does not fit is fetched when asked for.
	maxQueue = 8192
	maxSeen  = 100_000
)

func newLookahead(s *Server, workers int) *lookahead {
	l := &lookahead{s: s, workers: workers, seen: make(map[module.Version]bool)}
	if workers > 0 {
		l.queue = make(chan module.Version, maxQueue)
	}
	return l
}

// proven sees every go.mod that was fetched and proven, for a client or here.
func (l *lookahead) proven(m module.Version, data []byte) {
	if l.workers > 0 {
		l.expand(m, data, false)
	}
}

// expand queues what m requires, if the client will load that. below says that
// m is part of a branch that it loads whole.
func (l *lookahead) expand(m module.Version, data []byte, below bool) {
	f, err := modfile.ParseLax("go.mod", data, nil)
	if err != nil || !below && prunes(f) || l.known(m) {
		return
	}
	for _, r := range f.Require {
		select {
		case l.queue <- r.Mod:
		default:
			return
		}
	}
}

// known reports whether m was expanded before, and notes that it is now.
func (l *lookahead) known(m module.Version) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen[m] {
		return true
	}
	if len(l.seen) >= maxSeen {
		clear(l.seen)
	}
	l.seen[m] = true
	return false
}

// prunes reports whether the requirements of f are complete, so that the go
// command loads nothing below them: from go 1.17 on.
func prunes(f *modfile.File) bool {
	if f.Go == nil {
		return false
	}
	major, rest, _ := strings.Cut(f.Go.Version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	minor = minor[:len(minor)-len(strings.TrimLeft(minor, "0123456789"))]
	n, err := strconv.Atoi(minor)
	return major != "1" || err == nil && n >= 17
}

// run works until ctx ends.
func (l *lookahead) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range l.workers {
		wg.Go(func() {
			for {
				select {
				case m := <-l.queue:
					l.fetch(ctx, m)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
	<-ctx.Done()
}

// fetch gets the go.mod of m, as for a client that nobody else waits for. Its
// failure is the client's to see, if one asks.
func (l *lookahead) fetch(ctx context.Context, m module.Version) {
	name, err := fileName(m, KindMod)
	if err != nil {
		return
	}
	req, err := parse(name)
	if err != nil || l.s.cfg.Policy.Route(policy.Caller{}, m.Path).Place != policy.Public {
		return
	}
	if l.s.negative.fresh(name, l.s.cfg.NegativeTTL) {
		return
	}
	if obj, err := l.s.get(ctx, name); err == nil && obj.Attrs.SHA256 != "" {
		if data, err := obj.ReadAll(maxList); err == nil {
			l.expand(m, data, true)
		}
		return
	} else if err == nil {
		obj.Close()
	}
	f, _ := l.s.joinFill(req)
	defer l.s.flights.leave(f)
	if wait(ctx, f.done) == nil && f.err == nil {
		l.expand(m, f.body, true)
	}
}
