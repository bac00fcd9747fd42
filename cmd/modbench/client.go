package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A client runs the go command as a developer on a fresh machine would.
type client struct {
	Go   string // the go command
	Dir  string // where the caches of a run are made
	Load workload
}

// fetchOptions say what one run of the client does.
type fetchOptions struct {
	Proxy string // GOPROXY
	SumDB string // GOSUMDB
	NoSum bool   // start without go.sum
	Keep  string // keep the client's cache/download here, a tree in the layout of GOPROXY
}

// A download is what one run of the client did.
type download struct {
	Elapsed time.Duration
	Mods    int   // .mod files in the client's cache
	Zips    int   // .zip files
	Infos   int   // .info files
	Bytes   int64 // of all three: what a client needs
	Proven  int64 // of .mod and .zip, which are the same through every proxy
	Used    usage // the whole cache/download directory without sumdb/
	Sum     []byte
}

// fetch runs "go mod download" with empty caches. It fails if the go command
// fails or if a complete go.sum had to be changed. Only the go command's time
// is counted.
func (c client) fetch(ctx context.Context, o fetchOptions) (d download, err error) {
	dir, err := os.MkdirTemp(c.Dir, "client-")
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		return d, err
	}
	if err := os.WriteFile(filepath.Join(work, "go.mod"), c.Load.Mod, 0o644); err != nil {
		return d, err
	}
	sumFile := filepath.Join(work, "go.sum")
	if !o.NoSum {
		if err := os.WriteFile(sumFile, c.Load.Sum, 0o644); err != nil {
			return d, err
		}
	}
	cmd := exec.CommandContext(ctx, c.Go, "mod", "download")
	cmd.Dir = work
	cmd.Env = clientEnv(dir, o)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	d.Elapsed = time.Since(start)
	if err != nil {
		return d, fmt.Errorf("go mod download through %s: %w\n%s", o.Proxy, err, lastLines(out, 8))
	}
	if d.Sum, err = os.ReadFile(sumFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if !o.NoSum && !bytes.Equal(d.Sum, c.Load.Sum) {
		return d, fmt.Errorf("go mod download through %s: go.sum was not complete", o.Proxy)
	}
	tree := filepath.Join(dir, "mod", "cache", "download")
	if err := os.RemoveAll(filepath.Join(tree, "sumdb")); err != nil {
		return d, err
	}
	if err := d.count(tree); err != nil {
		return d, err
	}
	if o.Keep != "" {
		return d, os.Rename(tree, o.Keep)
	}
	return d, nil
}

// clientEnv is the whole environment of a client whose caches are in dir.
func clientEnv(dir string, o fetchOptions) []string {
	env := []string{
		"HOME=" + filepath.Join(dir, "home"),
		"GOPATH=" + filepath.Join(dir, "gopath"), // the last tree head seen is in it
		"GOMODCACHE=" + filepath.Join(dir, "mod"),
		"GOCACHE=" + filepath.Join(dir, "build"),
		"GOENV=off", "GOWORK=off", "GOTOOLCHAIN=local",
		"GOFLAGS=-modcacherw", // so that the cache can be removed
		"GOPROXY=" + o.Proxy, "GOSUMDB=" + o.SumDB,
		"GOPRIVATE=", "GONOPROXY=", "GONOSUMDB=", "GOINSECURE=",
	}
	return append(env, outsideEnv()...)
}

// outsideEnv is what every child process inherits: how to find programs and
// how to reach the network.
func outsideEnv() []string {
	keep := []string{"PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains(keep, strings.ToUpper(name)) {
			env = append(env, kv)
		}
	}
	return env
}

// count fills in what the client has got.
func (d *download) count(tree string) error {
	err := filepath.WalkDir(tree, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		switch filepath.Ext(e.Name()) {
		case ".mod":
			d.Mods++
			d.Proven += st.Size()
		case ".zip":
			d.Zips++
			d.Proven += st.Size()
		case ".info": // some proxies make their own
			d.Infos++
			d.Bytes += st.Size()
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.Bytes += d.Proven
	d.Used, err = diskUsage(tree)
	return err
}

// sameAs reports, as an error, how d differs from what another client got.
func (d download) sameAs(ref download) error {
	if d.Mods != ref.Mods || d.Zips != ref.Zips || d.Infos != ref.Infos || d.Proven != ref.Proven || !bytes.Equal(d.Sum, ref.Sum) {
		return fmt.Errorf("client got %d .mod, %d .zip, %d .info, %d bytes, %d bytes of go.sum; want %d, %d, %d, %d, %d",
			d.Mods, d.Zips, d.Infos, d.Proven, len(d.Sum), ref.Mods, ref.Zips, ref.Infos, ref.Proven, len(ref.Sum))
	}
	return nil
}

func lastLines(b []byte, n int) []byte {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}
