package policy

import (
	"errors"
	"fmt"
	"go/version"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// Range is a set of versions.
type Range struct {
	text  string
	terms []term // all must hold
}

// term is one condition of a Range.
type term struct {
	op      string // "<", "<=", ">", ">=", "=", or a word
	version string
	rev     string // of version, if that is a pseudo-version and op is "="
}

// Words that stand for a kind of version.
const (
	wordPseudo       = "pseudo"       // a commit without a tag
	wordIncompatible = "incompatible" // "+incompatible"
	wordPrerelease   = "prerelease"   // a tag with a pre-release part
)

// ParseRange reads a range: terms between spaces, all of which must hold. A
// term is a version ("v1.4.3", exactly that), a comparison ("<v1.4.3",
// ">=v1.2.0", also "<=", ">", "="), or one of the words pseudo, incompatible
// and prerelease. Versions are whole, and compared as semver.Compare does: a
// pseudo-version and a pre-release come before their release, and
// "+incompatible" makes no difference. In a rule, prerelease does not mean
// golang.org/toolchain, all of whose versions have the form of one.
func ParseRange(s string) (Range, error) {
	return parseRange(s, checkVersion, semver.Compare)
}

// parseToolchain reads a range of Go versions, as "<go1.26.6".
func parseToolchain(s string) (Range, error) {
	r, err := parseRange(s, func(v string) error {
		if !version.IsValid(v) {
			return fmt.Errorf("%q is not a Go version: write it as go1.26.6", clip(v, 40))
		}
		return nil
	}, version.Compare)
	for _, t := range r.terms {
		if err == nil && t.version == "" {
			err = fmt.Errorf("%q says nothing about a Go version", t.op)
		}
	}
	return r, err
}

func parseRange(s string, check func(string) error, compare func(v, w string) int) (Range, error) {
	r := Range{text: strings.Join(strings.Fields(s), " ")}
	words := strings.Fields(s)
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch w {
		case wordPseudo, wordIncompatible, wordPrerelease:
			r.terms = append(r.terms, term{op: w})
			continue
		case "<", "<=", ">", ">=", "=":
			if i+1 == len(words) {
				return Range{}, fmt.Errorf("a version is missing behind %q", w)
			}
			i++
			w += words[i]
		}
		t := splitTerm(w)
		if err := check(t.version); err != nil {
			return Range{}, err
		}
		if t.op == "=" && module.IsPseudoVersion(t.version) {
			t.rev, _ = module.PseudoVersionRev(t.version)
		}
		r.terms = append(r.terms, t)
	}
	if len(r.terms) == 0 {
		return Range{}, errors.New("the range is empty: write one as >=v1.2.0 <v1.4.3, or leave it out")
	}
	return r, r.possible(compare)
}

func splitTerm(w string) term {
	for _, op := range [...]string{"<=", ">=", "<", ">", "="} {
		if v, ok := strings.CutPrefix(w, op); ok {
			return term{op: op, version: v}
		}
	}
	return term{op: "=", version: w}
}

// checkVersion accepts whole versions only: v1.4 could be v1.4.0 or all of
// v1.4.
func checkVersion(v string) error {
	switch {
	case semver.IsValid("v" + v):
		return fmt.Errorf("%q lacks the v of Go versions: write v%s", clip(v, 40), clip(v, 40))
	case !semver.IsValid(v):
		return fmt.Errorf("%q is neither a version as v1.4.3 nor one of pseudo, incompatible, prerelease", clip(v, 40))
	case semver.Canonical(v)+semver.Build(v) != v:
		return fmt.Errorf("%q is not a whole version: write %s", clip(v, 40), semver.Canonical(v))
	case semver.Build(v) != "" && semver.Build(v) != "+incompatible":
		return fmt.Errorf("%q has build metadata, which no module version has", clip(v, 40))
	}
	return nil
}

