package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// A result is one row of a comparison.
type result struct {
	Title  string
	Unit   unit
	Series []series
	Checks []check
	Notes  []string
}

// A series is what one contender reached, once per round.
type series struct {
	Name    string
	Samples []float64
}

// A check holds a number, mostly a ratio of medians, against a bar.
type check struct {
	What   string // "modgate / direct"
	Value  float64
	Bar    float64
	AtMost bool // else at least
}

func (c check) ok() bool {
	if c.AtMost {
		return c.Value <= c.Bar
	}
	return c.Value >= c.Bar
}

func (c check) String() string {
	sign, verdict := "≥", "**FAIL**"
	if c.AtMost {
		sign = "≤"
	}
	if c.ok() {
		verdict = "pass"
	}
	return fmt.Sprintf("%s = %s (%s %s): %s", c.What, number(c.Value), sign, number(c.Bar), verdict)
}

// unit says how the samples of a row are printed.
type unit string

const (
	unitSeconds      unit = "s"
	unitPerSecond    unit = "1/s"
	unitCount        unit = "requests"
	unitMiB          unit = "MiB"
	unitPerCPUSecond unit = "1/s of processor time"
	unitPercent      unit = "% of the download time"
)

// of adds a sample to the series called name.
func (r *result) add(name string, v float64) {
	i := slices.IndexFunc(r.Series, func(s series) bool { return s.Name == name })
	if i < 0 {
		r.Series = append(r.Series, series{Name: name})
		i = len(r.Series) - 1
	}
	r.Series[i].Samples = append(r.Series[i].Samples, v)
}

// median returns the median of the series called name, NaN if there is none.
func (r *result) median(name string) float64 {
	for _, s := range r.Series {
		if s.Name == name {
			return median(s.Samples)
		}
	}
	return math.NaN()
}

// ratio adds the check that the median of a is at most, or at least, bar times
// that of b. Without both there is nothing to check.
func (r *result) ratio(a, b string, bar float64, atMost bool) {
	if v := r.median(a) / r.median(b); !math.IsNaN(v) {
		r.Checks = append(r.Checks, check{What: a + " / " + b, Value: v, Bar: bar, AtMost: atMost})
	}
}

// bound adds the check that the median of name is at most bar.
func (r *result) bound(name string, bar float64) {
	if v := r.median(name); !math.IsNaN(v) {
		r.Checks = append(r.Checks, check{What: name, Value: v, Bar: bar, AtMost: true})
	}
}

func (r *result) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// number prints v with three significant digits, or whole from 100 up.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.01:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.4f", v)
	}
}

// spread prints the median and, of several samples, the smallest and largest.
func spread(v []float64) string {
	if len(v) < 2 {
		return number(median(v))
	}
	return fmt.Sprintf("%s [%s–%s]", number(median(v)), number(slices.Min(v)), number(slices.Max(v)))
}

// header is what is said once above the table.
type header struct {
	Command, Machine, Workload, Upstream, Load string
	Date                                       time.Time
	Rounds                                     int
	Versions                                   []string // "goproxy v0.26.1"
}

// writeReport writes the whole report as Markdown.
func writeReport(w io.Writer, h header, results []result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Taken on %s by\n\n    %s\n\n", h.Date.UTC().Format("2006-01-02 15:04 MST"), h.Command)
	for _, kv := range [][2]string{
		{"machine", h.Machine}, {"workload", h.Workload}, {"upstream", h.Upstream},
		{"load generator", h.Load}, {"versions", strings.Join(h.Versions, "; ")},
		{"rounds", fmt.Sprintf("%d, contenders in turn; medians, [smallest–largest]", h.Rounds)},
	} {
		if kv[1] != "" {
			fmt.Fprintf(&b, "- %s: %s\n", kv[0], kv[1])
		}
	}
	names := contenders(results)
	b.WriteString("\n| what | unit |")
	for _, n := range names {
		b.WriteString(" " + n + " |")
	}
	b.WriteString(" bar |\n|" + strings.Repeat(" --- |", len(names)+3) + "\n")
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %s |", cell(r.Title), cell(string(r.Unit)))
		for _, n := range names {
			text := ""
			for _, s := range r.Series {
				if s.Name == n {
					text = spread(s.Samples)
				}
			}
			b.WriteString(" " + text + " |")
		}
		checks := make([]string, len(r.Checks))
		for i, c := range r.Checks {
			checks[i] = c.String()
		}
		fmt.Fprintf(&b, " %s |\n", cell(strings.Join(checks, "; ")))
	}
	for _, r := range results {
		for _, n := range r.Notes {
			fmt.Fprintf(&b, "\n%s: %s\n", r.Title, n)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// contenders returns the names of all series: references, modgate, peers.
func contenders(results []result) []string {
	var names []string
	for _, r := range results {
		for _, s := range r.Series {
			if !slices.Contains(names, s.Name) {
				names = append(names, s.Name)
			}
		}
	}
	fixed := []string{"goproxy", "modgate", bare, static, direct, "needed"} // what is not here comes last
	slices.SortStableFunc(names, func(a, b string) int { return slices.Index(fixed, b) - slices.Index(fixed, a) })
	return names
}

// cell makes s fit into one cell of a Markdown table.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s)
}
