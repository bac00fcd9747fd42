package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// compareConfig is what compare can be told.
type compareConfig struct {
	Only      []string      // rows by their names; empty: all
	Peers     []string      // goproxy, athens
	Rounds    int           // of each row but Athens' cold one
	Upstream  string        // "record", or the URL of a module proxy
	Origin    string        // what "record" records
	SumDB     string        // GOSUMDB of clients and proxies
	NearDelay time.Duration // per request of the recorded upstream
	FarDelay  time.Duration // per request in the row "cold-far"
	Rate      int64         // bytes per second of one body in the row "ttfb", recorded upstream only
	Load      string        // wrk, builtin or auto
	Duration  time.Duration // of one measurement of hits
	Conns     int           // connections of the load generator
	Work      string        // what is kept between runs: programs, recorded answers
	Scratch   string        // caches of this run's clients and servers; empty: see scratchRoot
	Modgate   string        // a binary to measure instead of building ./cmd/modgate
	Mod, Sum  string        // workload; empty: hugo
}

// A bench is one comparison under way.
type bench struct {
	cfg    compareConfig
	bin    binaries
	wrk    string // empty: the generator inside modbench
	client client
	log    *slog.Logger
	tmp    string
	seq    int // for names below tmp

	rec      *recorder
	upstream string // near upstream, as GOPROXY
	counting *relay // the same where it is recorded, else in front of it
	countURL string
	tree     string // what one client needs, as files in the layout of GOPROXY
	need     download
	warmed   []warmServer
	stops    []func() error // last started, first stopped
}

// runCompare measures all wanted rows and writes the report to w. A row that
// fails is reported as such and does not end the run.
func runCompare(ctx context.Context, cfg compareConfig, command string, w, progress io.Writer) (err error) {
	b := &bench{cfg: cfg, log: slog.New(slog.NewTextHandler(progress, nil))}
	rows, err := selectRows(cfg.Only)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(ctx, progress); err != nil {
		return err
	}
	head := b.header(ctx, command)
	var results []result
	var failed []error
	for _, row := range rows {
		began := time.Now()
		r, err := row.measure(ctx, b)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.Title = row.title
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", row.name, err))
			text, _, _ := strings.Cut(err.Error(), "\n")
			r.note("did not finish: %s", strings.ReplaceAll(text, b.tmp, "…"))
		}
		b.log.Info("row", "name", row.name, "took", time.Since(began).Round(time.Second), "checks", fmt.Sprint(r.Checks), "err", err)
		results = append(results, r)
	}
	return errors.Join(append(failed, writeReport(w, head, results))...)
}

// open prepares everything that does not depend on the rows.
func (b *bench) open(ctx context.Context, progress io.Writer) error {
	load, err := loadWorkload(b.cfg.Mod, b.cfg.Sum)
	if err != nil {
		return err
	}
	b.bin, err = prepare(ctx, b.cfg.Peers, b.cfg.Modgate, filepath.Join(b.cfg.Work, "bin"), progress)
	if err != nil {
		return err
	}
	if b.cfg.Load != "builtin" {
		if b.wrk, err = exec.LookPath("wrk"); err != nil && b.cfg.Load == "wrk" {
			return err
		}
	}
	unlock, err := alone(b.cfg.Work)
	if err != nil {
		return err
	}
	b.stops = append(b.stops, unlock)
	if b.tmp, err = os.MkdirTemp(b.cfg.Scratch, "modbench-"); err != nil {
		return err
	}
	b.client = client{Go: b.bin.Go, Dir: b.tmp, Load: load}
	origin, err := parseOrigin(b.cfg.Origin)
	if err != nil {
		return err
	}
	if b.rec, err = newRecorder(origin, filepath.Join(b.cfg.Work, "recorded", url.PathEscape(origin.Host+origin.Path))); err != nil {
		return err
	}
	if b.cfg.Upstream != "record" {
		if _, err := parseOrigin(b.cfg.Upstream); err != nil {
			return err
		}
	}
	if b.counting, b.countURL, err = b.relay(ctx, b.nearDelay(), 0); err != nil {
		return err
	}
	if b.upstream = b.cfg.Upstream; b.upstream == "record" {
		b.upstream = b.countURL
	}
	return b.prime(ctx)
}

