// Command testreport reads the output of go test -json and prints what a
// person wants to read: one line per package, the whole output of what failed
// and, at the end, every test that was skipped with its reason. A test that is
// skipped in silence is a test that nobody has.
//
// The exit status is 1 if a test or a package failed and, with -strict, if a
// test was skipped because something it needs is not installed.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	strict := flag.Bool("strict", false, "a test skipped for want of a program is a failure")
	flag.Parse()
	ok, err := report(os.Stdin, os.Stdout, *strict)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// event is one line of go test -json (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// reporter keeps the output of what is still running.
type reporter struct {
	w       io.Writer
	output  map[string]*strings.Builder // by package, or package + " " + test
	tests   map[string]int              // finished tests by package
	skipped []skip
	wanting int // of skipped, that -strict refuses
	failed  []string
}

// skip is why tests of a package did not run.
type skip struct {
	pkg, reason string
	tests       []string
}

// report copies what matters of the events in r to w. It reports whether
// everything passed.
func report(r io.Reader, w io.Writer, strict bool) (bool, error) {
	p := &reporter{w: w, output: map[string]*strings.Builder{}, tests: map[string]int{}}
	in := bufio.NewReader(r)
	events := 0
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				w.Write(line) // go itself speaks, or a test wrote past its own end
			} else {
				events++
				p.event(e)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, err
		}
	}
	if events == 0 {
		return false, fmt.Errorf("no test events in the input")
	}
	p.summary()
	return len(p.failed) == 0 && (!strict || p.wanting == 0), nil
}

func (p *reporter) event(e event) {
	key := e.Package
	if e.Test != "" {
		key += " " + e.Test
	}
	switch e.Action {
	case "build-output":
		p.buffer(e.ImportPath).WriteString(e.Output)
	case "output":
		p.buffer(key).WriteString(e.Output)
	case "pass", "skip", "fail":
		if e.Test == "" {
			p.packageEnd(e)
		} else {
			p.testEnd(e, key)
		}
		delete(p.output, key)
	}
}

func (p *reporter) buffer(key string) *strings.Builder {
	b := p.output[key]
	if b == nil {
		b = new(strings.Builder)
		p.output[key] = b
	}
	return b
}

func (p *reporter) testEnd(e event, key string) {
	p.tests[e.Package]++
	switch e.Action {
	case "skip":
		reason := skipReason(p.buffer(key).String())
		p.skip(e.Package, e.Test, reason)
		if isWanting(reason) {
			p.wanting++
		}
	case "fail":
		p.failed = append(p.failed, key)
		fmt.Fprint(p.w, p.buffer(key).String())
	}
}

func (p *reporter) skip(pkg, test, reason string) {
	for i := range p.skipped {
		if s := &p.skipped[i]; s.pkg == pkg && s.reason == reason {
			s.tests = append(s.tests, test)
			return
		}
	}
	p.skipped = append(p.skipped, skip{pkg, reason, []string{test}})
}

func (p *reporter) packageEnd(e event) {
	switch {
	case e.Action == "fail":
		p.failed = append(p.failed, e.Package)
		if e.FailedBuild != "" {
			fmt.Fprint(p.w, p.buffer(e.FailedBuild).String())
		}
		// What was running when the package ended never got its own end.
		for key, b := range p.output {
			if strings.HasPrefix(key, e.Package+" ") {
				fmt.Fprint(p.w, b.String())
				delete(p.output, key)
			}
		}
		fmt.Fprint(p.w, p.buffer(e.Package).String())
		fmt.Fprintf(p.w, "FAIL  %s  %.1fs\n", e.Package, e.Elapsed)
	case e.Action == "skip" || p.tests[e.Package] == 0:
		fmt.Fprintf(p.w, "none  %s\n", e.Package)
	default:
		cached := ""
		if strings.Contains(p.buffer(e.Package).String(), "(cached)") {
			cached = ", cached"
		}
		fmt.Fprintf(p.w, "ok    %s  %.1fs, %d tests%s\n", e.Package, e.Elapsed, p.tests[e.Package], cached)
	}
}

func (p *reporter) summary() {
	for _, s := range p.skipped {
		more := ""
		if n := len(s.tests) - 1; n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(p.w, "skip  %s %s%s: %s\n", s.pkg, s.tests[0], more, s.reason)
	}
	if p.wanting > 0 {
		fmt.Fprintf(p.w, "skipped for want of something that can be installed: %d\n", p.wanting)
	}
	if len(p.failed) > 0 {
		fmt.Fprintf(p.w, "failed: %d\n", len(p.failed))
		for _, s := range p.failed {
			fmt.Fprintf(p.w, "  %s\n", s)
		}
	}
}

// skipReason takes the text of t.Skip out of a test's output: what follows the
// last "file.go:line: ".
func skipReason(output string) string {
	reason := "no reason given"
	for line := range strings.SplitSeq(output, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "=== ") {
			continue
		}
		if _, text, found := strings.Cut(line, ".go:"); found {
			if _, text, found = strings.Cut(text, ": "); found {
				line = text
			}
		}
		reason = line
	}
	return reason
}

// isWanting reports whether a test was skipped because of what the machine
// lacks. One that a variable switches on (MODGATE_…) or that -short leaves out
// was skipped on purpose.
func isWanting(reason string) bool {
	if strings.Contains(reason, "MODGATE_") {
		return false
	}
	for _, sign := range []string{"executable file not found", "not installed", "needs "} {
		if strings.Contains(reason, sign) {
			return true
		}
	}
	return false
}
