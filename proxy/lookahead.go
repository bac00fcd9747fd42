package proxy

import (
	"context"
	"hash/maphash"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"github.com/modgate/modgate/policy"
)

// lookahead fetches the small files that a client is about to ask for.
//
// The go command loads the module graph with as many workers as it has cores,
// each waiting for one file: with two cores and a far upstream it is waiting
// most of the time. But what it will ask for next stands in the go.mod that it
// just got. Below a module that says "go 1.16" or less, or nothing, it loads
// all requirements of all requirements; a module that says more is the end of
// its branch, unless that branch hangs below an older one (go.dev/ref/mod
// #graph-pruning). Only that is fetched: go.mod files that the client will ask
// for unless its main module replaces or excludes them, and never a zip. (One
// level below the others would bring 71 of the 180 go.mod files that a client
// of hugo's graph still waits for, and 265 that nobody asks for, each with a
// lookup and a tile.)
//
// And it fetches the .info files of a client that has begun to ask for them;
// see waited.
type lookahead struct {
	s       *Server
	workers int
	queue   chan ahead
	waited  waited

	seed maphash.Seed
	mu   sync.Mutex
	seen map[uint64]bool // by hash: requirements are queued; bounded by maxSeen
}

// ahead is a .info to fetch, or a go.mod to fetch or, with data, to look into.
type ahead struct {
	mod    module.Version
	info   bool
	data   []byte
	below  bool          // it is part of a branch that the client loads whole
	budget *atomic.Int64 // how many more may be fetched for one request
}

const (
	// maxQueue bounds what waits. What does not fit is fetched when asked for.
	maxQueue = 8192
	maxSeen  = 100_000
	// maxAhead bounds what one request can cause: ten times hugo's graph.
	maxAhead = 8192
	// maxAheadMod is the size up to which a go.mod is looked into, in bytes.
	maxAheadMod = 256 << 10
)

func newLookahead(s *Server, workers int) *lookahead {
	l := &lookahead{s: s, workers: workers, seed: maphash.MakeSeed(), seen: make(map[uint64]bool)}
	if workers > 0 {
		l.queue = make(chan ahead, maxQueue)
	}
	return l
}

// proven sees every go.mod that was fetched and proven, for a client or here.
func (l *lookahead) proven(m module.Version, data []byte) {
	if l.workers > 0 && len(data) <= maxAheadMod {
		budget := new(atomic.Int64)
		budget.Store(maxAhead)
		l.add(ahead{mod: m, data: data, budget: budget})
	}
}

// answered sees the kinds of files that clients have waited for and got.
func (l *lookahead) answered(req request) {
	if l.workers > 0 && req.kind == KindMod && req.from == l.s.public {
		l.waited.note(req.mod)
	}
}

// missed sees what a client asks for and is not here.
func (l *lookahead) missed(req request) {
	if l.workers == 0 || req.kind != KindInfo || req.from != l.s.public {
		return
	}
	for _, m := range l.waited.take(req.mod) {
		l.add(ahead{mod: m, info: true})
	}
}

// add queues a, if there is room.
func (l *lookahead) add(a ahead) {
	select {
	case l.queue <- a:
	default:
	}
}

// expand queues what a requires, if the client will load that.
func (l *lookahead) expand(a ahead) {
	f, err := modfile.ParseLax("go.mod", a.data, nil)
	if err != nil || !a.below && prunes(f) || l.known(a.mod) {
		return
	}
	for _, r := range f.Require {
		if a.budget.Add(-1) < 0 {
			return
		}
		l.add(ahead{mod: r.Mod, below: true, budget: a.budget})
	}
}

// known reports whether m was expanded before, and notes that it is now.
func (l *lookahead) known(m module.Version) bool {
	key := maphash.Comparable(l.seed, m)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen[key] {
		return true
	}
	if len(l.seen) >= maxSeen {
		clear(l.seen)
	}
	l.seen[key] = true
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
				case a := <-l.queue:
					l.work(ctx, a)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
	<-ctx.Done()
}

// work does one thing from the queue. What an upstream sends must not be able to
// end the server.
func (l *lookahead) work(ctx context.Context, a ahead) {
	defer func() {
		if p := recover(); p != nil {
			l.s.log.Error("looking ahead has panicked: please report this", "module", a.mod.String(), "panic", p, "stack", string(debug.Stack()))
		}
	}()
	if a.info {
		l.fetch(ctx, a.mod, KindInfo)
		return
	}
	if a.data == nil {
		a.data = l.fetch(ctx, a.mod, KindMod)
	}
	if a.data != nil && len(a.data) <= maxAheadMod {
		l.expand(a)
	}
}

// fetch gets a small file of m, as for a client that nobody else waits for. Its
// failure is the client's to see, if one asks: then nil is returned.
func (l *lookahead) fetch(ctx context.Context, m module.Version, kind string) []byte {
	name, err := fileName(m, kind)
	if err != nil {
		return nil
	}
	req, err := parse(name)
	if err != nil || l.s.cfg.Policy.Route(policy.Caller{}, m.Path).Place != policy.Public {
		return nil
	}
	req.from = l.s.public
	if l.s.negative.fresh(name, l.s.public.negative) {
		return nil
	}
	if obj, err := l.s.get(ctx, name); err == nil && obj.Attrs.SHA256 != "" {
		data, err := obj.ReadAll(modzip.MaxGoMod)
		if err != nil {
			return nil
		}
		return data
	} else if err == nil {
		obj.Close()
	}
	f, _ := l.s.joinFill(req)
	defer l.s.flights.leave(f)
	if wait(ctx, f.done) != nil || f.err != nil {
		return nil
	}
	return f.body
}
