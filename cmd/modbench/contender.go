package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Versions of the peers, pinned in peers/go.mod.
const (
	goproxyVersion = "v0.26.1"
	athensVersion  = "v0.18.0"
)

// publicSumDB is Go's checksum database.
const publicSumDB = "sum.golang.org"

// A target is what proxies are started with.
type target struct {
	Upstream string // GOPROXY, one URL
	SumDB    string // GOSUMDB

	Args []string // more, for modgate
}

// binaries are the programs of a comparison; empty where one is not wanted.
type binaries struct {
	Go, Modgate, Goproxy, Athens, Nginx string
	Self                                string // modbench
}

// database is the name in SumDB without its key.
func (t target) database() string {
	name, _, _ := strings.Cut(t.SumDB, "+")
	return name
}

// startProxy starts the proxy called name with an empty cache in dir/cache.
func (b binaries) startProxy(ctx context.Context, name, dir string, t target) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	c := command{URL: "http://" + addr, Dir: dir}
	cache := filepath.Join(dir, "cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	switch name {
	case "modgate":
		c.Path = b.Modgate
		c.Args = []string{"serve", "--listen=" + addr, "--admin-listen=127.0.0.1:0",
			"--upstream=" + t.Upstream, "--sumdb=" + t.SumDB, "--cache-dir=" + cache}
		c.Args = append(c.Args, t.Args...)
	case "goproxy":
		c.Path = b.Goproxy
		c.Args = []string{"server", "--address=" + addr, "--cacher-dir=" + cache, "--temp-dir=" + dir,
			"--go-bin=" + b.Go, "--proxied-sumdbs=" + t.database() + " " + t.Upstream + "/sumdb/" + t.database()}
		c.Env = []string{"GOPROXY=" + t.Upstream, "GOSUMDB=" + t.SumDB, "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local"}
	case "athens":
		c.Path = b.Athens
		// It cannot reach its checksum databases through an upstream proxy:
		// only clients with a complete go.sum are sent to it.
		c.Env = []string{"ATHENS_PORT=" + addr, "ATHENS_STORAGE_TYPE=disk", "ATHENS_DISK_STORAGE_ROOT=" + cache,
			"ATHENS_GO_BINARY_PATH=" + b.Go, "ATHENS_LOG_LEVEL=info", "ATHENS_GOGET_WORKERS=10",
			"ATHENS_GO_BINARY_ENV_VARS=GOPROXY=" + t.Upstream + ";GOTOOLCHAIN=local",
			"GOFLAGS=-modcacherw"}
	case bare:
		c.Path = b.Self
		c.Args = []string{"bare", "--listen=" + addr}
	default:
		return nil, fmt.Errorf("no proxy called %q", name)
	}
	return c.start(ctx)
}

// startStatic serves tree as files: by nginx if there is one, else by a Go
// file server inside modbench. It returns the address and what ends it.
func (b binaries) startStatic(ctx context.Context, dir, tree string) (url string, stop func() error, err error) {
	if b.Nginx == "" {
		l, err := listen(ctx, "127.0.0.1:0", http.FileServer(http.Dir(tree)))
		if err != nil {
			return "", nil, err
		}
		return l.URL, l.Close, nil
	}
	addr, err := freeAddr()
	if err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, []byte(nginxConf(dir, addr, tree)), 0o644); err != nil {
		return "", nil, err
	}
	c := command{Path: b.Nginx, Args: []string{"-c", conf, "-e", filepath.Join(dir, "error.log")}, URL: "http://" + addr, Dir: dir}
	s, err := c.start(ctx)
	if err != nil {
		return "", nil, err
	}
	return s.URL, s.Close, nil
}

// nginxConf is a file server as one would run it: a worker per core, sendfile,
// and an access log, because the proxies write one too.
func nginxConf(dir, addr, tree string) string {
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // else the workers may not read tree
	}
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "  %s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	return user + `daemon off;
worker_processes auto;
pid ` + filepath.Join(dir, "nginx.pid") + `;
events { worker_connections 1024; }
http {
` + temp.String() + `  access_log ` + filepath.Join(dir, "access.log") + ` combined buffer=64k flush=1s;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 10000000;
  server {
    listen ` + addr + `;
    root ` + tree + `;
  }
}
`
}

// version returns what there is to print about a contender.
func (b binaries) version(ctx context.Context, name string) string {
	switch name {
	case "goproxy":
		return goproxyVersion
	case "athens":
		return athensVersion
	case "modgate":
		if out, err := exec.CommandContext(ctx, b.Modgate, "version").Output(); err == nil {
			line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
			return strings.TrimPrefix(line, "modgate ")
		}
	case "static":
		if b.Nginx == "" {
			return "Go http.FileServer inside modbench"
		}
		if out, err := exec.CommandContext(ctx, b.Nginx, "-v").CombinedOutput(); err == nil {
			_, v, _ := strings.Cut(strings.TrimSpace(string(out)), ": ")
			return strings.TrimPrefix(v, "nginx version: ")
		}
	}
	return ""
}
