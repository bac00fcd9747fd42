package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far a long command is: as a bar on a terminal, else as a
// line now and then, fit for the log of a CI job. Safe for concurrent use.
type progress struct {
	w     io.Writer
	what  string
	total int
	every time.Duration            // between lines
	bar   *progressbar.ProgressBar // nil where w is no terminal

	mu   sync.Mutex // guards what follows, and writing to w
	done int
	next time.Time
}

// lineEvery is the time between lines where there is no bar.
const lineEvery = 5 * time.Second

// newProgress starts showing; total -1 is unknown.
func newProgress(w io.Writer, what string, total int) *progress {
	p := &progress{w: w, what: what, total: total, every: lineEvery, next: time.Now().Add(lineEvery)}
	if isTerminal(w) {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(w),
			progressbar.OptionSetDescription(what),
			progressbar.OptionShowCount(),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish())
	}
	return p
}

// step counts one more.
func (p *progress) step() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if p.bar != nil {
		p.bar.Add(1)
		return
	}
	if now := time.Now(); now.After(p.next) {
		p.next = now.Add(p.every)
		p.line()
	}
}

// end removes the bar.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Finish()
	}
}

func (p *progress) line() {
	if p.total < 0 {
		fmt.Fprintf(p.w, "%s: %d\n", p.what, p.done)
		return
	}
	fmt.Fprintf(p.w, "%s: %d of %d\n", p.what, p.done, p.total)
}

// isTerminal reports whether a person sees w at once.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}
