package policy

import (
	"time"

	"golang.org/x/mod/semver"
)

// Fact is a set of things that a decision may depend on and that cost
// something to find out. Facts.Known says which are there, Verdict.Wants which
// are missing.
type Fact uint8

const (
	// FactFirstSeen is Facts.FirstSeen, and Module.FirstSeen for Filter.
	FactFirstSeen Fact = 1 << iota
	// FactTags is Facts.Tags.
	FactTags
	// FactVersions is Module.Versions.
	FactVersions
	// FactNewest is what the go.mod of the newest version says.
	FactNewest
)

// Facts are what is known about a module version when a decision is due.
type Facts struct {
	// Now is the time of the decision. Zero: every exemption has expired.
	Now time.Time
	// Known says which of the fields below have been looked up.
	Known Fact
	// FirstSeen is when this installation first held the zip of the version;
	// zero if it never did. A go.mod says nothing: those of refused versions
	// are served too.
	FirstSeen time.Time
	// Tags are the tagged versions of the commit that a pseudo-version names.
	// What is refused to one of its names is refused to all of them.
	Tags []string
	// Module is what is known beyond the version; nil: nothing.
	Module *Module
}

// Module is what is known about a module. Nobody changes it once it is used.
type Module struct {
	// Versions that exist, in any order, without pseudo-versions.
	Versions []string
	// FirstSeen is Facts.FirstSeen of those that are held.
	FirstSeen map[string]time.Time
	// Newest is the version whose go.mod speaks for all of them: of all
	// versions that exist, allowed or not.
	Newest string
	// Retractions of that go.mod.
	Retractions []Retraction
	// Deprecated is that go.mod's deprecation message; empty: there is none.
	Deprecated string
}

// Retraction is a range of versions, both ends included, that the author has
// taken back.
type Retraction struct {
	Low, High string
	Rationale string
}

// retracted finds what takes version back.
func (m *Module) retracted(version string) (Retraction, bool) {
	for _, r := range m.Retractions {
		if semver.Compare(r.Low, version) <= 0 && semver.Compare(version, r.High) <= 0 {
			return r, true
		}
	}
	return Retraction{}, false
}

// Newest returns the version that the go command takes for the latest: the
// highest release, else the highest of all. One that is "+incompatible" comes
// last, as where a go.mod exists. Empty: there is none.
func Newest(versions []string) string {
	newest := ""
	for _, v := range versions {
		if newest == "" || newer(v, newest) {
			newest = v
		}
	}
	return newest
}

func newer(v, w string) bool {
	if a, b := rank(v), rank(w); a != b {
		return a > b
	}
	return semver.Compare(v, w) > 0
}

// rank orders what is preferred whatever its number is.
func rank(v string) int {
	r := 0
	if semver.Prerelease(v) == "" {
		r += 2
	}
	if semver.Build(v) == "" {
		r++
	}
	return r
}
