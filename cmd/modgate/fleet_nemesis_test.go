package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/proxy/proxytest"
)

// How long the nemesis runs, and the seed of a run whose troubles are to come
// again in the same order.
const (
	envNemesis     = "MODGATE_TEST_NEMESIS"
	envNemesisSeed = "MODGATE_TEST_NEMESIS_SEED"
	nemesisTime    = time.Minute
)

// nemesisDisk bounds the directory of each replica. What the fleet holds is
// more from the start, and grows.
const nemesisDisk = 32 << 20

// recovery is how long requests may join a fetch that began in a trouble of
// upstream, and fails with it. The others succeed at once.
const recovery = 3 * time.Second

// nemesis does harm to a fleet while clients use it, and knows what they may be
// told meanwhile.
type nemesis struct {
	*sharingFleet
	company   *company
	sentinels *sharedtest.Sentinels

	// Of the driver alone. Nothing but the seed decides what comes out of rng.
	rng      *rand.Rand
	deck     []trouble
	victim   int             // replica that the next trouble is for
	owed     map[string]bool // paths that the bucket need not have in the end
	purged   string          // what the paths of the module that was purged in this round begin with
	dead     *sharedtest.Redis
	released chan struct{}
	round    int

	mu     sync.Mutex // guards what follows, and replicas
	spells []*spell
	known  []string            // paths of public files
	fresh  []string            // those of this round
	mods   []*proxytest.Module // of known
	old    int                 // how many of mods are not of this round
	acked  map[string]bool     // paths that a client has got whole
	secret map[string][]byte   // private files, as they came first
	counts map[string]int      // what clients were told, by verdict
	first  string              // the first failure
}

// spell is the time of one trouble.
type spell struct {
	trouble
	from, to time.Time       // to is zero until it is over
	certain  map[string]bool // what is served all the same
}

// TestFleetNemesis lets clients and go commands work all the time with a fleet
// to which troubles happen, one or two at a time, in an order that the seed
// decides; between them everything is mended. These hold throughout (the
// numbers are those of the design): a file never has other bytes (1), and they
// are what the checksum database says (2); what was served once is served again
// (3); what rules deny is never had (4); no private name is told to the public
// (5); what exists is not absent because upstream is slow or broken (6).
// Beside that no request fails but for the reasons that a trouble gives, the
// directories keep their bound, and nothing is fetched more often than it must.
func TestFleetNemesis(t *testing.T) {
	seed, limit := uint64(time.Now().UnixNano()), nemesisTime
	if s, err := strconv.ParseUint(os.Getenv(envNemesisSeed), 10, 64); err == nil {
		seed = s
	}
	if d, err := time.ParseDuration(os.Getenv(envNemesis)); err == nil {
		limit = d
	} else if testing.Short() {
		limit = 10 * time.Second
	}
	t.Logf("%s=%d", envNemesisSeed, seed)
	n := newNemesis(t, seed)
	ctx, cancel := context.WithTimeout(t.Context(), limit+5*time.Minute)
	defer cancel()
	clients, stopped := n.clients(ctx)
	for begin := time.Now(); time.Since(begin) < limit && !t.Failed(); {
		n.strike(ctx)
	}
	close(stopped)
	clients.Wait()
	if !t.Failed() {
		n.reckon(ctx)
	}
	t.Logf("%d rounds, %d modules; told: %v", n.round, len(n.mods), n.counts)
}

func newNemesis(t *testing.T, seed uint64) *nemesis {
	n := new(nemesis)
	t.Cleanup(func() {
		if n.first != "" { // once more, behind the logs of all
			t.Logf("the first failure: %s", n.first)
		}
	})
	c := newCompany(t)
	*n = nemesis{
		sharingFleet: prepareFleet(t, c.world), company: c, sentinels: sharedtest.NewSentinels(t),
		rng: rand.New(rand.NewPCG(seed, 0)), owed: map[string]bool{}, acked: map[string]bool{}, secret: map[string][]byte{}, counts: map[string]int{},
	}
	n.environ = []string{"HTTPS_PROXY=" + c.forward.URL}
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(rules, []byte("rules: [{name: no-evil, modules: example.com/evil, action: deny, reason: it is}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.args = append(n.args, "--cache-redis-mode=sentinel", "--cache-redis-master=mymaster", "--cache-redis-addr="+strings.Join(n.sentinels.Addrs, ","),
		"--private=git.corp.example/*", "--direct-file="+c.rules, "--tls-trust="+c.git.CAFile, "--policy-file="+rules,
		fmt.Sprintf("--cache-max-size=%d", nemesisDisk), "--cache-memory=1MiB", "--drain-delay=1s", "--cache-s3-timeout=3s", "--cache-redis-timeout=1s", "--ttl-negative=500ms", "--ttl-list=1s")
	evil := proxytest.Simple(t, "example.com/evil", "v1.0.0")
	n.addTo(t, evil)
	for i := range 12 {
		n.add(proxytest.Big(t, fmt.Sprintf("example.com/large%d", i), "v1.0.0", 3<<20))
	}
	n.start()
	n.publish(nil)
	return n
}

func (n *nemesis) errorf(format string, args ...any) {
	n.t.Helper()
	n.mu.Lock()
	if n.first == "" {
		n.first = fmt.Sprintf(format, args...)
	}
	n.mu.Unlock()
	n.t.Errorf(format, args...)
}

func (n *nemesis) fatalf(format string, args ...any) {
	n.t.Helper()
	n.errorf(format, args...)
	n.t.FailNow()
}

// add adds a module that clients do not know yet.
func (n *nemesis) add(m *proxytest.Module) {
	n.sharingFleet.add(m)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mods = append(n.mods, m)
}

// publish tells clients of all modules, and which of them are new.
func (n *nemesis) publish(fresh []*proxytest.Module) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fresh = nil
	for _, m := range fresh {
		for _, kind := range []string{"info", "mod", "zip"} {
			n.fresh = append(n.fresh, proxytest.Path(n.t, m.Version, kind))
		}
	}
	n.known = slices.Collect(maps.Keys(n.want))
	n.old = len(n.mods) - len(fresh)
}

