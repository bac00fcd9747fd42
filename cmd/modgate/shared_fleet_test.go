package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/proxy/proxytest"
)

// sharingFleet is three replicas of modgate that share a Redis and a bucket, with a
// load balancer in front and faults on the way to the bucket.
type sharingFleet struct {
	*world
	t        *testing.T
	redis    *sharedtest.Redis
	s3       *sharedtest.S3
	bucket   *sharedtest.Proxy
	environ  []string
	args     []string
	replicas []*instance
	nginx    *sharedtest.Nginx
	// want are the bodies of all files that never change, by path.
	want map[string][]byte
	mu   sync.Mutex // guards want
}

// newSharingFleet starts one with a Redis alone.
func newSharingFleet(t *testing.T, args ...string) *sharingFleet {
	t.Helper()
	f := prepareFleet(t, newWorld(t))
	f.redis = sharedtest.NewRedis(t)
	f.start(append([]string{"--cache-redis-addr=" + f.redis.Addr}, args...)...)
	return f
}

// prepareFleet makes what the replicas will need in w, but Redis.
func prepareFleet(t *testing.T, w *world) *sharingFleet {
	t.Helper()
	f := &sharingFleet{world: w, t: t, s3: sharedtest.NewS3(t), want: map[string][]byte{}}
	f.bucket = sharedtest.NewProxy(t, f.s3.Endpoint)
	for i := range 12 {
		f.add(proxytest.Simple(t, fmt.Sprintf("example.com/fleet%d", i%4), fmt.Sprintf("v1.%d.0", i)))
	}
	f.add(proxytest.Big(t, "example.com/big", "v1.0.0", 9<<20))
	f.args = append(f.flags(), "--cache-s3-bucket="+f.s3.Bucket, "--cache-s3-endpoint="+f.bucket.URL,
		"--cache-s3-path-style=on", "--cache-s3-access-key="+f.s3.AccessKey, "--cache-s3-secret-key="+f.s3.SecretKey,
		"--cache-s3-timeout=1s", "--look-ahead=0")
	return f
}

// start starts three replicas and what is in front of them. They must end well
// with the test.
func (f *sharingFleet) start(args ...string) {
	f.t.Helper()
	f.args = append(f.args, args...)
	var urls []string
	for range 3 {
		urls = append(urls, f.launch().url)
	}
	f.nginx = sharedtest.NewNginx(f.t, urls...)
	f.t.Cleanup(func() {
		for _, i := range f.replicas {
			if err := i.stop(); err != nil {
				f.t.Error(err)
			}
		}
		if f.t.Failed() {
			for n, i := range f.replicas {
				trouble := slices.DeleteFunc(strings.Split(i.log(), "\n"), func(l string) bool { return !strings.Contains(l, "level=WARN") && !strings.Contains(l, "level=ERROR") })
				f.t.Logf("replica %d:\n%s", n, lastLines(strings.Join(trouble, "\n"), 60))
			}
		}
	})
}

func (f *sharingFleet) add(m *proxytest.Module) {
	f.log.Add(m.Version, m.H1, m.ModH1)
	f.upstream.Add(f.t, m)
	f.mu.Lock()
	defer f.mu.Unlock()
	for kind, data := range map[string][]byte{"info": m.Info, "mod": m.Mod, "zip": m.Zip} {
		f.want[proxytest.Path(f.t, m.Version, kind)] = data
	}
}

// launch starts one more replica.
func (f *sharingFleet) launch() *instance {
	f.t.Helper()
	i, err := launch(f.environ, f.t.TempDir(), f.args...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.replicas = append(f.replicas, i)
	return i
}

// paths of all files, in an order of its own for each client.
func (f *sharingFleet) paths() []string {
	f.mu.Lock()
	p := slices.Collect(maps.Keys(f.want))
	f.mu.Unlock()
	rand.Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
	return p
}

var sharingClient = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}

// fetch gets a file and compares it.
func (f *sharingFleet) fetch(ctx context.Context, url, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
	if err != nil {
		return err
	}
	resp, err := sharingClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	f.mu.Lock()
	want := f.want[path]
	f.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s: %.200s", path, resp.Status, body)
	case want != nil && !bytes.Equal(body, want):
		return fmt.Errorf("%s: %w", path, errWrongBytes)
	}
	return nil
}

var errWrongBytes = errors.New("WRONG BYTES")

// Six cold clients on three replicas: each object is fetched once.
func TestFleetFetchesOnce(t *testing.T) {
	// A busy machine is no Redis in trouble.
	f := newSharingFleet(t, "--cache-redis-timeout=5s", "--cache-s3-timeout=10s")
	f.fetchOnce()
}

// The same while Redis does not answer for longer than its time-out.
func TestFleetFetchesOnceWhileRedisHangs(t *testing.T) {
	f := newSharingFleet(t, "--cache-s3-timeout=10s")
	f.redis.Hang()
	resume := time.AfterFunc(700*time.Millisecond, f.redis.Resume)
	defer resume.Stop()
	f.fetchOnce()
	var troubles float64
	for _, r := range f.replicas {
		troubles += r.metric(t, "modgate_redis_errors_total ")
	}
	if troubles == 0 {
		t.Error("no replica has noticed")
	}
}

