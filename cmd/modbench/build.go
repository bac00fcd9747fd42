package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const modulePath = "github.com/modgate/modgate"

// findModule returns the directory of modgate's module, in or below which
// modbench must be run to build what it compares.
func findModule(ctx context.Context, goCmd string) (string, error) {
	out, err := exec.CommandContext(ctx, goCmd, "list", "-m", "-f", "{{.Path}} {{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w", err)
	}
	path, dir, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if path != modulePath {
		return "", errors.New("run modbench inside the checkout of " + modulePath + ": it builds modgate and the peers from there")
	}
	return dir, nil
}

// build compiles pkg of the module in dir into out. The peers are pinned: they
// are compiled once and then found where they were put.
func build(ctx context.Context, goCmd, dir, pkg, out string, log io.Writer) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	fmt.Fprintf(log, "building %s\n", pkg)
	cmd := exec.CommandContext(ctx, goCmd, "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	return nil
}

// prepare finds or builds the programs of a comparison with peers ("goproxy",
// "athens"). modgate is built anew unless the caller names a binary.
func prepare(ctx context.Context, peers []string, modgate, bin string, log io.Writer) (b binaries, err error) {
	if b.Go, err = exec.LookPath("go"); err != nil {
		return b, err
	}
	if b.Self, err = os.Executable(); err != nil {
		return b, err
	}
	if b.Nginx, err = findNginx(); err != nil {
		fmt.Fprintln(log, "no nginx: files are served by Go's http.FileServer")
	}
	module, err := findModule(ctx, b.Go)
	if err != nil {
		return b, err
	}
	b.Modgate = modgate
	if modgate == "" {
		b.Modgate = filepath.Join(bin, "modgate")
		if err := build(ctx, b.Go, module, "./cmd/modgate", b.Modgate, log); err != nil {
			return b, err
		}
	}
	pinned := []struct {
		name, version, pkg string
		path               *string
	}{
		{"goproxy", goproxyVersion, "github.com/goproxy/goproxy/cmd/goproxy", &b.Goproxy},
		{"athens", athensVersion, "github.com/gomods/athens/cmd/proxy", &b.Athens},
	}
	for _, p := range pinned {
		if !slices.Contains(peers, p.name) {
			continue
		}
		*p.path = filepath.Join(bin, p.name+"-"+p.version)
		if _, err := os.Stat(*p.path); err == nil {
			continue
		}
		if err := build(ctx, b.Go, filepath.Join(module, "cmd", "modbench", "peers"), p.pkg, *p.path, log); err != nil {
			return b, err
		}
	}
	return b, nil
}

// findNginx also looks where Debian puts it, which is not in every PATH.
func findNginx() (string, error) {
	if p, err := exec.LookPath("nginx"); err == nil {
		return p, nil
	}
	return exec.LookPath("/usr/sbin/nginx")
}
