package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// loadConfig describes one measurement of hits.
type loadConfig struct {
	Base        string   // URL of the proxy
	Paths       []string // asked for in turn; each begins with a slash
	Connections int
	Duration    time.Duration
	Wrk         string // path of wrk; empty: the generator inside modbench
	Dir         string // for wrk's script
	TLS         tlsLoad
}

// loadResult is what came out of it.
type loadResult struct {
	PerSecond float64 // complete 200 answers
	P50, P99  time.Duration
	Mean      time.Duration // of h2load, which knows no quantiles
}

// load asks for Paths as fast as answers come, over kept connections. An
// answer other than 200 is an error.
func load(ctx context.Context, c loadConfig) (loadResult, error) {
	// One pass over all paths: connections, page cache, and that they exist.
	tr := c.transport()
	defer tr.CloseIdleConnections()
	for _, p := range c.Paths {
		if _, err := get(ctx, &http.Client{Transport: tr}, c.Base+p, io.Discard); err != nil {
			return loadResult{}, err
		}
	}
	if c.TLS.H2load != "" {
		return runH2load(ctx, c)
	}
	if c.Wrk != "" {
		return runWrk(ctx, c)
	}
	return generate(ctx, c)
}

// generate is the load generator inside modbench.
func generate(ctx context.Context, c loadConfig) (loadResult, error) {
	tr := c.transport()
	defer tr.CloseIdleConnections()
	hc := &http.Client{Transport: tr}
	hists := make([]histogram, c.Connections)
	start := time.Now()
	end := start.Add(c.Duration)
	g, ctx := errgroup.WithContext(ctx)
	for i := range hists {
		g.Go(func() error {
			for n := i; ; n++ {
				began := time.Now()
				if began.After(end) {
					return nil
				}
				if _, err := get(ctx, hc, c.Base+c.Paths[n%len(c.Paths)], io.Discard); err != nil {
					return err
				}
				hists[i].add(time.Since(began))
			}
		})
	}
	if err := g.Wait(); err != nil {
		return loadResult{}, err
	}
	took := time.Since(start)
	all := &histogram{}
	for i := range hists {
		all.merge(&hists[i])
	}
	return loadResult{PerSecond: float64(all.n) / took.Seconds(), P50: all.quantile(0.5), P99: all.quantile(0.99)}, nil
}

// get copies one answer to w and returns its size. Of another answer than 200
// the error has the text.
func get(ctx context.Context, hc *http.Client, url string, w io.Writer) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := hc.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return 0, fmt.Errorf("%s: %s: %s", url, resp.Status, strings.TrimSpace(string(text)))
	}
	n, err := io.Copy(w, resp.Body)
	if err != nil {
		return n, fmt.Errorf("%s: %w", url, err)
	}
	return n, nil
}

// runWrk lets wrk do it, which costs less of the machine than modbench would.
func runWrk(ctx context.Context, c loadConfig) (loadResult, error) {
	script := filepath.Join(c.Dir, "paths.lua")
	if err := os.WriteFile(script, []byte(wrkScript(c.Paths)), 0o644); err != nil {
		return loadResult{}, err
	}
	seconds := strconv.Itoa(max(1, int(c.Duration.Seconds())))
	cmd := exec.CommandContext(ctx, c.Wrk, "-t1", "-c"+strconv.Itoa(c.Connections), "-d"+seconds+"s",
		"--timeout", "60s", "--latency", "-s", script, c.Base)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return loadResult{}, fmt.Errorf("wrk: %w\n%s", err, lastLines(out, 8))
	}
	return parseWrk(string(out))
}

// wrkScript makes every request once, before the clock runs.
func wrkScript(paths []string) string {
	var b strings.Builder
	b.WriteString("local paths = {\n")
	for _, p := range paths {
		fmt.Fprintf(&b, "  %q,\n", p)
	}
	b.WriteString(`}
local requests, n = {}, 0
function init(args)
  for i, p in ipairs(paths) do requests[i] = wrk.format("GET", p) end
end
function request()
  n = n % #requests + 1
  return requests[n]
end
`)
	return b.String()
}

// parseWrk reads wrk's report.
func parseWrk(out string) (r loadResult, err error) {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		switch {
		case strings.Contains(line, "Non-2xx"), strings.Contains(line, "Socket errors"):
			return r, errors.New("wrk: " + strings.TrimSpace(line))
		case len(f) != 2:
		case f[0] == "Requests/sec:":
			r.PerSecond, err = strconv.ParseFloat(f[1], 64)
		case f[0] == "50%":
			r.P50, err = time.ParseDuration(f[1])
		case f[0] == "99%":
			r.P99, err = time.ParseDuration(f[1])
		}
		if err != nil {
			return r, fmt.Errorf("wrk: %w", err)
		}
	}
	if r.PerSecond == 0 {
		return r, errors.New("wrk: no answer was complete in time")
	}
	return r, nil
}
