package proxy

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/module"
)

const (
	// maxWaited is how many go.mod files are remembered: ten times those that
	// the build of hugo names.
	maxWaited = 2048
	// waitedFor is how long. Between the go.mod files of a graph and the first
	// .info the go command does nothing but compute.
	waitedFor = 5 * time.Minute
)

// waited are the versions whose go.mod a client has lately waited for, oldest
// first: not those that were here, nor those that look-ahead has brought. In a
// cold run they are what the go.mod of the client itself requires, and that is
// what "go mod download" and "go list -m all" ask the .info of: all of them, one
// after the other, before the first zip. With hugo's graph they are 180 of the 702
// go.mod files, all among the 185 whose .info is asked for; on a busy machine,
// where look-ahead comes late, up to three more.
//
// But "go build" asks for none. So nothing is fetched before the first .info
// of one of them has been asked for.
type waited struct {
	mu   sync.Mutex
	list []waitedMod
}

type waitedMod struct {
	mod module.Version
	at  time.Time
}

// note remembers that a client has waited for the go.mod of m.
func (w *waited) note(m module.Version) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) >= maxWaited {
		w.list = append(w.list[:0], w.list[maxWaited/2:]...)
	}
	w.list = append(w.list, waitedMod{m, time.Now()})
}

// take returns the others once a client asks for the .info of one, m, and
// forgets them; none if m is none of them.
func (w *waited) take(m module.Version) []module.Version {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	recent := func(x waitedMod) bool { return now.Sub(x.at) < waitedFor }
	if !slices.ContainsFunc(w.list, func(x waitedMod) bool { return x.mod == m && recent(x) }) {
		return nil
	}
	var others []module.Version
	seen := map[module.Version]bool{m: true}
	for _, x := range w.list {
		if !seen[x.mod] && recent(x) {
			seen[x.mod] = true
			others = append(others, x.mod)
		}
	}
	w.list = nil
	return others
}
