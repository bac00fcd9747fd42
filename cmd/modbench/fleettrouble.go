package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
)

// A troubledFleet is three replicas behind nginx that share a Redis, which
// Sentinels look after, and a bucket, with faults on the way to it.
type troubledFleet struct {
	*stage
	b         *bench
	r         *result
	sentinels *sharedtest.Sentinels
	s3        *sharedtest.S3
	bucket    *sharedtest.Proxy
	nginx     *sharedtest.Nginx
	replicas  []*troubledReplica
	disk      int64             // bound of each directory, in bytes
	dead      *sharedtest.Redis // the master that was killed
}

type troubledReplica struct {
	*server
	command command
	admin   string // URL
	cache   string // directory
}

// Times of a row with troubles.
const (
	troubleLimit = 90 * time.Second // of the whole row
	troubleLasts = 3 * time.Second
	troubleFree  = 500 * time.Millisecond // between two troubles
)

// withTroubles starts a fleet whose replicas have disks of so many bytes and fetch
// from t, lets play work with it, and removes everything. Where a program is
// missing the row says so and is empty.
func (b *bench) withTroubles(ctx context.Context, r *result, disk int64, t target, play func(context.Context, *troubledFleet) error) error {
	if _, err := b.findFleetPrograms(ctx); err != nil {
		r.note("NOT MEASURED: %v (make setup installs what a fleet needs)", err)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, troubleLimit)
	defer cancel()
	began := time.Now()
	err := perform(ctx, b.dir("troubles"), func(s *stage) error {
		f := &troubledFleet{stage: s, b: b, r: r, disk: disk, sentinels: sharedtest.NewSentinels(s), s3: sharedtest.NewS3(s)}
		f.bucket = sharedtest.NewProxy(s, f.s3.Endpoint)
		if err := f.start(ctx, t); err != nil {
			return err
		}
		return play(ctx, f)
	})
	if ctx.Err() != nil {
		err = errors.Join(fmt.Errorf("not done within %v", troubleLimit), err)
	}
	r.note("it took %v", time.Since(began).Round(time.Second))
	return err
}

func (f *troubledFleet) start(ctx context.Context, t target) error {
	addrs, err := freeAddrs(6)
	if err != nil {
		return err
	}
	var urls []string
	for i := range 3 {
		addr, admin, dir := addrs[2*i], addrs[2*i+1], f.TempDir()
		rep := &troubledReplica{admin: "http://" + admin, cache: filepath.Join(dir, "cache")}
		rep.command = command{Path: f.b.bin.Modgate, URL: "http://" + addr, Dir: dir, Args: append([]string{"serve", "--config=off",
			"--listen=" + addr, "--admin-listen=" + admin, "--upstream=" + t.Upstream, "--sumdb=" + t.SumDB, "--cache-dir=" + rep.cache,
			fmt.Sprintf("--cache-max-size=%d", f.disk), "--cache-memory=8MiB", "--drain-delay=2s"}, f.shared()...)}
		if err := rep.start(ctx); err != nil {
			return err
		}
		f.Cleanup(func() { f.fail(rep.Close()) })
		f.replicas, urls = append(f.replicas, rep), append(urls, rep.URL)
	}
	f.nginx = sharedtest.NewNginx(f, urls...)
	return nil
}

// shared are the flags that name what the replicas share.
func (f *troubledFleet) shared() []string {
	return []string{"--cache-redis-mode=sentinel", "--cache-redis-master=mymaster", "--cache-redis-addr=" + strings.Join(f.sentinels.Addrs, ","),
		"--cache-s3-bucket=" + f.s3.Bucket, "--cache-s3-endpoint=" + f.bucket.URL, "--cache-s3-path-style=on",
		"--cache-s3-access-key=" + f.s3.AccessKey, "--cache-s3-secret-key=" + f.s3.SecretKey}
}

func (r *troubledReplica) start(ctx context.Context) (err error) {
	r.server, err = r.command.start(ctx)
	return err
}