// draw takes one or two troubles from the deck, in which each is once.
func (n *nemesis) draw() []trouble {
	var drawn []trouble
	for range 1 + n.rng.IntN(2) {
		if len(n.deck) == 0 {
			n.deck = slices.Concat(redisTroubles, bucketTroubles, upstreamTroubles, replicaTroubles, purgeTroubles)
			n.rng.Shuffle(len(n.deck), func(i, j int) { n.deck[i], n.deck[j] = n.deck[j], n.deck[i] })
		}
		i := slices.IndexFunc(n.deck, func(t trouble) bool {
			return !slices.ContainsFunc(drawn, func(d trouble) bool { return d.of == t.of })
		})
		if i < 0 {
			break
		}
		drawn = append(drawn, n.deck[i])
		n.deck = slices.Delete(n.deck, i, i+1)
	}
	return drawn
}

// strike makes troubles happen and mends everything. Meanwhile there are modules
// that no replica has.
func (n *nemesis) strike(ctx context.Context) {
	n.round++
	n.purged = ""
	n.victim = n.rng.IntN(replicaCount)
	last := time.Duration(500+n.rng.IntN(1500)) * time.Millisecond
	drawn := n.draw()
	var about []string
	for _, t := range drawn {
		about = append(about, t.about)
	}
	began := time.Now()
	n.t.Logf("round %d: %s, replica %d, %v", n.round, strings.Join(about, " and "), n.victim, last)
	sizes := []int{1000, 200 << 10, 1 << 20}
	fresh := make([]*proxytest.Module, len(sizes))
	for i, size := range sizes {
		fresh[i] = proxytest.Big(n.t, fmt.Sprintf("example.com/round%d", n.round%7), fmt.Sprintf("v1.%d.%d", n.round, i), size)
	}
	certain := n.certain()
	before := n.fetched(certain)
	errorsBefore := n.bucketErrors()
	var spells []*spell
	for _, t := range drawn {
		s := &spell{trouble: t, from: time.Now(), certain: certain}
		n.mu.Lock()
		n.spells = append(n.spells, s)
		n.mu.Unlock()
		spells = append(spells, s)
		t.begin(n)
	}
	for _, m := range fresh {
		n.add(m)
	}
	n.publish(fresh)
	select {
	case <-time.After(last):
	case <-ctx.Done():
		n.errorf("the time is over in the middle of a trouble")
	}
	for _, t := range slices.Backward(drawn) {
		t.end(n)
	}
	n.mend(drawn)
	for _, s := range spells {
		n.mu.Lock()
		s.to = time.Now()
		if s.pardon >= unknown {
			s.to = s.to.Add(recovery)
		}
		n.mu.Unlock()
	}
	n.audit(drawn, fresh, before, errorsBefore)
	n.t.Logf("round %d took %v", n.round, time.Since(began).Round(10*time.Millisecond))
}

// mend waits until the fleet has noticed that the troubles are over.
func (n *nemesis) mend(drawn []trouble) {
	n.sentinels.Settle()
	for _, i := range n.replicas {
		n.await("every replica is ready and has its tiers again", func() bool {
			code, text, err := fetch(n.t.Context(), sharingClient, i.admin+"/metrics")
			return err == nil && code == http.StatusOK && bytes.Contains(text, []byte("\nmodgate_redis_up 1\n")) &&
				bytes.Contains(text, []byte("\nmodgate_bucket_up 1\n")) && bytes.Contains(text, []byte("\nmodgate_bucket_writable 1\n"))
		})
	}
	for number, i := range n.replicas { // each for itself, without the others
		if !slices.ContainsFunc(drawn, func(t trouble) bool { return t.pardon >= unknown }) {
			break
		}
		probe := proxytest.Simple(n.t, "example.com/probe", fmt.Sprintf("v1.%d.%d", n.round, number))
		n.addTo(n.t, probe)
		n.await("upstream is asked again", func() bool {
			code, _, err := fetch(n.t.Context(), sharingClient, i.url+proxytest.Path(n.t, probe.Version, "mod"))
			return err == nil && code == http.StatusOK
		})
	}
}

