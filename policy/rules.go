package policy

import "fmt"

// Rules are the content of a rule file, as it was written: New reads and checks
// every text in it. The zero value allows everything.
type Rules struct {
	// Default is what happens to a version that no rule allows or denies:
	// "allow" or "deny" (an allow list). Default: "allow".
	Default string
	// Reason, Link and Owner are for what Default denies, and for rules that
	// have none of their own.
	Reason, Link, Owner string
	// Rules are tried in order. The first that applies and says allow or deny
	// ends the search; one that says warn or audit is noted on the way.
	Rules []Rule
}

// Rule is one rule. It applies to a version if all that it says holds. A field
// that is empty says nothing.
type Rule struct {
	// Line of the file that the rule begins on; 0: unknown.
	Line int
	// Name identifies the rule in refusals and logs: letters, digits, "-", "_"
	// and ".". Required, and unique in the file.
	Name string
	// Modules are patterns as in GOPRIVATE: globs matched against prefixes of
	// the module path. What restricts takes no account of case, because the
	// large code hosts do not either; what allows does.
	Modules []string
	// Versions are alternatives, each a range as ParseRange describes it.
	Versions []string
	// When are facts that must hold as well.
	When When
	// Groups are whom the rule is for: callers who are in one of them.
	Groups []string
	// AppliesTo is "all" or "new": only what was never served here before.
	// Default: "all".
	AppliesTo string
	// Since makes "new" mean "not served here before this day"
	// ("2026-11-22", UTC), so that what one group was given is not old for the
	// others at once. Default: whatever has been served is old.
	Since string
	// Action is "allow", "deny", "warn" (served, and noted for good) or "audit"
	// (served, and noted as what a deny would refuse). Required.
	Action string
	// Strict refuses the go.mod too. That is for malware: it breaks go mod tidy
	// for whoever has the version in the module graph, used or not. For deny.
	Strict bool
	// Reason is what a developer reads. Required for deny.
	Reason string
	// Link leads to more, an http or https URL.
	Link string
	// Owner is whom to ask, as "security@corp.example".
	Owner string
	// Exemptions are what the rule does not apply to, for a time.
	Exemptions []Exemption
}

// When are facts about a version. A nil or empty field says nothing; "false" is
// the opposite of "true".
type When struct {
	// Retracted by its author, in the go.mod of the newest version.
	Retracted *bool
	// Deprecated is the module, in the go.mod of the newest version.
	Deprecated *bool
	// Private is the path, by the configuration of this server.
	Private *bool
	// Pseudo is the version: a commit without a tag.
	Pseudo *bool
	// Toolchain is a range of Go versions, "<go1.26.6": the version is a
	// toolchain (golang.org/toolchain) in that range.
	Toolchain string
}

// Exemption takes versions out of one rule until it expires. A field that is
// empty says nothing.
type Exemption struct {
	// Line of the file that the exemption begins on; 0: unknown.
	Line int
	// Modules, Versions and Groups are as in Rule.
	Modules, Versions, Groups []string
	// Reason says why, Approver who agreed. Required.
	Reason, Approver string
	// Expires is the last day that it counts ("2027-01-31", in UTC), or an
	// instant (RFC 3339). Required.
	Expires string
}

// Action is what a rule does to what it applies to. The greater is the
// stricter.
type Action uint8

const (
	Allow Action = iota
	Audit        // served; a deny would have refused it
	Warn         // served, and noted
	Deny
)

var actionNames = [...]string{"allow", "audit", "warn", "deny"}

// String returns the word of the rule file.
func (a Action) String() string { return actionNames[a] }

// MarshalText is String for encoders.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (a *Action) UnmarshalText(text []byte) error {
	var ok bool
	if *a, ok = parseAction(string(text)); !ok {
		return fmt.Errorf("%q is not an action", clip(string(text), 40))
	}
	return nil
}

// parseAction reads the word of a rule file.
func parseAction(s string) (Action, bool) {
	for i, name := range actionNames {
		if s == name {
			return Action(i), true
		}
	}
	return Allow, false
}

// Mistake is what is wrong, or doubtful, in a rule file.
type Mistake struct {
	// Line of the rule or exemption; 0: unknown.
	Line int
	// Path leads to the value, as in "rules[2].versions[0]".
	Path string
	// Problem and Advice are what is wrong and what to do.
	Problem, Advice string
}

// Error returns all of it in one line.
func (m *Mistake) Error() string {
	s := m.Path + ": " + m.Problem
	if m.Line > 0 {
		s = fmt.Sprintf("line %d: %s", m.Line, s)
	}
	if m.Advice != "" {
		s += ": " + m.Advice
	}
	return s
}
