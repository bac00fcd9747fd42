package doctor

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// WriteText writes the report for people: what to do first, each finding, then
// each step. color is for terminals.
func (r *Report) WriteText(w io.Writer, color bool) error {
	p := &printer{color: color}
	p.line("%s", p.paint(bold, "modgate doctor: "+r.Subject))
	p.line("")
	p.first(r)
	for _, f := range r.Findings {
		p.finding(f)
	}
	wide := 0
	for _, s := range r.Steps {
		wide = max(wide, utf8.RuneCountInString(s.Name))
	}
	for _, s := range r.Steps {
		p.step(s, wide)
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}

// ANSI colours.
const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	dim    = "\x1b[2m"
	plain  = "\x1b[0m"
)

type printer struct {
	b     strings.Builder
	color bool
}

func (p *printer) paint(color, s string) string {
	if !p.color {
		return s
	}
	return color + s + plain
}

func (p *printer) line(format string, args ...any) {
	p.b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " "))
	p.b.WriteByte('\n')
}

// sign is the mark in front of a finding or a step.
func (p *printer) sign(s Severity) string {
	switch s {
	case Fail:
		return p.paint(red, "✗")
	case Warn:
		return p.paint(yellow, "!")
	case Note:
		return p.paint(dim, "i")
	case Skip:
		return p.paint(dim, "-")
	default:
		return p.paint(green, "✓")
	}
}

// first says the one thing to do first.
func (p *printer) first(r *Report) {
	if r.ExitStatus() == 0 && slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Code == NotRunning }) {
		p.line("%s Nothing is wrong in what was checked: configuration, files, and the hosts below.", p.sign(OK))
		p.line("%s The running server was not asked: none answers.", p.sign(Note))
		p.line("")
		return
	}
	if r.ExitStatus() == 0 {
		p.line("%s All is well.", p.sign(OK))
		p.line("")
		return
	}
	f := r.Findings[0]
	p.line("%s %s", p.sign(f.Severity), p.paint(bold, f.Title))
	if len(f.Mend) > 0 {
		p.line("  Do this first: %s", pasted(f.Mend[0]))
	}
	p.line("")
}

func (p *printer) finding(f Finding) {
	p.line("%s %s  %s", p.sign(f.Severity), f.Title, p.paint(dim, "["+string(f.Code)+"]"))
	p.block("seen", f.Seen)
	p.block("why", f.Cause)
	for i, do := range f.Mend {
		label := "do"
		if i > 0 {
			label = ""
		}
		// Commands are not wrapped: they are there to be copied.
		p.line("    %-5s %s", label, pasted(do))
	}
	p.line("")
}

// pasted writes what is said of a command as a comment, which shells pass over.
func pasted(do string) string {
	command, note, noted := strings.Cut(do, "   (")
	note, closed := strings.CutSuffix(note, ")")
	if !noted || !closed {
		return do
	}
	return command + "   # " + note
}

func (p *printer) step(s *Step, wide int) {
	p.line("%s %-*s  %s", p.sign(s.Verdict), wide, s.Name, s.Tried)
	for _, seen := range s.Seen {
		for line := range strings.Lines(seen) {
			p.line("  %-*s    %s", wide, "", p.paint(dim, strings.TrimSuffix(line, "\n")))
		}
	}
}

// block writes text of several lines, wrapped, beside a label.
func (p *printer) block(label, text string) {
	if text == "" {
		return
	}
	for i, line := range wrap(text, 96) {
		if i > 0 {
			label = ""
		}
		p.line("    %-5s %s", label, line)
	}
}

// counted is n things: 1 client, 2 clients.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// wrap breaks text at spaces into lines of at most n runes where it can.
func wrap(text string, n int) []string {
	var lines []string
	for paragraph := range strings.SplitSeq(text, "\n") {
		line := ""
		for word := range strings.FieldsSeq(paragraph) {
			if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > n {
				lines, line = append(lines, line), ""
			}
			if line != "" {
				line += " "
			}
			line += word
		}
		lines = append(lines, line)
	}
	return lines
}
