package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/modgate/modgate/cache/sharedtest"
)

// A fleet is replicas of modgate that share a Redis and a bucket, behind nginx.
type fleet struct {
	URL      string // of nginx
	replicas []*server
	admins   []string // URLs
	stops    []func() error
}

// fleetPrograms are those that a fleet needs beside modgate.
type fleetPrograms struct{ Redis, Versitygw, Nginx string }

// Keys of the bucket.
const (
	bucketUser   = "modbench"
	bucketSecret = "modbench-secret"
)

// findFleetPrograms also looks where tools/setup.sh puts what it builds.
func (b *bench) findFleetPrograms(ctx context.Context) (p fleetPrograms, err error) {
	p.Nginx = b.bin.Nginx
	if p.Redis, err = exec.LookPath("redis-server"); err != nil {
		return p, err
	}
	if p.Nginx == "" {
		return p, errors.New("there is no nginx")
	}
	if p.Versitygw, err = exec.LookPath("versitygw"); err == nil {
		return p, nil
	}
	module, err := findModule(ctx, b.bin.Go)
	if err != nil {
		return p, err
	}
	dir, err := exec.CommandContext(ctx, filepath.Join(module, "tools", "setup.sh"), "dir").Output()
	if err != nil {
		return p, fmt.Errorf("tools/setup.sh dir: %w", err)
	}
	p.Versitygw, err = exec.LookPath(filepath.Join(strings.TrimSpace(string(dir)), "versitygw"))
	return p, err
}

// startFleet starts n replicas with empty caches. The caller closes the fleet.
func (b *bench) startFleet(ctx context.Context, p fleetPrograms, n int) (_ *fleet, err error) {
	f := &fleet{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	addrs, err := freeAddrs(3 + 2*n)
	if err != nil {
		return nil, err
	}
	redis, bucket, front := addrs[0], addrs[1], addrs[2]
	dir := b.dir("fleet")
	if err := os.MkdirAll(filepath.Join(dir, "bucket", "modgate"), 0o755); err != nil {
		return nil, err
	}
	f.stops = append(f.stops, func() error { return os.RemoveAll(dir) })
	_, port, _ := strings.Cut(redis, ":")
	if _, err := f.start(ctx, command{Path: p.Redis, Args: []string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"}, URL: "tcp://" + redis, Dir: filepath.Join(dir, "redis")}); err != nil {
		return nil, err
	}
	if _, err := f.start(ctx, command{Path: p.Versitygw, Args: []string{"--port", bucket, "--quiet", "posix", filepath.Join(dir, "bucket")},
		Env: []string{"ROOT_ACCESS_KEY=" + bucketUser, "ROOT_SECRET_KEY=" + bucketSecret}, URL: "tcp://" + bucket, Dir: filepath.Join(dir, "s3")}); err != nil {
		return nil, err
	}
	var lines strings.Builder
	for i := range n {
		addr, admin, own := addrs[3+2*i], addrs[4+2*i], filepath.Join(dir, fmt.Sprintf("modgate%d", i))
		up, err := listen(ctx, "127.0.0.1:0", b.counting.as(fmt.Sprintf("replica %d", i)))
		if err != nil {
			return nil, err
		}
		f.stops = append(f.stops, up.Close)
		s, err := f.start(ctx, command{Path: b.bin.Modgate, URL: "http://" + addr, Dir: own, Args: []string{"serve", "--config=off",
			"--listen=" + addr, "--admin-listen=" + admin, "--upstream=" + up.URL, "--log-level=debug", "--sumdb=" + b.cfg.SumDB,
			"--cache-dir=" + filepath.Join(own, "cache"), "--cache-redis-addr=" + redis, "--cache-s3-bucket=modgate", "--cache-s3-endpoint=http://" + bucket,
			"--cache-s3-path-style=on", "--cache-s3-access-key=" + bucketUser, "--cache-s3-secret-key=" + bucketSecret}})
		if err != nil {
			return nil, err
		}
		f.replicas, f.admins = append(f.replicas, s), append(f.admins, "http://"+admin)
		fmt.Fprintf(&lines, "    server %s max_fails=1 fail_timeout=1s;\n", addr)
	}
	own := filepath.Join(dir, "nginx")
	if err := os.MkdirAll(own, 0o755); err != nil {
		return nil, err
	}
	conf := filepath.Join(own, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, sharedtest.NginxConfig, own, front, lines.String()), 0o644); err != nil {
		return nil, err
	}
	_, err = f.start(ctx, command{Path: p.Nginx, Args: []string{"-p", own, "-c", conf, "-e", filepath.Join(own, "error.log")}, URL: "http://" + front, Dir: own})
	f.URL = "http://" + front
	return f, err
}

func (f *fleet) start(ctx context.Context, c command) (*server, error) {
	s, err := c.start(ctx)
	if err == nil {
		f.stops = append(f.stops, s.Close)
	}
	return s, err
}

// Close ends all of it and removes what it has kept.
func (f *fleet) Close() error {
	var errs []error
	for _, stop := range slices.Backward(f.stops) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// said returns the lines with one of words that the replicas have logged.
func (f *fleet) said(words ...string) ([]string, error) {
	var lines []string
	for i, s := range f.replicas {
		data, err := os.ReadFile(s.logs.Name())
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
				lines = append(lines, fmt.Sprintf("replica %d: %s", i, strings.TrimSpace(line)))
			}
		}
	}
	return lines, nil
}

// cpuSeconds is the processor time of a process, in user and kernel mode. It
// works on Linux (proc_pid_stat(5)), where a tick is 10 ms.
func cpuSeconds(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("processor time on %s: %w", runtime.GOOS, err)
	}
	// The second field is the name, in parentheses, and may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	kernel, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + kernel) / 100, errors.Join(err1, err2)
}
func freeAddrs(n int) ([]string, error) {
	var addrs []string
	for range n {
		a, err := freeAddr()
		if err != nil {
			return nil, err
		}
		if slices.Contains(addrs, a) {
			return freeAddrs(n)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}
