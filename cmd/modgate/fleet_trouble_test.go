package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/proxy/proxytest"
)

// sphere is what a trouble happens to. Two troubles at once are never of the same.
type sphere int

const (
	ofRedis   sphere = iota
	ofOutside        // the bucket, the upstream, and what a purge removes from both
	ofReplica
)

// pardon is what a trouble may do to clients.
type pardon int

const (
	// nothing: every request succeeds.
	nothing pardon = iota
	// cutOff: who speaks to the replica that dies asks again.
	cutOff
	// unknown: what the fleet had not kept when the trouble began may fail, but
	// is not absent.
	unknown
	// absent: the same, and it may be absent.
	absent
)

// trouble is something that happens to a fleet, and its end.
type trouble struct {
	about  string
	of     sphere
	pardon pardon
	// fetches is how often a file that is new meanwhile may be fetched from
	// upstream. 0: any number of times.
	fetches int
	begin   func(n *nemesis)
	end     func(n *nemesis)
}

// replicaCount is how many fetch a file if each must do so for itself.
const replicaCount = 3

var redisTroubles = []trouble{
	{"redis hangs", ofRedis, nothing, replicaCount,
		func(n *nemesis) { n.sentinels.Master.Hang(); n.sentinels.Replica.Hang() },
		func(n *nemesis) { n.sentinels.Master.Resume(); n.sentinels.Replica.Resume() }},
	{"redis is killed", ofRedis, nothing, replicaCount,
		func(n *nemesis) { n.sentinels.Master.Kill(); n.sentinels.Replica.Kill() },
		func(n *nemesis) { n.sentinels.Master.Restart(); n.sentinels.Replica.Restart() }},
	{"redis fails over", ofRedis, nothing, replicaCount,
		func(n *nemesis) { n.dead, _ = n.sentinels.Roles(); n.dead.Kill() },
		func(n *nemesis) {
			n.await("the Sentinels choose another master", func() bool { m, _ := n.sentinels.Roles(); return m != n.dead })
			n.dead.Restart()
		}},
	{"redis has no room", ofRedis, nothing, replicaCount,
		func(n *nemesis) { n.redis("config", "set", "maxmemory", "1") },
		func(n *nemesis) { n.redis("config", "set", "maxmemory", "0") }},
	{"redis holds garbage", ofRedis, nothing, replicaCount, func(n *nemesis) { n.master().Garble() }, func(*nemesis) {}},
	{"redis holds values of other keys", ofRedis, nothing, replicaCount, func(n *nemesis) { n.master().Confuse() }, func(*nemesis) {}},
}

// bucketTrouble makes the bucket do something to every request.
func bucketTrouble(about string, f sharedtest.Fault) trouble {
	return trouble{about, ofOutside, nothing, 0, func(n *nemesis) { n.bucket.Always(f) }, func(n *nemesis) { n.bucket.Always(sharedtest.Fault{}) }}
}

var bucketTroubles = []trouble{
	bucketTrouble("the bucket answers 500", sharedtest.Fault{Status: 500}),
	bucketTrouble("the bucket answers 503", sharedtest.Fault{Status: 503}),
	bucketTrouble("the bucket answers 403", sharedtest.Fault{Status: 403}),
	bucketTrouble("the bucket hangs", sharedtest.Fault{Hang: true}),
	bucketTrouble("the bucket sends parts", sharedtest.Fault{Cut: 700}),
	bucketTrouble("the bucket sends other bytes", sharedtest.Fault{Flip: 99}),
	{"the bucket is killed", ofOutside, nothing, 0, func(n *nemesis) { n.s3.Kill() }, func(n *nemesis) { n.s3.Restart() }},
}

// upstreamTrouble makes upstream and checksum database do something to every
// request.
func upstreamTrouble(about string, p pardon, f proxytest.Fault) trouble {
	return trouble{about, ofOutside, p, 0, func(n *nemesis) { n.upstream.SetFault("*", f) }, func(n *nemesis) { n.upstream.SetFault("*", nil) }}
}