// end sends sig and returns how the process has ended.
func (r *troubledReplica) end(ctx context.Context, sig syscall.Signal) error {
	if err := r.cmd.Process.Signal(sig); err != nil {
		return err
	}
	select {
	case err := <-r.done:
		r.done <- err // for Close
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// master is the Redis that is master now.
func (f *troubledFleet) master() *sharedtest.Redis {
	m, _ := f.sentinels.Roles()
	return m
}

// metric adds up the lines of all replicas that begin with prefix.
func (f *troubledFleet) metric(ctx context.Context, prefix string) (sum float64, err error) {
	for _, r := range f.replicas {
		var text bytes.Buffer
		if _, err := get(ctx, http.DefaultClient, r.admin+"/metrics", &text); err != nil {
			return 0, err
		}
		for line := range strings.Lines(text.String()) {
			if !strings.HasPrefix(line, prefix) {
				continue
			}
			v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", prefix, err)
			}
			sum += v
		}
	}
	return sum, nil
}

// written waits until the replicas have written all to the bucket.
func (f *troubledFleet) written(ctx context.Context) error {
	for {
		left, err := f.metric(ctx, "modgate_shared_backlog ")
		if err == nil && left == 0 {
			return nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%v objects wait for the bucket: %w", left, errors.Join(err, ctx.Err()))
		}
	}
}

// remains ends all replicas and counts what a crash has left half-written: objects
// of the directories and of the bucket that are not what they must be, and files
// of downloads.
func (f *troubledFleet) remains(ctx context.Context) (n int, err error) {
	if err := f.written(ctx); err != nil {
		return 0, err
	}
	for _, r := range f.replicas {
		if err := r.end(ctx, syscall.SIGTERM); err != nil {
			return n, fmt.Errorf("a replica that was told to end: %w", err)
		}
		out, err := exec.CommandContext(ctx, r.command.Path, "cache", "verify", "--config=off", "--rate=0", "--cache-dir="+r.cache).CombinedOutput()
		if err != nil || !strings.Contains(string(out), " 0 corrupt, 0 unreadable") {
			n++
			f.r.note("cache verify: %v: %s", err, lastLines(out, 3))
		}
		left, err := os.ReadDir(filepath.Join(r.cache, ".modgate", "spool"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
		n += len(left)
	}
	wrong, objects, err := f.compareBucket()
	f.r.note("%d objects in the bucket were compared with the upstream's", objects)
	return n + wrong, err
}

// compareBucket holds the files of the bucket against those that clients need.
func (f *troubledFleet) compareBucket() (wrong, objects int, err error) {
	for _, ext := range []string{".mod", ".zip"} {
		paths, err := treePaths(f.b.tree, ext)
		if err != nil {
			return wrong, objects, err
		}
		for _, p := range paths {
			got, err := os.ReadFile(filepath.Join(f.s3.Dir, p))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			want, err2 := os.ReadFile(filepath.Join(f.b.tree, p))
			if err := errors.Join(err, err2); err != nil {
				return wrong, objects, err
			}
			objects++
			if !slices.Equal(got, want) {
				wrong++
				f.r.note("in the bucket: %s has %d bytes, want %d", p, len(got), len(want))
			}
		}
	}
	return wrong, objects, nil
}

// usable waits until the replicas answer and use both tiers again.
func (f *troubledFleet) usable(ctx context.Context) error {
	for {
		redis, err1 := f.metric(ctx, "modgate_redis_up ")
		bucket, err2 := f.metric(ctx, "modgate_bucket_up ")
		if n := float64(len(f.replicas)); err1 == nil && err2 == nil && redis == n && bucket == n {
			return nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("redis is used by %v replicas, the bucket by %v: %w", redis, bucket, errors.Join(err1, err2, ctx.Err()))
		}
	}
}

// plainClient is for requests that are counted: nothing is tried again behind its
// back but what never reached a server.
func plainClient() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: newTransport()}
}