// await is until with the patience that a fleet needs which recovers.
func (n *nemesis) await(what string, condition func() bool) {
	n.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			n.fatalf("in vain: %s", what)
		}
	}
}

// certain are the files that clients have got and that the bucket has had for a
// while: what came a moment ago may be on its way to another replica as well, from
// upstream.
func (n *nemesis) certain() map[string]bool {
	n.mu.Lock()
	acked := slices.Collect(maps.Keys(n.acked))
	n.mu.Unlock()
	certain := map[string]bool{}
	for _, path := range acked {
		if fi, err := os.Stat(filepath.Join(n.s3.Dir, path)); err == nil && time.Since(fi.ModTime()) > recovery {
			certain[path] = true
		}
	}
	return certain
}

// fetched is how often upstream was asked for the files.
func (n *nemesis) fetched(paths map[string]bool) map[string]int {
	counts := map[string]int{}
	for path := range paths {
		counts[path] = n.upstream.Count(path)
	}
	return counts
}

// bucketErrors is how often the bucket has failed a replica, where all live.
func (n *nemesis) bucketErrors() float64 {
	sum := 0.0
	for _, i := range n.replicas {
		sum += i.metric(n.t, "modgate_bucket_errors_total")
	}
	return sum
}

// audit holds the fetches of a round against what its troubles excuse.
func (n *nemesis) audit(drawn []trouble, fresh []*proxytest.Module, before map[string]int, errorsBefore float64) {
	most := 1
	for _, t := range drawn {
		if t.fetches == 0 {
			return
		}
		most = max(most, t.fetches)
	}
	for _, m := range fresh {
		for _, kind := range []string{"info", "mod", "zip"} {
			path := proxytest.Path(n.t, m.Version, kind)
			if c := n.upstream.Count(path); c > most {
				n.errorf("%s was fetched %d times, want %d at most", path, c, most)
			}
		}
	}
	for path, count := range before {
		if c := n.upstream.Count(path); c > count && (n.purged == "" || !strings.HasPrefix(path, n.purged)) {
			n.errorf("%s was fetched again, and is in the bucket (which failed %v times)", path, n.bucketErrors()-errorsBefore)
		}
	}
}

// checkLog looks for what a process must never say.
func (n *nemesis) checkLog(i *instance) {
	for _, word := range []string{"DATA RACE", "panic:", "fatal error:", "other content under a name"} {
		if strings.Contains(i.log(), word) {
			n.errorf("a replica says %q:\n%s", word, i.log())
		}
	}
}

// reckon looks, when all is mended and quiet, at what is left.
func (n *nemesis) reckon(ctx context.Context) {
	n.publish(nil)
	all := func(about string) {
		for _, i := range n.replicas {
			for _, path := range n.known {
				if err := n.fetch(ctx, i.url, path); err != nil {
					n.errorf("%s: %v", about, err)
				}
			}
			for path, want := range n.secret {
				if code, body, err := fetch(ctx, sharingClient, i.url+path); err != nil || code != http.StatusOK || !bytes.Equal(body, want) {
					n.errorf("%s: %s: %d, %v", about, path, code, err)
				}
			}
		}
	}
	all("afterwards")
	n.written(n.replicas...)
	for path, want := range n.want {
		data, err := os.ReadFile(filepath.Join(n.s3.Dir, path))
		if n.owed[path] && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !bytes.Equal(data, want) {
			n.errorf("in the bucket: %s: %d bytes of %d, %v", path, len(data), len(want), err)
		}
	}
	n.redis("flushall")
	n.upstream.SetFault("*", proxytest.Status(500, "gone"))
	all("from the bucket alone")
	n.upstream.SetFault("*", nil)
	for _, r := range n.upstream.Requests() {
		if strings.Contains(r.Path, "corp.example") || strings.Contains(r.Path, "secret") {
			n.errorf("a private name was told to the public: %s", r.Path)
		}
		if r.Path == "/example.com/evil/@v/v1.0.0.zip" {
			n.errorf("a denied zip was fetched")
		}
	}
	for _, host := range n.company.forward.Asked() {
		if host != "git.corp.example:443" {
			n.errorf("%s was asked for", host)
		}
	}
	for _, i := range n.replicas {
		if err := i.stop(); err != nil {
			n.errorf("%v", err)
		}
		n.checkLog(i)
		out, err := exec.Command("modgate", "cache", "verify", "--online", "--config=off", "--cache-dir="+i.dir, "--private=git.corp.example/*", n.flags()[0], n.flags()[1]).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte(" 0 corrupt, 0 unreadable")) {
			n.errorf("verify: %v\n%s", err, out)
		}
		n.t.Logf("%s", bytes.TrimSpace(out))
		if left := strays(n.t, i.dir); len(left) > 0 {
			n.errorf("left in the spool: %q", left)
		}
	}
}
