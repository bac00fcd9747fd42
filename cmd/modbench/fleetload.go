package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A fleetLoad is clients that use a fleet: go commands with empty caches, one
// after the other, and others that ask for single files and compare every byte.
type fleetLoad struct {
	f       *troubledFleet
	stop    chan struct{}
	running sync.WaitGroup
	paths   []string // of files of the tree
	// forgive says that who fails may ask once more, because a replica was
	// killed.
	forgive bool

	rounds               [goClients]atomic.Int64 // of each go client
	commands, requests   atomic.Int64
	again                atomic.Int64 // commands and requests that were repeated
	failed, lost, wrong  atomic.Int64 // commands and requests that failed; either with wrong bytes
	mostBytes            atomic.Int64 // in one directory
	mu                   sync.Mutex
	first                error     // guarded by mu
	complete, withoutSum *download // what the first of each has got; guarded by mu
}

// Clients of a fleetLoad.
const (
	goClients   = 2
	fileClients = 2
)

// load starts clients.
func (f *troubledFleet) load(ctx context.Context, forgive bool) (*fleetLoad, error) {
	l := &fleetLoad{f: f, stop: make(chan struct{}), forgive: forgive, complete: &f.b.need}
	for _, ext := range []string{".mod", ".info", ".zip"} {
		paths, err := treePaths(f.b.tree, ext)
		if err != nil {
			return nil, err
		}
		l.paths = append(l.paths, paths...)
	}
	for i := range l.rounds {
		l.during(ctx, func(n int) {
			l.download(ctx, (i+n)%2 == 1)
			l.rounds[i].Add(1)
		})
	}
	client := plainClient()
	for range fileClients {
		l.during(ctx, func(int) {
			l.ask(ctx, client, f.nginx.URL)
			pause(ctx, 20*time.Millisecond)
		})
	}
	l.running.Go(func() { l.watch(ctx) })
	return l, nil
}

// during calls work again and again, with the number of the call, until the load
// ends.
func (l *fleetLoad) during(ctx context.Context, work func(n int)) {
	l.running.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			select {
			case <-l.stop:
				return
			default:
				work(n)
			}
		}
	})
}

// end lets everyone finish what they are at.
func (l *fleetLoad) end(ctx context.Context) error {
	close(l.stop)
	l.running.Wait()
	return ctx.Err()
}

// everyoneIsDone waits until each go client has finished what it is at.
func (l *fleetLoad) everyoneIsDone(ctx context.Context) {
	for i := range l.rounds {
		for now := l.rounds[i].Load(); l.rounds[i].Load() == now && pause(ctx, 50*time.Millisecond); {
		}
	}
}

func (l *fleetLoad) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = err
	}
}

// download is one go command.
func (l *fleetLoad) download(ctx context.Context, noSum bool) {
	d, err := l.fetch(ctx, noSum)
	if err != nil && l.forgive && !errors.Is(err, errWrong) {
		l.again.Add(1)
		d, err = l.fetch(ctx, noSum)
	}
	if ctx.Err() != nil {
		return
	}
	l.commands.Add(1)
	if err == nil {
		err = l.compare(&d, noSum)
	}
	if errors.Is(err, errWrong) {
		l.wrong.Add(1)
	}
	if err != nil {
		l.failed.Add(1)
		l.note(err)
	}
}

var errWrong = errors.New("WRONG BYTES")

func (l *fleetLoad) fetch(ctx context.Context, noSum bool) (download, error) {
	d, err := l.f.b.client.fetch(ctx, fetchOptions{Proxy: l.f.nginx.URL, SumDB: l.f.b.cfg.SumDB, NoSum: noSum})
	if err != nil && (strings.Contains(err.Error(), "checksum mismatch") || strings.Contains(err.Error(), "SECURITY ERROR")) {
		err = fmt.Errorf("%w: %w", errWrong, err)
	}
	return d, err
}

