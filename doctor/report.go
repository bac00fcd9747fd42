package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Report is what an examination has found. Its JSON form is for scripts: codes
// and field names stay.
type Report struct {
	// Subject is what was examined: a URL without user and password, or the
	// configuration of a server.
	Subject string `json:"subject"`
	// System is the operating system, and the other places this machine is.
	System []string `json:"system"`
	// Findings are those that matter most first: what fails before what only
	// could, and causes before their effects.
	Findings []Finding `json:"findings"`
	// Steps are all that was tried, in order.
	Steps []*Step `json:"steps"`

	chain []byte    // the certificates that were sent, PEM
	made  time.Time // by the clock of this machine

	open *Step       // the one that goes on
	over func() bool // nothing is found any more: there is no time for it; nil: there is
	late []*Step     // that were not finished
}

// Finding is one thing that is not as it should be, with what mends it.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Title    string   `json:"title"`
	Seen     string   `json:"seen"` // on this machine, now
	Cause    string   `json:"cause"`
	Mend     []string `json:"mend"` // for this system; the first is the one to do first
}

// Step is one thing that was tried.
type Step struct {
	Name    string   `json:"name"`
	Verdict Severity `json:"verdict"`
	Tried   string   `json:"tried"`
	Seen    []string `json:"seen,omitempty"`
	Codes   []Code   `json:"codes,omitempty"`
}

// saw notes something that was seen.
func (s *Step) saw(format string, args ...any) { s.Seen = append(s.Seen, fmt.Sprintf(format, args...)) }

// ExitStatus is 0 if all is well, 1 if something is not as its owner believes,
// and 2 if modules cannot be had.
func (r *Report) ExitStatus() int {
	status := 0
	for _, f := range r.Findings {
		switch f.Severity {
		case Fail:
			return 2
		case Warn:
			status = 1
		}
	}
	return status
}

// Codes returns the codes of all findings that are more than notes.
func (r *Report) Codes() []Code {
	var codes []Code
	for _, f := range r.Findings {
		if f.Severity != Note {
			codes = append(codes, f.Code)
		}
	}
	return codes
}

// step begins a step.
func (r *Report) step(name, tried string) *Step {
	r.close()
	s := &Step{Name: name, Tried: tried, Verdict: OK}
	r.Steps, r.open = append(r.Steps, s), s
	return s
}

// add notes a finding once, and for each step that it is about. What is found
// when the time is over is not noted: it may be no more than that.
func (r *Report) add(s *Step, f Finding) {
	if r.over != nil && r.over() {
		return
	}
	if !slices.ContainsFunc(r.Findings, f.same) {
		r.Findings = append(r.Findings, f)
	}
	s.mark(f)
}

// blame makes what was a warning the cause of a failure that came of it, to be
// mended first.
func (r *Report) blame(code Code) {
	for i := range r.Findings {
		if r.Findings[i].Code == code {
			r.Findings[i].Severity = Fail
		}
	}
}

// mark notes that a finding is about the step.
func (s *Step) mark(f Finding) {
	if !slices.Contains(s.Codes, f.Code) {
		s.Codes = append(s.Codes, f.Code)
	}
	if rank(f.Severity) < rank(s.Verdict) {
		s.Verdict = f.Severity
	}
}

// finish sorts the findings.
func (r *Report) finish() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(rank(a.Severity), rank(b.Severity)) })
}

func rank(s Severity) int { return slices.Index([]Severity{Fail, Warn, Note, OK, Skip}, s) }

// mask replaces each of the secrets wherever it stands in the report.
func (r *Report) mask(secrets []string) {
	clean := func(s *string) {
		for _, secret := range secrets {
			if len(secret) > 2 {
				*s = strings.ReplaceAll(*s, secret, "xxxxx")
			}
		}
	}
	clean(&r.Subject)
	for i := range r.Findings {
		f := &r.Findings[i]
		clean(&f.Title)
		clean(&f.Seen)
		for j := range f.Mend {
			clean(&f.Mend[j])
		}
	}
	for _, s := range r.Steps {
		clean(&s.Tried)
		for j := range s.Seen {
			clean(&s.Seen[j])
		}
	}
}

// WriteJSON writes the report for scripts.
func (r *Report) WriteJSON(w io.Writer) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(r)
}
