package policy

import (
	"fmt"

	"golang.org/x/mod/module"
)

// condition is one fact that a rule tests beside path, version and caller.
type condition interface {
	// test says whether the fact holds, or that it cannot be told from f.
	test(m module.Version, f Facts) truth
	// wants is what f must have for test.
	wants() Fact
	// words say what is tested, and found says what of it is so, for people.
	words() string
	found(m module.Version, f Facts) string
}

// truth is what is known of a condition.
type truth uint8

const (
	no truth = iota
	yes
	unknown
)

func isTrue(b bool) truth {
	if b {
		return yes
	}
	return no
}

// not prepends the word to the name of a condition that is wanted false.
func not(want bool, name string) string {
	if want {
		return name
	}
	return "not " + name
}

// retracted is the author's word on a version.
type retracted struct{ want bool }

func (c retracted) wants() Fact { return FactNewest }

func (c retracted) test(m module.Version, f Facts) truth {
	if f.Module == nil || f.Known&FactNewest == 0 {
		return unknown
	}
	_, is := f.Module.retracted(m.Version)
	return isTrue(is == c.want)
}

func (c retracted) words() string { return not(c.want, "retracted") }

func (c retracted) found(m module.Version, f Facts) string {
	if f.Module == nil || f.Known&FactNewest == 0 {
		return "the go.mod of the newest version is not known"
	}
	r, is := f.Module.retracted(m.Version)
	switch {
	case !is:
		return "not retracted by " + f.Module.Newest
	case r.Rationale == "":
		return "retracted by " + f.Module.Newest
	}
	return "retracted by " + f.Module.Newest + ": " + r.Rationale
}

// deprecated is the author's word on a module.
type deprecated struct{ want bool }

func (c deprecated) wants() Fact { return FactNewest }

func (c deprecated) test(_ module.Version, f Facts) truth {
	if f.Module == nil || f.Known&FactNewest == 0 {
		return unknown
	}
	return isTrue((f.Module.Deprecated != "") == c.want)
}

func (c deprecated) words() string { return not(c.want, "deprecated") }

func (c deprecated) found(_ module.Version, f Facts) string {
	switch {
	case f.Module == nil || f.Known&FactNewest == 0:
		return "the go.mod of the newest version is not known"
	case f.Module.Deprecated == "":
		return "not deprecated by " + f.Module.Newest
	}
	return "deprecated by " + f.Module.Newest + ": " + f.Module.Deprecated
}

// private is whether a path matches the configured patterns.
type private struct {
	want   bool
	policy *Policy
}

func (c private) wants() Fact { return 0 }

func (c private) test(m module.Version, _ Facts) truth {
	return isTrue(c.policy.IsPrivate(m.Path) == c.want)
}

func (c private) words() string { return not(c.want, "private") }

func (c private) found(m module.Version, _ Facts) string {
	return not(c.policy.IsPrivate(m.Path), "private")
}

// pseudo is whether a version names a commit without a tag.
type pseudo struct{ want bool }

func (c pseudo) wants() Fact { return 0 }

func (c pseudo) test(m module.Version, _ Facts) truth {
	return isTrue(module.IsPseudoVersion(m.Version) == c.want)
}

func (c pseudo) words() string { return not(c.want, "pseudo") }

func (c pseudo) found(m module.Version, _ Facts) string {
	return not(module.IsPseudoVersion(m.Version), "pseudo")
}

// toolchain is the Go version of a toolchain.
type toolchain struct{ in Range }

func (c toolchain) wants() Fact { return 0 }

func (c toolchain) test(m module.Version, _ Facts) truth {
	v, ok := toolchainVersion(m)
	return isTrue(ok && c.in.containsGo(v))
}

func (c toolchain) words() string { return "toolchain " + c.in.String() }

func (c toolchain) found(m module.Version, _ Facts) string {
	if v, ok := toolchainVersion(m); ok {
		return fmt.Sprintf("toolchain %s", v)
	}
	return "not a toolchain"
}
