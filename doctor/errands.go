package doctor

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// grace is how long past the deadline errands are waited for that end with it, half
// of it those that an errand has begun.
const grace = 400 * time.Millisecond

// errand is one part of an examination. It goes on beside others, and writes a
// report of its own.
type errand struct {
	about string // what stands in the report if it does not even end when it must
	do    func(ctx context.Context, part *Server)
	whole bool // it was asked for, and takes the time that it needs

	part *Server
	done chan struct{}   // closed at its end
	over <-chan struct{} // closed when its time is over
}

func newErrand(about string, do func(ctx context.Context, part *Server)) *errand {
	return &errand{about: about, do: do, done: make(chan struct{})}
}

// wait waits until an errand has ended, so that what it has learnt can be read.
// It reports false if the time is over first.
func (e *errand) wait(ctx context.Context) bool {
	select {
	case <-e.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// part returns a Server that knows what s does, and has a report of its own.
func (s *Server) part(ctx context.Context) *Server {
	part, base := *s, *s.base
	part.grace /= 2
	base.report, base.secrets = &Report{over: overWith(ctx)}, nil
	part.base = &base
	return &part
}

// overWith returns what says whether the time of ctx is over. A step that ends a
// moment earlier was ended by it as well: timers are not exact.
func overWith(ctx context.Context) func() bool {
	until, bounded := ctx.Deadline()
	return func() bool { return ctx.Err() != nil || bounded && time.Until(until) < 20*time.Millisecond }
}

// begin starts errands, which go on side by side until ctx ends.
func (s *Server) begin(ctx context.Context, errands ...*errand) {
	s.base.report.close()
	for _, e := range errands {
		e.part, e.over = s.part(ctx), ctx.Done()
		go func() {
			defer close(e.done)
			e.do(ctx, e.part)
			e.part.base.report.close()
		}()
	}
}

// end waits for errands, and joins their reports in their order. It returns soon
// after their time is over, whatever they wait for.
func (s *Server) end(errands ...*errand) {
	left := s.grace
	for _, e := range errands {
		select {
		case <-e.done:
		case <-e.over:
			start := time.Now()
			select {
			case <-e.done:
			case <-time.After(left):
			}
			left = max(time.Millisecond, left-time.Since(start))
		}
		if e.ended() {
			s.join(e.part)
			continue
		}
		// It hangs in a call that knows no context, and ends with the process.
		r := s.base.report
		step := r.step(e.about, "nothing more, as something does not return")
		step.Verdict = Skip
		r.leave(step)
	}
}

// ended reports whether what an errand has learnt can be read.
func (e *errand) ended() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// join puts the report of a part behind ours.
func (s *Server) join(part *Server) {
	from, to := part.base.report, s.base.report
	to.Steps = append(to.Steps, from.Steps...)
	to.late = append(to.late, from.late...)
	for _, f := range from.Findings {
		clock := func(old Finding) bool { return f.Code == ClockWrong && old.Code == ClockWrong } // by a second more
		if !slices.ContainsFunc(to.Findings, clock) && !slices.ContainsFunc(to.Findings, f.same) {
			to.Findings = append(to.Findings, f)
		}
	}
	s.base.secrets = append(s.base.secrets, part.base.secrets...)
}

// same reports whether two findings are told as one.
func (f Finding) same(other Finding) bool { return f.Code == other.Code && f.Title == other.Title }

// close ends the step that was begun last, or notes that the time has ended it.
func (r *Report) close() {
	if s := r.open; s != nil && s.Verdict != Skip && r.over != nil && r.over() {
		r.leave(s)
	}
	r.open = nil
}

// leave notes that a step was not finished.
func (r *Report) leave(s *Step) {
	s.saw("not finished in time")
	r.late = append(r.late, s)
}

// tellLate notes that steps were not finished, if there are any.
func (d *Doctor) tellLate(took time.Duration) {
	r := d.report
	r.close()
	r.over = nil // what is noted from now on is known
	var names []string
	for _, s := range r.late {
		if name := strings.TrimSpace(s.Name); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, s := range r.late {
		d.found(s, Unfinished, strings.Join(names, ", "), "value", took.Round(time.Second).String())
	}
}

// each calls f for all, side by side, and returns what it returned for each.
func each[T, R any](all []T, f func(T) R) []R {
	results := make([]R, len(all))
	var calls sync.WaitGroup
	for i, one := range all {
		calls.Go(func() { results[i] = f(one) })
	}
	calls.Wait()
	return results
}
