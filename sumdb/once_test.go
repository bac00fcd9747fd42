package sumdb_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// wantOnce wants no object to have been fetched more than once.
func wantOnce(t *testing.T, l *sumdbtest.Log) {
	t.Helper()
	times := make(map[string]int)
	for _, path := range l.Requests("/") {
		if times[path]++; times[path] == 2 && !strings.HasSuffix(path, "/latest") {
			t.Errorf("%s was fetched more than once", path)
		}
	}
}

// A lookup that has looked for a tile everywhere, and is overtaken by one that
// fetches, proves and keeps it, does not fetch it again.
func TestOvertakenReaderFetchesNothing(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(1), mod(2))
	log.Fill(400)
	slow := &held{Storage: sumdbtest.NewStorage(), name: "tile/8/0/001", reached: make(chan struct{}), on: make(chan struct{})}
	d := newDB(t, log, slow)
	overtaken := make(chan error, 1)
	go func() { overtaken <- verifyErr(t.Context(), d, mod(1)) }()
	<-slow.reached
	err := verifyErr(t.Context(), d, mod(2))
	close(slow.on)
	if err := errors.Join(err, <-overtaken); err != nil {
		t.Fatal(err)
	}
	wantOnce(t, log)
}

// Many clients and verifiers at once, and a log that grows meanwhile, so that
// heads come that are compared and not needed.
func TestAllTogetherFetchOnce(t *testing.T) {
	t.Parallel()
	log := newLog(t, 3000)
	for i := range 60 {
		add(log, mod(i))
		log.Fill(90)
	}
	d := newDB(t, log, sumdbtest.NewStorage(), func(c *sumdb.Config) { c.HeadCheck = time.Millisecond })
	m := newMirror(t, d)
	var wg sync.WaitGroup
	for range 3 {
		client := &goClient{t: t, log: log, mirror: m}
		for i := range 60 {
			wg.Go(func() {
				if err := client.download(mod(i)); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if err := verifyErr(t.Context(), d, mod(i)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for range 30 {
		log.Fill(100)
	}
	wg.Wait()
	wantOnce(t, log)
}

// turns is a storage that processes share.
type turns struct {
	*sumdbtest.Storage
	mu   sync.Mutex
	held map[string]bool // by name
}

// process is one of those that share a storage. It is slow to take the turn of
// what late reports.
type process struct {
	*turns
	late func(name string) bool
}

func (p process) Turn(ctx context.Context, name string, most time.Duration) (done func(), there bool) {
	if p.late(name) {
		time.Sleep(time.Millisecond)
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		p.mu.Lock()
		free := !p.held[name]
		if free {
			p.held[name] = true
		}
		p.mu.Unlock()
		if !free && time.Since(begin) < most {
			continue
		}
		_, err := p.Get(ctx, name)
		if !free {
			return func() {}, err == nil
		}
		return func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.held, name)
		}, err == nil
	}
}

// Two processes that need the same tiles, and get hold of different ones first,
// do not wait for each other.
func TestTurnsOfTwoProcesses(t *testing.T) {
	t.Parallel()
	log := newLog(t, 300)
	add(log, mod(0))
	log.Fill(70_000)
	add(log, mod(1), mod(2))
	log.Fill(70_000)
	synctest.Test(t, func(t *testing.T) {
		log.Forget()
		shared := &turns{Storage: sumdbtest.NewStorage(), held: make(map[string]bool)}
		low := func(name string) bool { return strings.Contains(name, "/tile/8/0/") }
		a := newDB(t, log, process{shared, low})
		b := newDB(t, log, process{shared, func(name string) bool { return strings.Contains(name, "/tile/") && !low(name) }})
		for _, d := range []*sumdb.DB{a, b} {
			defer d.Close()
			verify(t, d, mod(0)) // from here on both have a head
		}
		began := time.Now()
		var wg sync.WaitGroup
		for i, d := range []*sumdb.DB{a, b} {
			wg.Go(func() {
				if err := verifyErr(t.Context(), d, mod(i+1)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		wantOnce(t, log)
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
