package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reloadEvery is how often files are looked at for changes. They are read, not
// watched: Kubernetes changes a mounted file by swapping a symbolic link two
// levels above it, and network file systems tell nobody.
const reloadEvery = 5 * time.Second

// reloads keeps what was made from files up to date with them. A file that
// cannot be read or has mistakes changes nothing: what was made from it before
// stays, and an alarm is raised until it is mended.
type reloads struct {
	log    *slog.Logger
	failed *prometheus.GaugeVec // by key of the configuration
	now    chan struct{}        // asks for a look before its time
	files  []*reloadable
	mu     sync.Mutex // guards broken and since of files
}

// reloadable is one file.
type reloadable struct {
	key, path string
	apply     func(data []byte) error
	seen      []byte // what apply was last given, well or not
	broken    string // why it could not be read or applied, "" if it could
	since     time.Time
}

// failedReload is a file that cannot be used as it is now.
type failedReload struct {
	Key   string    `json:"key"`
	File  string    `json:"file"`
	Error string    `json:"error"` // its first line: the next ones may show what stands in the file
	Since time.Time `json:"since"`
}

func newReloads(log *slog.Logger) *reloads {
	return &reloads{
		log: log,
		failed: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "modgate_reload_failed",
			Help: "1 while a file of the configuration (by key) cannot be used as it is now, and what it was before stays in force.",
		}, []string{"key"}),
		now: make(chan struct{}, 1),
	}
}

// add reads the file that key names, gives it to apply, and from then on again
// whenever it has changed. Its first failure is an error.
func (r *reloads) add(key, path string, apply func(data []byte) error) error {
	f := &reloadable{key: key, path: path, apply: apply}
	data, err := readNamed(path)
	if err == nil {
		f.seen = data
		err = apply(data)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	r.failed.WithLabelValues(key).Set(0)
	r.files = append(r.files, f)
	return nil
}

// ask asks for a look at all files now. It reports false if there are none.
func (r *reloads) ask() bool {
	select {
	case r.now <- struct{}{}:
	default: // it is asked already
	}
	return len(r.files) > 0
}

// run looks at the files until ctx ends.
func (r *reloads) run(ctx context.Context) error {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.now:
		}
		for _, f := range r.files {
			r.look(f)
		}
	}
}

// look applies f if it has changed.
func (r *reloads) look(f *reloadable) {
	data, err := readBounded(f.path, maxConfigFile)
	if err == nil {
		if bytes.Equal(data, f.seen) {
			return
		}
		f.seen = data
		err = f.apply(data)
	}
	switch {
	case err == nil:
		r.note(f, "")
		r.failed.WithLabelValues(f.key).Set(0)
		r.log.Info("reloaded", "key", f.key, "file", f.path)
	case f.broken != err.Error():
		r.note(f, err.Error())
		f.seen = nil
		r.failed.WithLabelValues(f.key).Set(1)
		r.log.Error("a changed file cannot be used; what it said before stays in force", "key", f.key, "file", f.path, "error", err)
	default:
		f.seen = nil
	}
}

// note keeps why f is broken, for failures.
func (r *reloads) note(f *reloadable, broken string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.broken == "" {
		f.since = time.Now()
	}
	f.broken = broken
}

// failures returns the files that cannot be used as they are now. It may be
// called while run does.
func (r *reloads) failures() []failedReload {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []failedReload
	for _, f := range r.files {
		if f.broken != "" {
			line, _, _ := strings.Cut(f.broken, "\n")
			all = append(all, failedReload{f.key, f.path, hideUserinfo(line), f.since})
		}
	}
	return all
}