// alone makes sure that no other comparison with the same work directory runs:
// two would measure each other. It returns what lets the next one run.
func alone(work string) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(work, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another comparison is running (%s): %w", f.Name(), err), f.Close())
	}
	return f.Close, nil
}

// nearDelay is the delay of a relay that stands for the near upstream.
func (b *bench) nearDelay() time.Duration {
	if b.cfg.Upstream == "record" {
		return b.cfg.NearDelay
	}
	return 0
}

// relay starts an upstream of ours in front of the chosen one.
func (b *bench) relay(ctx context.Context, delay time.Duration, rate int64) (*relay, string, error) {
	rl := newRelay(b.rec, delay, rate)
	if b.cfg.Upstream != "record" {
		u, err := parseOrigin(b.cfg.Upstream)
		if err != nil {
			return nil, "", err
		}
		rl.source = newForward(u)
	}
	l, err := listen(ctx, "127.0.0.1:0", rl)
	if err != nil {
		return nil, "", err
	}
	b.stops = append(b.stops, l.Close)
	return rl, l.URL, nil
}

// prime runs the client twice straight from the upstream. That records what
// was not yet recorded, checks the workload, and leaves the tree that the
// static server serves.
func (b *bench) prime(ctx context.Context) (err error) {
	b.log.Info("priming", "workload", b.client.Load.Name, "upstream", b.cfg.Upstream)
	b.tree = filepath.Join(b.tmp, "tree")
	o := fetchOptions{Proxy: b.upstream, SumDB: b.cfg.SumDB, Keep: b.tree}
	if b.need, err = b.client.fetch(ctx, o); err != nil {
		return err
	}
	_, err = b.client.fetch(ctx, fetchOptions{Proxy: b.upstream, SumDB: b.cfg.SumDB, NoSum: true})
	return err
}

// dir returns a new name below the directory of this run.
func (b *bench) dir(name string) string {
	b.seq++
	return filepath.Join(b.tmp, fmt.Sprintf("%03d-%s", b.seq, name))
}

// close stops what was started and removes what was made for this run.
func (b *bench) close() error {
	var errs []error
	for _, stop := range slices.Backward(b.stops) {
		errs = append(errs, stop())
	}
	if b.rec != nil {
		errs = append(errs, b.rec.Close())
	}
	if b.tmp != "" {
		errs = append(errs, os.RemoveAll(b.tmp))
	}
	return errors.Join(errs...)
}

func (b *bench) header(ctx context.Context, command string) header {
	h := header{
		Command: command, Date: time.Now(), Rounds: b.cfg.Rounds, Machine: machine(ctx, b.bin.Go) + ", caches on " + fileSystem(b.tmp),
		Workload: fmt.Sprintf("%s: %d .mod, %d .zip, %d .info, %.0f MB", b.client.Load.Name, b.need.Mods, b.need.Zips, b.need.Infos, float64(b.need.Bytes)/1e6),
		Upstream: "straight " + b.cfg.Upstream,
		Load:     fmt.Sprintf("inside modbench, %d connections, %s each", b.cfg.Conns, b.cfg.Duration),
	}
	if b.cfg.Upstream == "record" {
		h.Upstream = fmt.Sprintf("answers of %s, recorded and served on loopback, each request delayed by %s (near) or %s (far)",
			b.cfg.Origin, b.cfg.NearDelay, b.cfg.FarDelay)
	}
	if b.wrk != "" {
		h.Load = fmt.Sprintf("wrk -t1 -c%d -d%s", b.cfg.Conns, b.cfg.Duration)
	}
	for _, name := range append([]string{"modgate", "static"}, b.cfg.Peers...) {
		h.Versions = append(h.Versions, strings.TrimSpace(name+" "+b.bin.version(ctx, name)))
	}
	return h
}
