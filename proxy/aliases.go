package proxy

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"
)

// aliases remembers which of some tagged versions are the commit of a
// pseudo-version, so that a hit does not read an .info for each again. It is
// bounded, in number and in time: when it is full, all of it is forgotten. What
// is removed of a module, here or by another server of the fleet, makes it forget
// that module.
type aliases struct {
	mu sync.Mutex
	// by module path, and the question
	about map[string]map[[sha256.Size]byte]alias
	size  int
	// forgotten counts how often something was: what was read before is not
	// remembered after.
	forgotten int
}

type alias struct {
	tags  []string
	until time.Time
}

const (
	// maxAliases is the number of answers remembered.
	maxAliases = 10_000
	// aliasesFor is how long: nobody may have told this server of what was
	// removed. The memory of small files forgets as soon.
	aliasesFor = 15 * time.Minute
)

func newAliases() *aliases {
	return &aliases{about: make(map[string]map[[sha256.Size]byte]alias)}
}

// aliasKey is the question which of versions are the commit of m.
func aliasKey(m module.Version, versions []string) (key [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte(m.String()))
	for _, v := range versions {
		h.Write([]byte("\n" + v))
	}
	h.Sum(key[:0])
	return key
}

// get returns the remembered answer for the module path. If there is none, put
// takes began for what is read from now on.
func (a *aliases) get(path string, key [sha256.Size]byte) (tags []string, ok bool, began int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if found, ok := a.about[path][key]; ok && time.Now().Before(found.until) {
		return found.tags, true, a.forgotten
	}
	return nil, false, a.forgotten
}

func (a *aliases) put(path string, key [sha256.Size]byte, tags []string, began int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.forgotten != began {
		return
	}
	if a.size >= maxAliases {
		clear(a.about)
		a.size = 0
	}
	of := a.about[path]
	if of == nil {
		of = make(map[[sha256.Size]byte]alias)
		a.about[path] = of
	}
	a.size -= len(of)
	of[key] = alias{tags, time.Now().Add(aliasesFor)}
	a.size += len(of)
}

func (a *aliases) forget(path string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.size -= len(a.about[path])
	delete(a.about, path)
	a.forgotten++
}

func (a *aliases) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.about)
	a.size = 0
	a.forgotten++
}

// aliasesOf returns those of versions, tagged ones of the same module, that are
// the commit of the pseudo-version of req. Nobody changes the result. One that the
// list names and whose .info cannot be had is an error, a tagError: it may be that
// commit. whole says that each could be looked at; what is not listed and does not
// exist is no tag.
func (s *Server) aliasesOf(ctx context.Context, req request, versions []string) (tags []string, whole bool, err error) {
	key := aliasKey(req.mod, versions)
	tags, ok, began := s.aliases.get(req.mod.Path, key)
	if ok {
		return tags, true, nil
	}
	rev, err := module.PseudoVersionRev(req.mod.Version)
	if err != nil {
		return nil, false, err
	}
	at, err := module.PseudoVersionTime(req.mod.Version)
	if err != nil {
		return nil, false, err
	}
	var (
		group errgroup.Group
		mu    sync.Mutex
	)
	whole = true
	group.SetLimit(8)
	for _, version := range versions {
		group.Go(func() error {
			body, err := s.read(ctx, req.sibling(KindInfo, version))
			absent := errors.Is(err, fs.ErrNotExist) && !s.listed(ctx, req, version)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case absent:
				whole = false // it may be there tomorrow
			case err != nil:
				return &tagError{version, err}
			case sameCommit(body, rev, at):
				tags = append(tags, version)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, false, err
	}
	slices.Sort(tags)
	if whole {
		s.aliases.put(req.mod.Path, key, tags, began)
	}
	return tags, whole, nil
}

// tagError says that nobody can tell of which commit a refused tag is.
type tagError struct {
	tag string
	err error
}

func (e *tagError) Error() string {
	return "the commit of the refused tag " + e.tag + ": " + e.err.Error()
}
func (e *tagError) Unwrap() error { return e.err }

// Refused implements what isRefused looks for: to try again soon does not help
// where there is an answer, which is no.
func (e *tagError) Refused() bool { return errors.Is(e.err, fs.ErrNotExist) || isRefused(e.err) }

// Public is what a client reads of it.
func (e *tagError) Public() string {
	why, _, _ := strings.Cut(publicText(e.err, "refused"), "\n")
	if errors.Is(e.err, fs.ErrNotExist) {
		why = "it is listed, and yet not found"
	}
	return "the commit of the refused tag " + e.tag + " (" + why + ")"
}
