package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/mem"
	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/internal/breaker"
)

// ownSpoil changes a byte of a file that a server keeps an object in.
func ownSpoil(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, 40); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, 40); err != nil {
		t.Fatal(err)
	}
}

// awaitMetrics waits until the metrics of i have all of these.
func awaitMetrics(t *testing.T, i *instance, want map[string]float64) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, text := get(t, i.admin+"/metrics")
		missing := ""
		for name := range want {
			if strings.Contains(text, "\n"+name+" 0\n") || !strings.Contains(text, "\n"+name+" ") {
				missing = name
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not rise\n%s", missing, lastLines(i.log(), 20))
		}
		<-time.After(50 * time.Millisecond)
	}
}

// What has rotted on the disk or in the bucket, and nobody asks for, is found in
// the background and replaced.
func TestScrub(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bucket := sharedtest.NewS3(t)
	flags := []string{"--cache-s3-bucket=" + bucket.Bucket, "--cache-s3-endpoint=" + bucket.Endpoint, "--cache-s3-path-style=on",
		"--cache-s3-access-key=" + bucket.AccessKey, "--cache-s3-secret-key=" + bucket.SecretKey}
	i := w.start(t, append(flags, "--cache-scrub-every=400ms", "--cache-scrub-rate=1GiB")...)
	const zip, mod = "example.com/greet/@v/v1.0.0.zip", "example.com/greet/@v/v1.1.0.zip"
	for _, name := range []string{zip, mod} {
		if code, text := get(t, i.url+"/"+name); code != 200 {
			t.Fatalf("%d %s", code, text)
		}
	}
	awaitMetrics(t, i, map[string]float64{`modgate_scrub_finished_seconds{tier="bucket"}`: 1})
	there := func(file string) {
		deadline := time.Now().Add(10 * time.Second)
		for _, err := os.Stat(file); err != nil; _, err = os.Stat(file) {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	there(filepath.Join(bucket.Dir, mod))
	ownSpoil(t, filepath.Join(i.dir, zip))
	ownSpoil(t, filepath.Join(bucket.Dir, mod))
	awaitMetrics(t, i, map[string]float64{
		`modgate_scrub_corrupt_total{tier="directory"}`: 1, `modgate_scrub_healed_total{tier="directory"}`: 1,
		`modgate_scrub_corrupt_total{tier="bucket"}`: 1, `modgate_scrub_healed_total{tier="bucket"}`: 1,
	})
	there(filepath.Join(i.dir, zip))
	there(filepath.Join(bucket.Dir, mod))
	if n := w.upstream.Count("/" + zip); n != 1 {
		t.Errorf("the zip was fetched %d times: the bucket has it", n)
	}
	if _, text := get(t, i.admin+"/metrics"); !strings.Contains(text, `modgate_scrub_unreadable_total{tier="directory"} 0`) {
		t.Error("something could not be read")
	}
}

// far is a store that answers late.
type far struct{ cache.Store }

func (f far) Get(ctx context.Context, name string) (*cache.Object, error) {
	time.Sleep(100 * time.Microsecond)
	return f.Store.Get(ctx, name)
}

// Of replicas that start at the same time one reads the bucket.
func TestScrubOfOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		marks, err := mem.New(mem.Config{MaxBytes: 1 << 20, MaxObject: 1 << 10})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		reading := 0
		for range 5 {
			s := &scrubber{c: Scrub{Rate: 1, Every: Duration(24 * time.Hour)}, log: slog.New(slog.DiscardHandler)}
			s.m.init()
			s.tiers = []scrubbed{{marks: far{marks}, sorted: true, tier: tier{name: tierBucket, list: func(context.Context, string) iter.Seq2[cache.Entry, error] {
				reading++
				<-ctx.Done()
				return func(func(cache.Entry, error) bool) {}
			}}}}
			wg.Go(func() { _ = s.run(ctx) })
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if reading != 1 {
			t.Errorf("%d replicas read the bucket at once", reading)
		}
		cancel()
		wg.Wait()
	})
}

