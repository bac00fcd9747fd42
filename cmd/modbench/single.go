package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// runConfig is what run can be told.
type runConfig struct {
	Proxy, SumDB string
	Mod, Sum     string // workload; both empty: hugo. Sum empty: only runs without go.sum
	Rounds       int    // warm repeats
	Duration     time.Duration
	Conns        int
	Load         string
	PID          int
	Scratch      string // clients' caches; empty: see scratchRoot
	Dir          string
}

// runRun measures one GOPROXY and writes the report to w.
func runRun(ctx context.Context, cfg runConfig, command string, w, progress io.Writer) (err error) {
	if cfg.Proxy == "" {
		return errors.New("--proxy is missing: the GOPROXY to measure")
	}
	if _, err := parseOrigin(cfg.Proxy); err != nil {
		return fmt.Errorf("--proxy: %w", err)
	}
	load, err := loadWorkload(cfg.Mod, cfg.Sum)
	if err != nil {
		return err
	}
	goCmd, err := exec.LookPath("go")
	if err != nil {
		return err
	}
	if cfg.Scratch == "" {
		cfg.Scratch = scratchRoot(os.TempDir())
	}
	tmp, err := os.MkdirTemp(cfg.Scratch, "modbench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	s := &single{cfg: cfg, client: client{Go: goCmd, Dir: tmp, Load: load}, tmp: tmp,
		log: slog.New(slog.NewTextHandler(progress, nil))}
	h := header{Command: command, Date: time.Now(), Machine: machine(ctx, goCmd) + ", caches on " + fileSystem(tmp), Workload: load.Name, Rounds: max(1, cfg.Rounds)}
	if err := s.downloads(ctx); err != nil {
		return err
	}
	h.Workload += fmt.Sprintf(": %d .mod, %d .zip, %d .info, %.0f MB", s.need.Mods, s.need.Zips, s.need.Infos, float64(s.need.Bytes)/1e6)
	if cfg.Duration > 0 {
		if h.Load, err = s.hits(ctx); err != nil {
			return err
		}
	}
	if err := s.sizes(); err != nil {
		return err
	}
	return writeReport(w, h, s.results)
}

// single is one run under way.
type single struct {
	cfg     runConfig
	client  client
	log     *slog.Logger
	tmp     string
	need    download
	results []result
}

const proxyColumn = "proxy"

func (s *single) tree() string { return filepath.Join(s.tmp, "tree") }

// downloads runs the client: first, then again, with go.sum and without.
func (s *single) downloads(ctx context.Context) error {
	kinds := []struct {
		title string
		noSum bool
		skip  bool
	}{
		{"complete go.sum", false, s.client.Load.Sum == nil},
		{"no go.sum, checksum database on", true, s.cfg.SumDB == "off"},
	}
	first := true
	for _, k := range kinds {
		if k.skip {
			continue
		}
		cold := result{Title: "first, " + k.title, Unit: unitSeconds}
		warm := result{Title: "again, " + k.title, Unit: unitSeconds}
		var ref download
		for i := range 1 + max(1, s.cfg.Rounds) {
			o := fetchOptions{Proxy: s.cfg.Proxy, SumDB: s.cfg.SumDB, NoSum: k.noSum}
			if first {
				o.Keep = s.tree()
			}
			d, err := s.client.fetch(ctx, o)
			if err != nil {
				return err
			}
			s.log.Info("download", "what", k.title, "took", d.Elapsed)
			if first {
				s.need, first = d, false
			}
			if i == 0 {
				ref = d
				cold.add(proxyColumn, d.Elapsed.Seconds())
				continue
			}
			if err := d.sameAs(ref); err != nil {
				return err
			}
			warm.add(proxyColumn, d.Elapsed.Seconds())
		}
		s.results = append(s.results, cold, warm)
	}
	if first {
		return errors.New("nothing to download: no go.sum and no checksum database")
	}
	return nil
}

// hits measures single files and returns the name of the load generator.
func (s *single) hits(ctx context.Context) (string, error) {
	wrk, generator := "", fmt.Sprintf("inside modbench, %d connections, %s each", s.cfg.Conns, s.cfg.Duration)
	if s.cfg.Load != "builtin" {
		if p, err := exec.LookPath("wrk"); err == nil {
			wrk, generator = p, fmt.Sprintf("wrk -t1 -c%d -d%s", s.cfg.Conns, s.cfg.Duration)
		} else if s.cfg.Load == "wrk" {
			return "", err
		}
	}
	mods, err := treePaths(s.tree(), ".mod")
	if err != nil {
		return "", err
	}
	small, smallSize, err := zipOfSize(s.tree(), 240e3)
	if err != nil {
		return "", err
	}
	big, bigSize, err := zipOfSize(s.tree(), 36e6)
	if err != nil {
		return "", err
	}
	for _, k := range []struct {
		title string
		paths []string
		conns int
	}{
		{".mod hits", mods[:min(256, len(mods))], s.cfg.Conns},
		{fmt.Sprintf("zip hits, %d KB", smallSize/1000), []string{small}, s.cfg.Conns},
		{fmt.Sprintf("zip hits, %d KB", bigSize/1000), []string{big}, 8},
	} {
		r := result{Title: k.title, Unit: unitPerSecond}
		lr, err := load(ctx, loadConfig{Base: s.cfg.Proxy, Paths: k.paths, Connections: k.conns, Duration: s.cfg.Duration, Wrk: wrk, Dir: s.tmp})
		if err != nil {
			return "", err
		}
		r.add(proxyColumn, lr.PerSecond)
		r.note("p50 %s, p99 %s; %d different files", lr.P50, lr.P99, len(k.paths))
		s.results = append(s.results, r)
	}
	return generator, nil
}

// sizes adds what the process and the directory of the proxy take.
func (s *single) sizes() error {
	if s.cfg.PID != 0 {
		rss, err := peakRSS(s.cfg.PID)
		if err != nil {
			return err
		}
		r := result{Title: "peak memory (VmHWM)", Unit: unitMiB}
		r.add(proxyColumn, float64(rss)/(1<<20))
		s.results = append(s.results, r)
	}
	if s.cfg.Dir != "" {
		u, err := diskUsage(s.cfg.Dir)
		if err != nil {
			return err
		}
		r := result{Title: "disk", Unit: unitMiB}
		r.add(proxyColumn, float64(u.Apparent)/(1<<20))
		r.note("%d files, %.1f MiB allocated; a client needs %.1f MiB", u.Files, float64(u.Allocated)/(1<<20), float64(s.need.Bytes)/(1<<20))
		s.results = append(s.results, r)
	}
	return nil
}
