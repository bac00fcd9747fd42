package proxy

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"
)

// aliases remembers which of some tagged versions are the commit of a
// pseudo-version, so that a hit does not read an .info for each again. It is
// bounded: when it is full, all of it is forgotten.
type aliases struct {
	mu   sync.Mutex
	tags map[[sha256.Size]byte][]string
}

// maxAliases is the number of answers remembered.
const maxAliases = 10_000

func newAliases() *aliases { return &aliases{tags: make(map[[sha256.Size]byte][]string)} }

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

func (a *aliases) get(key [sha256.Size]byte) ([]string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	tags, ok := a.tags[key]
	return tags, ok
}

func (a *aliases) put(key [sha256.Size]byte, tags []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.tags) >= maxAliases {
		clear(a.tags)
	}
	a.tags[key] = tags
}

func (a *aliases) clear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.tags)
}

// aliasesOf returns those of versions, tagged ones of the same module, that are
// the commit of the pseudo-version of req. Nobody changes the result. One that the
// list names and whose .info cannot be had is an error, a tagError: it may be that
// commit. whole says that each could be looked at; what is not listed and does not
// exist is no tag.
func (s *Server) aliasesOf(ctx context.Context, req request, versions []string) (tags []string, whole bool, err error) {
	key := aliasKey(req.mod, versions)
	if tags, ok := s.aliases.get(key); ok {
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
		s.aliases.put(key, tags)
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