// fetchOnce lets cold clients work and wants each object to have been fetched once.
func (f *sharingFleet) fetchOnce() {
	t := f.t
	t.Helper()
	var clients sync.WaitGroup
	for c := range 6 {
		clients.Go(func() {
			for _, path := range f.paths() {
				if err := f.fetch(t.Context(), f.replicas[c%3].url, path); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 3 {
		clients.Go(func() {
			dir := t.TempDir()
			cmd := exec.Command("go", "mod", "download", "example.com/fleet0@v1.0.0", "example.com/big@v1.0.0")
			cmd.Dir, cmd.Env = dir, goEnv(dir, f.replicas[i].url, f.log.Key())
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("go mod download: %v\n%s", err, out)
			}
		})
	}
	clients.Wait()
	for path := range f.want {
		if n := f.upstream.Count(path); n != 1 {
			t.Errorf("%s was fetched %d times", path, n)
		}
	}
	// Records and tiles of the checksum database, too. What they are asked for
	// once more is how far it has grown.
	for _, r := range f.upstream.Requests() {
		if n := f.upstream.Count(r.Path); n > 1 && !strings.HasSuffix(r.Path, "/supported") && !strings.HasSuffix(r.Path, "/latest") {
			t.Errorf("%s was fetched %d times", r.Path, n)
		}
	}
}

// What one replica learns the others know: a new version at once in the list,
// and all of it in a replica that comes later, with upstream gone.
func TestFleetShares(t *testing.T) {
	f := newSharingFleet(t, "--ttl-list=1h")
	list := func(i *instance) string {
		_, body := get(t, i.url+"/example.com/fleet0/@v/list")
		return body
	}
	before := list(f.replicas[0])
	for _, i := range f.replicas {
		if got := list(i); got != before {
			t.Errorf("lists differ: %q and %q", got, before)
		}
	}
	if n := f.upstream.Count("/example.com/fleet0/@v/list"); n != 1 {
		t.Errorf("the list was fetched %d times", n)
	}
	f.add(proxytest.Simple(t, "example.com/fleet0", "v1.99.0"))
	if err := f.fetch(t.Context(), f.replicas[1].url, "/example.com/fleet0/@v/v1.99.0.mod"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Second)
	for _, i := range f.replicas {
		for !strings.Contains(list(i), "v1.99.0") {
			if time.Now().After(deadline) {
				t.Fatalf("a second later a replica lists %q", list(i))
			}
		}
	}
	for path := range f.want {
		if err := f.fetch(t.Context(), f.nginx.URL, path); err != nil {
			t.Fatal(err)
		}
	}
	f.written(f.replicas...)
	f.redis.Do("flushall")
	f.upstream.Forget()
	late := f.launch()
	for path := range f.want {
		if err := f.fetch(t.Context(), late.url, path); err != nil {
			t.Error(err)
		}
		if n := f.upstream.Count(path); n != 0 {
			t.Errorf("%s was fetched again", path)
		}
	}
}

// What is purged by one replica, or by a command beside one, is gone from all of
// them, from their memory, the bucket and Redis.
func TestFleetPurge(t *testing.T) {
	f := newSharingFleet(t)
	everywhere := func(path string, want int) {
		t.Helper()
		for _, i := range f.replicas {
			for range 2 {
				if err := f.fetch(t.Context(), i.url, path); err != nil {
					t.Error(err)
				}
			}
		}
		if n := f.upstream.Count(path); n != want {
			t.Errorf("%s was fetched %d times, want %d", path, n, want)
		}
	}
	const mod, zip = "/example.com/fleet0/@v/v1.0.0.mod", "/example.com/big/@v/v1.0.0.zip"
	everywhere(mod, 1)
	everywhere(zip, 1)
	f.written(f.replicas...)
	resp, err := http.Post(f.replicas[2].admin+"/-/purge?module=example.com/fleet0@v1.0.0&module=example.com/big", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "big/@v/v1.0.0.zip") {
		t.Errorf("%s: %s", resp.Status, body)
	}
	<-time.After(300 * time.Millisecond) // they are told within a second
	everywhere(mod, 2)
	everywhere(zip, 2)
	f.written(f.replicas...)

	// The same command as on a machine alone, with the configuration of the server.
	cmd := exec.Command("modgate", "cache", "purge", "example.com/big", "--cache-dir="+f.replicas[0].dir)
	cmd.Env = []string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH"), "MODGATE_CONFIG=off"}
	for _, arg := range f.args {
		if name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "="); strings.HasPrefix(name, "cache-") {
			cmd.Env = append(cmd.Env, "MODGATE_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"="+value)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "big/@v/v1.0.0.zip") {
		t.Errorf("%v\n%s", err, out)
	}
	<-time.After(300 * time.Millisecond)
	everywhere(zip, 3)
	if status := purgeStatus(t, f.replicas[0], "example.com/nothing"); status != http.StatusNotFound {
		t.Errorf("what is not there: %d", status)
	}
	if status := purgeStatus(t, f.replicas[0], ""); status != http.StatusBadRequest {
		t.Errorf("nothing named: %d", status)
	}
}

func purgeStatus(t *testing.T, i *instance, module string) int {
	t.Helper()
	resp, err := http.Post(i.admin+"/-/purge?module="+module, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// written waits until the replicas have written all to the bucket.
func (f *sharingFleet) written(replicas ...*instance) {
	f.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for _, i := range replicas {
		for {
			_, text := get(f.t, i.admin+"/metrics")
			if strings.Contains(text, "\nmodgate_shared_backlog 0\n") {
				break
			}
			if time.Now().After(deadline) {
				f.t.Fatal("the backlog does not become empty")
			}
			<-time.After(20 * time.Millisecond)
		}
	}
}