var upstreamTroubles = []trouble{
	upstreamTrouble("upstream is slow", nothing, proxytest.Delay(700*time.Millisecond)),
	upstreamTrouble("upstream answers 500", unknown, proxytest.Status(500, "no")),
	upstreamTrouble("upstream answers 429", unknown, proxytest.Status(429, "no")),
	upstreamTrouble("upstream ends early", unknown, proxytest.Reset(100)),
	upstreamTrouble("upstream sends short files", unknown, proxytest.Short(150)),
	upstreamTrouble("upstream sends a sign-in page", unknown, proxytest.HTML()),
	upstreamTrouble("upstream has lost everything", absent, lost),
	{"upstream hangs", ofOutside, unknown, 0,
		func(n *nemesis) {
			n.released = make(chan struct{})
			n.upstream.SetFault("*", hangUntil(n.released))
		},
		func(n *nemesis) { n.upstream.SetFault("*", nil); close(n.released) }},
}

// lost answers that there are no modules. To say so of the checksum database
// would be to send modgate to the real one.
func lost(x proxytest.Exchange) {
	if strings.HasPrefix(x.R.URL.Path, "/sumdb/") {
		x.Honest.ServeHTTP(x.W, x.R)
		return
	}
	http.Error(x.W, "not found: lost", http.StatusNotFound)
}

// hangUntil answers nothing, and then never will.
func hangUntil(released <-chan struct{}) proxytest.Fault {
	return func(x proxytest.Exchange) {
		select {
		case <-released:
		case <-x.R.Context().Done():
		case <-x.Done:
		}
		panic(http.ErrAbortHandler)
	}
}

var replicaTroubles = []trouble{
	{"a replica is killed", ofReplica, cutOff, 2, (*nemesis).killOne,
		func(n *nemesis) { n.restart(n.replicas[n.victim].dir) }},
	{"a replica loses its disk", ofReplica, cutOff, 2, func(n *nemesis) { n.killOne(); n.owes() },
		func(n *nemesis) { n.restart(n.t.TempDir()) }},
	{"a replica is drained", ofReplica, nothing, 1,
		func(n *nemesis) {
			if err := n.replicas[n.victim].stop(); err != nil {
				n.errorf("%v", err)
			}
		}, func(n *nemesis) { n.restart(n.replicas[n.victim].dir) }},
	{"a replica stands still", ofReplica, nothing, 2,
		func(n *nemesis) { n.replicas[n.victim].cmd.Process.Signal(syscall.SIGSTOP) },
		func(n *nemesis) { n.replicas[n.victim].cmd.Process.Signal(syscall.SIGCONT) }},
}

var purgeTroubles = []trouble{
	{"a module is purged", ofOutside, nothing, 1, (*nemesis).purgeOne, func(*nemesis) {}},
}

func (n *nemesis) killOne() {
	i := n.replicas[n.victim]
	i.cmd.Process.Signal(syscall.SIGKILL)
	<-i.ended
}

// owes notes what is not in the bucket now: it may have been for a replica that
// is no more to bring it there, and the others have it from Redis.
func (n *nemesis) owes() {
	n.sharingFleet.mu.Lock()
	defer n.sharingFleet.mu.Unlock()
	for path := range n.want {
		if _, err := os.Stat(filepath.Join(n.s3.Dir, path)); err != nil {
			n.owed[path] = true
		}
	}
}

// restart starts the victim again, at the address where it was.
func (n *nemesis) restart(dir string) {
	old := n.replicas[n.victim]
	n.checkLog(old)
	args := append(append([]string{}, n.args...), "--listen="+strings.TrimPrefix(old.url, "http://"))
	i, err := launch(n.environ, dir, args...)
	if err != nil {
		n.fatalf("%v", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.replicas[n.victim] = i
}

// redis runs a command on the master.
func (n *nemesis) redis(args ...string) { n.master().Do(args...) }

func (n *nemesis) master() *sharedtest.Redis {
	m, _ := n.sentinels.Roles()
	return m
}

// purgeOne purges one of the first modules, by a replica that is not in trouble.
// Where Redis is, the answer may be that it is not gone from there.
func (n *nemesis) purgeOne() {
	v := n.rng.IntN(12)
	mod := fmt.Sprintf("example.com/fleet%d@v1.%d.0", v%4, v)
	n.purged = fmt.Sprintf("/example.com/fleet%d/@v/v1.%d.0.", v%4, v)
	n.forgets(n.purged)
	if status := purgeStatus(n.t, n.replicas[(n.victim+1)%replicaCount], mod); status != http.StatusOK && status != http.StatusNotFound && status != http.StatusBadGateway {
		n.errorf("purge of %s: %d", mod, status)
	}
}
