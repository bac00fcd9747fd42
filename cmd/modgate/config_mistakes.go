package main

import (
	"errors"
	"fmt"
	"strings"
)

// mistake is one thing wrong with the configuration: where it stands, what it
// is, and what to do about it.
type mistake struct {
	key     string // "" where no key is concerned
	origin  string // file:line, --flag, VARIABLE or defaultOrigin
	value   string // as found
	problem string
	advice  string
	snippet string // lines of the file
}

// defaultOrigin is the origin of what is not set anywhere.
const defaultOrigin = "default"

// mistakes are all things wrong at once.
type mistakes []mistake

// add appends what err says about at, if there is an err; joined errors one by
// one.
func (m *mistakes) add(err error, at mistake) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			m.add(e, at)
		}
		return
	}
	at.problem = err.Error()
	if r := (*remedy)(nil); errors.As(err, &r) {
		at.problem, at.advice = fmt.Sprintf("%q %s", hideUserinfo(at.value), r.problem), r.advice
		if at.origin == defaultOrigin && at.value == "" {
			at.problem = r.problem // nobody has written ""
		}
	}
	*m = append(*m, at)
}

// Error returns a block of lines for each mistake.
func (m mistakes) Error() string {
	var b strings.Builder
	noun := "mistakes"
	if len(m) == 1 {
		noun = "mistake"
	}
	fmt.Fprintf(&b, "%d %s in the configuration", len(m), noun)
	for _, one := range m {
		switch {
		case one.key == "":
			b.WriteString("\n\n  " + one.origin)
		case one.origin == defaultOrigin:
			b.WriteString("\n\n  " + one.key + " (default)")
		default:
			b.WriteString("\n\n  " + one.origin + ": " + one.key)
		}
		b.WriteString(": " + hideUserinfo(one.problem))
		for line := range strings.Lines(one.snippet) {
			b.WriteString("\n    " + strings.TrimRight(hideUserinfo(line), "\n"))
		}
		if one.advice != "" {
			b.WriteString("\n  → " + one.advice)
		}
	}
	return b.String()
}

// nearest returns the name that is at most a third of its letters away from
// word, or "".
func nearest(word string, names []string) string {
	best, least := "", len(word)/3+1
	for _, name := range names {
		if d := distance(word, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