// possible reports, as an error, that no version can be in r.
func (r Range) possible(compare func(v, w string) int) error {
	for _, a := range r.terms {
		for _, b := range r.terms {
			low, high := a.op == ">" || a.op == ">=" || a.op == "=", b.op == "<" || b.op == "<=" || b.op == "="
			if !low || !high {
				continue
			}
			c := compare(a.version, b.version)
			if c > 0 || c == 0 && (a.op == ">" || b.op == "<") {
				return fmt.Errorf("no version is in %q: %s%s and %s%s exclude each other", r.text, a.op, a.version, b.op, b.version)
			}
		}
	}
	return nil
}

// String returns the range as it was written.
func (r Range) String() string { return r.text }

// Contains reports whether v, a canonical version, is in r.
func (r Range) Contains(v string) bool {
	for _, t := range r.terms {
		if !t.holds(v, semver.Compare) {
			return false
		}
	}
	return true
}

// containsGo is Contains for Go versions.
func (r Range) containsGo(v string) bool {
	for _, t := range r.terms {
		if !t.holds(v, version.Compare) {
			return false
		}
	}
	return true
}

func (t term) holds(v string, compare func(v, w string) int) bool {
	switch t.op {
	case wordPseudo:
		return module.IsPseudoVersion(v)
	case wordIncompatible:
		return strings.HasSuffix(v, "+incompatible")
	case wordPrerelease:
		return semver.Prerelease(v) != "" && !module.IsPseudoVersion(v)
	case "=":
		if t.rev != "" && module.IsPseudoVersion(v) {
			// One commit has many pseudo-versions, by the tag they build on.
			rev, err := module.PseudoVersionRev(v)
			return err == nil && rev == t.rev
		}
		return compare(v, t.version) == 0
	}
	c := compare(v, t.version)
	return c < 0 && t.op[0] == '<' || c > 0 && t.op[0] == '>' || c == 0 && len(t.op) == 2
}

// within reports whether all versions in r are surely in wide.
func (r Range) within(wide Range) bool {
	return !slices.ContainsFunc(wide.terms, func(w term) bool {
		return !slices.ContainsFunc(r.terms, func(t term) bool { return t.implies(w) })
	})
}

// implies reports whether all versions for which t holds surely are such for which
// w holds. Of a pseudo-version, another name of its commit may be meant.
func (t term) implies(w term) bool {
	if t == w {
		return true
	}
	if t.version == "" || w.version == "" || t.rev != "" || w.rev != "" {
		return false
	}
	c := semver.Compare(t.version, w.version)
	switch {
	case t.op == "=":
		return w.holds(t.version, semver.Compare)
	case w.op == "=" || t.op[0] != w.op[0]:
		return false
	case t.op[0] == '<':
		return c < 0 || c == 0 && t.op == "<"
	}
	return c > 0 || c == 0 && t.op == ">"
}

// tagged reports whether r can contain a tagged version, whose commit has other
// names.
func (r Range) tagged() bool {
	for _, t := range r.terms {
		if t.op == wordPseudo || t.rev != "" {
			return false
		}
	}
	return true
}

// prerelease reports whether r is for pre-releases alone.
func (r Range) prerelease() bool {
	return slices.ContainsFunc(r.terms, func(t term) bool { return t.op == wordPrerelease })
}

// toolchainPath is the module whose versions are Go toolchains.
const toolchainPath = "golang.org/toolchain"

// toolchainVersion returns the Go version of a toolchain module, "go1.26.6" of
// v0.0.1-go1.26.6.linux-amd64 (go.dev/ref/mod#module-proxy has the form).
func toolchainVersion(m module.Version) (string, bool) {
	rest, ok := strings.CutPrefix(m.Version, "v0.0.1-")
	if !ok || m.Path != toolchainPath {
		return "", false
	}
	if i := strings.LastIndexByte(rest, '.'); i > 0 && strings.Contains(rest[i:], "-") {
		rest = rest[:i]
	}
	return rest, version.IsValid(rest)
}
