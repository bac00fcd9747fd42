package sumdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/module"
)

// PinStorage keeps pins, under names that start with "pins/". Its methods are
// those of Storage.
type PinStorage interface {
	Get(ctx context.Context, name string) ([]byte, error)
	Swap(ctx context.Context, name string, old, new []byte) error
}

// pinLooker is an optional ability of a PinStorage that answers Get by what it
// has near: Look is Get, but knows what other servers have stored until now.
type pinLooker interface {
	Look(ctx context.Context, name string) ([]byte, error)
}

// PinsConfig configures Pins.
type PinsConfig struct {
	// Storage keeps the pins. Required.
	Storage PinStorage
	// Logger may be nil.
	Logger *slog.Logger
}

// Pins remembers what the versions of private modules contained when they were
// first fetched, for no checksum database knows them. What is first is trusted;
// what differs later is refused until an operator accepts it: somebody has
// moved a tag, or somebody else answers for the repository. It is safe for
// concurrent use, also by several processes on one Storage.
type Pins struct {
	cfg      PinsConfig
	recorded prometheus.Counter
	moved    prometheus.Counter
	errors   prometheus.Counter
}

// NewPins returns Pins.
func NewPins(cfg PinsConfig) (*Pins, error) {
	if cfg.Storage == nil {
		return nil, errors.New("sumdb: pins need a Storage")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &Pins{
		cfg:      cfg,
		recorded: counter("modgate_pins_recorded_total", "Hashes of private modules that were recorded because they came for the first time."),
		moved:    counter("modgate_pin_mismatches_total", "Private modules that were refused because their content is not what it was at first."),
		errors:   counter("modgate_pin_errors_total", "Hashes of private modules that could not be read or recorded."),
	}, nil
}

// Collectors returns the metrics.
func (p *Pins) Collectors() []prometheus.Collector {
	return []prometheus.Collector{p.recorded, p.moved, p.errors}
}

// Pin is what is remembered of one module version.
type Pin struct {
	// Files is by kind: "mod" and "zip".
	Files map[string]*PinnedFile `json:"files"`
	// Accepted is what operators have changed, oldest first.
	Accepted []Acceptance `json:"accepted,omitempty"`
}

// PinnedFile is what is remembered of one file.
type PinnedFile struct {
	H1    string    `json:"h1"`
	Since time.Time `json:"since"`
	// Refused is the hash of what came last instead; empty: nothing did.
	Refused   string    `json:"refused,omitempty"`
	RefusedAt time.Time `json:"refused_at,omitzero"`
}

// Acceptance is one decision of an operator.
type Acceptance struct {
	Kind   string    `json:"kind"`
	Was    string    `json:"was"`
	Is     string    `json:"is"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// PinName is the stored name of the pin of m.
func PinName(m module.Version) (string, error) {
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}
	return "pins/" + path + "/@v/" + version + ".json", nil
}

// attempts bounds how often a change of a pin is tried again because somebody
// else was faster.
const attempts = 8

// Verify implements proxy.Verifier: nil if the file of m is what it was at
// first, or is the first. Other content is an error with the method Mismatch.
// A hash that cannot be recorded is an error with the method Unkept: there is
// nothing that it could contradict, but the next time must be a first time too.
func (p *Pins) Verify(ctx context.Context, m module.Version, kind, hash string) error {
	return p.VerifyFiles(ctx, m, map[string]string{kind: hash})
}

// VerifyFiles is Verify for files of m that came together, with their hashes by
// kind. If one of them is not what it was at first, nothing is recorded of the
// others.
func (p *Pins) VerifyFiles(ctx context.Context, m module.Version, hashes map[string]string) error {
	look, _ := p.cfg.Storage.(pinLooker)
	read := p.cfg.Storage.Get
	for range attempts {
		old, pin, err := p.load(ctx, m, read)
		if err != nil {
			p.errors.Inc()
			return &unreadablePin{m, err}
		}
		unknown, other := pin.compare(hashes)
		switch {
		case len(other) > 0 && look != nil:
			// Another server may know that an operator has accepted this.
			read, look = look.Look, nil
			continue
		case len(other) > 0:
			return p.refuse(ctx, m, other, hashes, old, pin)
		case len(unknown) == 0:
			return nil
		}
		for _, kind := range unknown {
			pin.Files[kind] = &PinnedFile{H1: hashes[kind], Since: time.Now().UTC().Truncate(time.Second)}
		}
		switch err := p.store(ctx, m, old, pin); {
		case err == nil:
			p.recorded.Add(float64(len(unknown)))
			return nil
		case !errors.Is(err, ErrConflict):
			p.errors.Inc()
			p.cfg.Logger.Error("the hash of a private module could not be recorded; it is served, and not kept", "module", m.String(), "kinds", unknown, "error", err)
			return &unkept{err}
		}
	}
	p.errors.Inc()
	return &unreadablePin{m, errors.New("it changes all the time")}
}

// compare returns the kinds of files of which nothing is known, and of those
// that are not what they were.
func (pin *Pin) compare(hashes map[string]string) (unknown, other []string) {
	for kind, hash := range hashes {
		switch file := pin.Files[kind]; {
		case file == nil:
			unknown = append(unknown, kind)
		case file.H1 != hash:
			other = append(other, kind)
		}
	}
	slices.Sort(unknown)
	slices.Sort(other)
	return unknown, other
}

// refuse reports that files are not what they were, and notes what they are, so
// that an operator can accept just that. The error is about the last of kinds:
// the zip, if it is among them.
func (p *Pins) refuse(ctx context.Context, m module.Version, kinds []string, hashes map[string]string, old []byte, pin *Pin) error {
	p.moved.Inc()
	var (
		moved *Moved
		news  bool
	)
	for _, kind := range kinds {
		file, hash := pin.Files[kind], hashes[kind]
		p.cfg.Logger.Error("security: a private module version has other content than when it was first fetched (tag moved?): refused",
			"module", m.String(), "kind", kind, "received", hash, "pinned", file.H1, "since", file.Since)
		if file.Refused != hash {
			file.Refused, file.RefusedAt = hash, time.Now().UTC().Truncate(time.Second)
			news = true
		}
		moved = &Moved{Module: m, Kind: kind, Pinned: file.H1, Received: hash, Since: file.Since}
	}
	if news {
		if err := p.store(ctx, m, old, pin); err != nil && !errors.Is(err, ErrConflict) {
			p.errors.Inc()
			p.cfg.Logger.Warn("what was refused could not be noted", "module", m.String(), "error", err)
		}
	}
	return moved
}

// Pin returns what is remembered of m; fs.ErrNotExist if nothing is.
func (p *Pins) Pin(ctx context.Context, m module.Version) (*Pin, error) {
	old, pin, err := p.load(ctx, m, p.latest())
	if err == nil && old == nil {
		err = fmt.Errorf("%s was never fetched here: %w", m, fs.ErrNotExist)
	}
	return pin, err
}

// Accept makes what was refused of m the content that is right from now on, and
// returns what it has changed. If hashes are given, nothing but them is
// accepted.
func (p *Pins) Accept(ctx context.Context, m module.Version, hashes []string, by, reason string) ([]Acceptance, error) {
	for range attempts {
		old, pin, err := p.load(ctx, m, p.latest())
		if err != nil {
			return nil, err
		}
		if old == nil {
			return nil, fmt.Errorf("%s was never fetched here: %w", m, fs.ErrNotExist)
		}
		changes := pin.accept(hashes, by, reason)
		if len(changes) == 0 {
			return nil, fmt.Errorf("%s: nothing that was refused is waiting to be accepted", m)
		}
		if err := p.store(ctx, m, old, pin); !errors.Is(err, ErrConflict) {
			return changes, err
		}
	}
	return nil, fmt.Errorf("%s: its pin changes all the time", m)
}

func (pin *Pin) accept(hashes []string, by, reason string) []Acceptance {
	now := time.Now().UTC().Truncate(time.Second)
	var changes []Acceptance
	for kind, file := range pin.Files {
		if file.Refused == "" || len(hashes) > 0 && !slices.Contains(hashes, file.Refused) {
			continue
		}
		changes = append(changes, Acceptance{Kind: kind, Was: file.H1, Is: file.Refused, By: by, Reason: reason, At: now})
		pin.Files[kind] = &PinnedFile{H1: file.Refused, Since: now}
	}
	pin.Accepted = append(pin.Accepted, changes...)
	return changes
}

// latest reads what is stored, by other servers too.
func (p *Pins) latest() func(context.Context, string) ([]byte, error) {
	if l, ok := p.cfg.Storage.(pinLooker); ok {
		return l.Look
	}
	return p.cfg.Storage.Get
}

// load returns the stored bytes, nil if there are none, and what they mean.
func (p *Pins) load(ctx context.Context, m module.Version, read func(context.Context, string) ([]byte, error)) ([]byte, *Pin, error) {
	pin := &Pin{Files: map[string]*PinnedFile{}}
	name, err := PinName(m)
	if err != nil {
		return nil, nil, err
	}
	data, err := read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, pin, nil
	}
	if err == nil {
		err = json.Unmarshal(data, pin)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the pin %s: %w", name, err)
	}
	return data, pin, nil
}

func (p *Pins) store(ctx context.Context, m module.Version, old []byte, pin *Pin) error {
	name, err := PinName(m)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(pin, "", "  ")
	if err != nil {
		return err
	}
	return p.cfg.Storage.Swap(ctx, name, old, append(data, '\n'))
}

// Moved says that a private module version has other content than at first.
type Moved struct {
	Module           module.Version
	Kind             string // "mod" or "zip"
	Pinned, Received string // hashes, "h1:…"
	Since            time.Time
}

// Error implements error.
func (e *Moved) Error() string {
	return fmt.Sprintf("%s of %s: has hash %s, and %s when it was first fetched on %s", e.Kind, e.Module, e.Received, e.Pinned, e.Since.Format(time.DateOnly))
}

// Mismatch implements what proxy expects of wrong bytes.
func (e *Moved) Mismatch() (want, got string) { return e.Pinned, e.Received }

// Public is what a client reads.
func (e *Moved) Public() string {
	content := "content"
	if e.Kind == "mod" {
		content = "go.mod"
	}
	return fmt.Sprintf("This private version was first fetched here on %s with other %s: its tag was moved.\nRelease a new version, or ask the administrator of this server (modgate pin accept).", e.Since.Format(time.DateOnly), content)
}

// unkept says that bytes may be served, and must not be stored.
type unkept struct{ err error }

func (e *unkept) Error() string { return "record the hash: " + e.err.Error() }
func (e *unkept) Unwrap() error { return e.err }
func (*unkept) Unkept() bool    { return true }

// unreadablePin says that it cannot be told what a version was.
type unreadablePin struct {
	module module.Version
	err    error
}

func (e *unreadablePin) Error() string { return fmt.Sprintf("pin of %s: %v", e.module, e.err) }
func (e *unreadablePin) Unwrap() error { return e.err }

// Public is what a client reads.
func (e *unreadablePin) Public() string {
	return "this server cannot read what this private version was at first, and does not serve it unconfirmed"
}
