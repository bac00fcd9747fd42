package doctor

import (
	"regexp"
	"slices"
	"strings"
)

// Severity says how much a finding matters. It is also the verdict on a step.
type Severity string

// The severities. Only the first two change the exit status.
const (
	Fail Severity = "fail" // modules cannot be had, or not safely
	Warn Severity = "warn" // it works, but not as its owner believes
	Note Severity = "note" // good to know; nothing need be done
	OK   Severity = "ok"   // of a step in which nothing was found
	Skip Severity = "skip" // of a step that something before it made pointless
)

// Code names a finding. Codes are never renamed and never used for another
// thing.
type Code string

// Entry is what is known of one finding.
type Entry struct {
	Code     Code
	Severity Severity
	// Title is one sentence for people who know neither TLS nor DNS.
	Title string
	// Symptom is what the go command prints, without the part that names the
	// module and the address; "" if it prints nothing. Words in braces stand
	// for what differs from case to case. Each line is a message of its own.
	Symptom string
	// Cause says how it comes to this.
	Cause string
	// Mend has the steps in the order in which they should be tried.
	Mend []Remedy
}

// symptoms returns the messages of which the go command prints one.
func (e Entry) symptoms() []string {
	return strings.FieldsFunc(e.Symptom, func(c rune) bool { return c == '\n' })
}

// Remedy is one step that mends something: a command, or a sentence. Words in
// braces are replaced by what was found: host, port, url, machine, file,
// key, value, variable, advice, and by what fits the settings of the machine:
// command, setting, nosumdb, noproxy, bypass.
type Remedy struct {
	On Place
	Do string
}

// Place is where a remedy applies.
type Place string

// The places. A machine can be several: a job of GitLab in a container of Alpine.
const (
	Anywhere   Place = ""
	Debian     Place = "Debian, Ubuntu"
	Alpine     Place = "Alpine"
	RHEL       Place = "RHEL, Fedora"
	Linux      Place = "Linux"
	MacOS      Place = "macOS"
	Windows    Place = "Windows"
	Docker     Place = "Docker"
	GitHub     Place = "GitHub Actions"
	GitLab     Place = "GitLab CI"
	Kubernetes Place = "Kubernetes"
	OnServer   Place = "the machine of a modgate server"

	// Where the value of a variable is from decides what changes it.
	InEnvironment Place = "set in the environment"
	ByGoEnv       Place = "set by go env -w, or a default"
	InGoroot      Place = "set in GOROOT/go.env"

	// Fitted is for a command that is made of what is set: {command}.
	Fitted Place = "made of what is set there"

	// AsTold is for what the other side says is to be done: {advice}.
	AsTold Place = "where it says what to do"
)

// conditionally begins a place that stands for a kind of the trouble, which
// comes with the finding as the word where.
const conditionally = "for "

// of is the place of remedies for one kind of the trouble.
func of(kind string) Place { return Place(conditionally + kind) }

// setTo are the remedies that give a variable of the go command a value.
func setTo(name, value string) []Remedy {
	return []Remedy{{InEnvironment, "export " + name + "=" + value}, {ByGoEnv, "go env -w " + name + "=" + value}, {InGoroot, "go env -w " + name + "=" + value}}
}

// unset are the remedies that take the value of a variable away. An empty value by
// go env -w hides the one of GOROOT/go.env.
func unset(name string) []Remedy {
	return []Remedy{{InEnvironment, "unset " + name}, {ByGoEnv, "go env -u " + name}, {InGoroot, "go env -w " + name + "="}}
}

// unshown is the kind of values that hold what must not be printed.
const unshown = "a value that is not shown"

// fitted is a remedy whose command is made of what is set, with the sentence that
// stands for it where that cannot be shown.
func fitted(instead string) []Remedy { return []Remedy{{Fitted, "{command}"}, {of(unshown), instead}} }

// also appends further remedies.
func also(first []Remedy, more ...Remedy) []Remedy { return append(first, more...) }

// Table returns all findings that there are, in the order of the steps.
func Table() []Entry {
	return slices.Concat(environmentTable, settingsTable, trustTable, networkTable, tlsTable, handshakeTable, httpTable, protocolTable, serverTable, acmeTable, liveTable)
}

// lookup returns the entry of code. Every code in this package has one.
func lookup(code Code) Entry {
	all := Table()
	i := slices.IndexFunc(all, func(e Entry) bool { return e.Code == code })
	if i < 0 {
		return Entry{Code: code, Severity: Fail, Title: string(code)}
	}
	return all[i]
}

var brace = regexp.MustCompile(`\{[a-z]+\}`)

// fill replaces the words in braces. One that is not known stands there in
// capitals, as a person would write what is to be put in.
func fill(text string, with map[string]string) string {
	return brace.ReplaceAllStringFunc(text, func(word string) string {
		name := strings.Trim(word, "{}")
		if value := with[name]; value != "" {
			return value
		}
		return strings.ToUpper(name)
	})
}