// A machine alone gets from upstream what has rotted.
func TestScrubAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := w.start(t, "--cache-scrub-every=400ms", "--cache-scrub-rate=1GiB")
	const zip = "example.com/greet/@v/v1.0.0.zip"
	get(t, i.url+"/"+zip)
	ownSpoil(t, filepath.Join(i.dir, zip))
	awaitMetrics(t, i, map[string]float64{`modgate_scrub_healed_total{tier="directory"}`: 1})
	if n := w.upstream.Count("/" + zip); n != 2 {
		t.Errorf("the zip was fetched %d times", n)
	}
	if !strings.Contains(i.log(), "was put aside") {
		t.Errorf("the log does not say so:\n%s", lastLines(i.log(), 20))
	}
}

// The command looks at all tiers and lets one help the other.
func TestVerifyTheFleet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bucket, redis := sharedtest.NewS3(t), sharedtest.NewRedis(t)
	flags := []string{"--cache-redis-addr=" + redis.Addr, "--cache-s3-bucket=" + bucket.Bucket, "--cache-s3-endpoint=" + bucket.Endpoint,
		"--cache-s3-path-style=on", "--cache-s3-access-key=" + bucket.AccessKey, "--cache-s3-secret-key=" + bucket.SecretKey}
	i := w.start(t, flags...)
	const near, far = "example.com/greet/@v/v1.0.0.zip", "example.com/greet/@v/v1.1.0.zip"
	for _, name := range []string{near, far} {
		if code, text := get(t, i.url+"/"+name); code != 200 {
			t.Fatalf("%d %s", code, text)
		}
	}
	if err := i.stop(); err != nil { // and with it the backlog is written
		t.Fatal(err)
	}
	ownSpoil(t, filepath.Join(i.dir, near))
	ownSpoil(t, filepath.Join(bucket.Dir, far))
	command := func(args ...string) (string, error) {
		cmd := exec.Command("modgate", append(append([]string{"cache"}, args...), "--cache-dir="+i.dir)...)
		cmd.Env = []string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH"), "MODGATE_CONFIG=off"}
		for _, f := range flags {
			name, value, _ := strings.Cut(strings.TrimPrefix(f, "--"), "=")
			cmd.Env = append(cmd.Env, "MODGATE_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"="+value)
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := command("verify")
	for _, part := range []string{"corrupt " + near, "corrupt in bucket " + far, "1 replaced from elsewhere\ncorrupt in bucket ", "\nredis: ", "quarantine now"} {
		if err == nil || !strings.Contains(out, part) {
			t.Errorf("%v, want %q in\n%s", err, part, out)
		}
	}
	if strings.Count(out, "1 replaced from elsewhere") != 2 {
		t.Errorf("both should be replaced:\n%s", out)
	}
	if out, err := command("verify"); err != nil || strings.Count(out, " 0 corrupt, 0 unreadable") != 3 {
		t.Errorf("after that: %v\n%s", err, out)
	}
	if out, err := command("verify", "--alone"); err != nil || strings.Contains(out, "bucket") {
		t.Errorf("--alone: %v\n%s", err, out)
	}
	out, err = command("stat")
	for _, part := range []string{"\nbucket\nsize ", "\nredis\nsize ", "quarantined  1, in " + i.dir, "quarantined  1, in .quarantine/ below the prefix\n\nredis"} {
		if err != nil || !strings.Contains(out, part) {
			t.Errorf("stat: %v, want %q in\n%s", err, part, out)
		}
	}
	var all statReport
	if out, err := command("stat", "--json"); err != nil || json.Unmarshal([]byte(out), &all) != nil || len(all.Shared) != 2 {
		t.Fatalf("stat: %v\n%s", err, out)
	}
	for less, want := range map[int64]string{0: "0 objects, 0 B, would be removed", 1: "1 object, "} {
		to := fmt.Sprintf("--to=%dB", all.Shared[0].Total.Bytes-less)
		if out, err := command("trim", "--tier=bucket", "--dry-run", to); err != nil || !strings.Contains(out, want) {
			t.Errorf("trim %s of what stat counts: %v, want %q in\n%s", to, err, want, out)
		}
	}
	if out, err := command("trim", "--to=0", "--tier=bucket"); err != nil || strings.Contains(out, "sumdb") || strings.Contains(out, " 0 objects") {
		t.Errorf("trim: %v\n%s", err, out)
	}
	if out, err := command("stat"); err != nil || strings.Contains(out[strings.Index(out, "bucket"):strings.Index(out, "redis")], "zip") {
		t.Errorf("stat after trim: %v\n%s", err, out)
	}
	if out, err := command("trim", "--to=0", "--tier=redis"); err == nil || !strings.Contains(out, "neither directory nor bucket") {
		t.Errorf("trim of redis: %v\n%s", err, out)
	}
	redis.Kill()
	if out, err := command("stat"); err == nil || !strings.Contains(out, "\nbucket\n") || !strings.Contains(out, "\n  → start the Redis at "+redis.Addr) {
		t.Errorf("stat without redis: %v\n%s", err, out)
	}
	if out, err := command("verify"); err == nil || !strings.Contains(out, "redis cannot be listed: ") || !strings.Contains(out, "\nbucket: ") {
		t.Errorf("a tier that cannot be read: %v\n%s", err, out)
	}
}

// A tier that is in trouble in the middle is not taken for one that was looked
// at, nor asked for all the rest.
func TestVerificationOfATierInTrouble(t *testing.T) {
	listed := func(_ context.Context, _ string) iter.Seq2[cache.Entry, error] {
		return func(yield func(cache.Entry, error) bool) {
			for i := range 1000 {
				if !yield(cache.Entry{Name: fmt.Sprintf("example.com/m/@v/v1.0.%d.info", i)}, nil) {
					return
				}
			}
			yield(cache.Entry{}, errors.New("torn"))
		}
	}
	opened := 0
	v := &verification{pace: &pace{}, workers: 1, seen: func(string) {}, tier: tier{name: "bucket", list: listed, open: func(context.Context, string) (*cache.Object, error) {
		if opened++; opened > 3 {
			return nil, breaker.ErrOpen
		}
		return &cache.Object{Bytes: []byte("{}")}, nil
	}}}
	if err := v.run(t.Context()); !errors.Is(err, breaker.ErrOpen) || opened > 6 || len(v.report.Failed) > 0 || v.report.Objects > 6 {
		t.Errorf("%v, %d opened, %+v", err, opened, v.report)
	}
	v = &verification{pace: &pace{}, workers: 1, seen: func(string) {}, tier: tier{name: "bucket", list: listed, open: func(context.Context, string) (*cache.Object, error) {
		return &cache.Object{Bytes: []byte("{}")}, nil
	}}}
	if err := v.run(t.Context()); err == nil || !strings.Contains(err.Error(), "bucket cannot be listed: torn") || v.report.Objects != 1000 {
		t.Errorf("%v, %+v", err, v.report)
	}
	if err := (&verification{pace: &pace{}, workers: 1, seen: func(string) {}, tier: tier{list: func(context.Context, string) iter.Seq2[cache.Entry, error] {
		return func(func(cache.Entry, error) bool) {}
	}}}).run(t.Context()); err != nil {
		t.Errorf("an empty tier: %v", err)
	}
}

// Objects wait for those before them, and for nothing else.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pace{rate: 1000}
		begin := time.Now()
		for _, want := range []time.Duration{0, time.Second, 3 * time.Second} {
			if err := p.wait(t.Context(), 1000*int64(want/time.Second+1)); err != nil || time.Since(begin) != want {
				t.Errorf("%v after %v, want %v", err, time.Since(begin), want)
			}
		}
		time.Sleep(time.Hour)
		begin = time.Now()
		if err := p.wait(t.Context(), 1); err != nil || time.Since(begin) != 0 {
			t.Errorf("after a pause: %v", time.Since(begin))
		}
		_ = p.wait(t.Context(), 1<<20)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.wait(ctx, 1); err == nil {
			t.Error("who leaves is kept")
		}
	})
}