// compare holds d against what others with the same go.sum have got.
func (l *fleetLoad) compare(d *download, noSum bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if noSum && l.withoutSum == nil {
		l.withoutSum = d
	}
	ref := l.complete
	if noSum {
		ref = l.withoutSum
	}
	if err := d.sameAs(*ref); err != nil {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	return nil
}

// ask asks for one file.
func (l *fleetLoad) ask(ctx context.Context, client *http.Client, url string) {
	path := l.paths[rand.IntN(len(l.paths))]
	err := l.get(ctx, client, url, path)
	if err != nil && l.forgive && !errors.Is(err, errWrong) {
		l.again.Add(1)
		err = l.get(ctx, client, url, path)
	}
	l.count(ctx, err)
}

func (l *fleetLoad) count(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	l.requests.Add(1)
	if errors.Is(err, errWrong) {
		l.wrong.Add(1)
	}
	if err != nil {
		l.lost.Add(1)
		l.note(err)
	}
}

// want returns what path must have: the file of the tree, but of an .info, which
// the go command does not keep as it came, the answer of upstream.
func (l *fleetLoad) want(ctx context.Context, path string) ([]byte, error) {
	if filepath.Ext(path) != ".info" {
		return os.ReadFile(filepath.Join(l.f.b.tree, path))
	}
	var want bytes.Buffer
	_, err := get(ctx, http.DefaultClient, l.f.b.countURL+path, &want)
	return want.Bytes(), err
}

// get fetches a file and compares every byte.
func (l *fleetLoad) get(ctx context.Context, client *http.Client, url, path string) error {
	want, err := l.want(ctx, path)
	if err != nil {
		return err
	}
	var got bytes.Buffer
	if _, err := get(ctx, client, url+path, &got); err != nil {
		return err
	}
	if !bytes.Equal(got.Bytes(), want) {
		return fmt.Errorf("%w: %s has %d bytes, want %d", errWrong, path, got.Len(), len(want))
	}
	return nil
}

// askAlone asks one replica, past nginx, until it takes no connection any more,
// and returns how many requests it had taken and not answered.
func (l *fleetLoad) askAlone(ctx context.Context, url string) (requests, failed int) {
	client := plainClient()
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		err := l.get(ctx, client, url, l.paths[rand.IntN(len(l.paths))])
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return requests, failed
		}
		requests++
		if err != nil {
			failed++
			l.note(fmt.Errorf("of the drained replica: %w", err))
		}
	}
	return requests, failed
}

// watch looks how large the directories of the replicas become.
func (l *fleetLoad) watch(ctx context.Context) {
	for pause(ctx, 100*time.Millisecond) {
		select {
		case <-l.stop:
			return
		default:
		}
		for _, r := range l.f.replicas {
			l.mostBytes.Store(max(l.mostBytes.Load(), cacheBytes(r.cache)))
		}
	}
}

// report puts what the clients have met into the row.
func (l *fleetLoad) report() {
	r := l.f.r
	r.add(fleetName(len(l.f.replicas)), float64(l.failed.Load()+l.lost.Load()))
	for _, c := range []check{
		{What: "failed client commands", Value: float64(l.failed.Load())},
		{What: "failed requests", Value: float64(l.lost.Load())},
		{What: "wrong bytes", Value: float64(l.wrong.Load())},
		{What: "largest directory / bound", Value: float64(l.mostBytes.Load()) / float64(l.f.disk), Bar: 1},
	} {
		c.AtMost = true
		r.Checks = append(r.Checks, c)
	}
	r.note("%d go commands and %d requests, of which %d were repeated; at most %d MiB on a disk of %d MiB",
		l.commands.Load(), l.requests.Load(), l.again.Load(), l.mostBytes.Load()>>20, l.f.disk>>20)
	if l.first != nil {
		r.note("the first failure: %v", l.first)
	}
}

// cacheBytes is what the objects and downloads in a cache directory take on the
// disk. What was put aside is bounded otherwise. A file that is renamed meanwhile
// counts once.
func cacheBytes(dir string) (sum int64) {
	seen := make(map[uint64]bool)
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		if e.IsDir() && e.Name() != "spool" && filepath.Base(filepath.Dir(path)) == ".modgate" {
			return fs.SkipDir
		}
		if st, err := e.Info(); err == nil && st.Mode().IsRegular() {
			if sys, ok := st.Sys().(*syscall.Stat_t); ok && !seen[sys.Ino] {
				seen[sys.Ino] = true
				sum += sys.Blocks * 512
			}
		}
		return nil
	})
	return sum
}
