package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/proxy/proxytest"
)

// clusterTrouble is something that happens to one of the three masters.
type clusterTrouble struct {
	about      string
	failsOver  bool // its replica takes its place
	begin, end func(master, replica *sharedtest.Redis)
}

var clusterTroubles = []clusterTrouble{
	{"a master hangs until it is not one any more", true,
		func(master, _ *sharedtest.Redis) { master.Hang() },
		func(master, _ *sharedtest.Redis) { master.Resume() }},
	{"a master is killed", true,
		func(master, _ *sharedtest.Redis) { master.Kill() },
		func(master, _ *sharedtest.Redis) { master.Restart() }},
	{"a master and its replica are killed: the cluster is down", false,
		func(master, replica *sharedtest.Redis) { master.Kill(); replica.Kill() },
		func(master, replica *sharedtest.Redis) { master.Restart(); replica.Restart() }},
	{"a replica takes the place of its master", true,
		func(_, replica *sharedtest.Redis) { replica.Do("cluster", "failover") },
		func(_, _ *sharedtest.Redis) {}},
}

// TestFleetClusterTrouble makes troubles happen to a Redis Cluster while real go
// clients and others work: none of them may fail or get a wrong byte, and Redis
// is of use again afterwards.
func TestFleetClusterTrouble(t *testing.T) {
	f := prepareFleet(t, newWorld(t))
	cluster := sharedtest.NewFailoverCluster(t)
	f.start("--cache-redis-mode=cluster", "--cache-redis-addr="+strings.Join(cluster.Addrs(), ","))
	for n, trouble := range clusterTroubles {
		if testing.Short() && n > 0 {
			break // one of them says most
		}
		f.suffer(cluster, n, trouble)
	}
	for n, i := range f.replicas {
		until(t, fmt.Sprintf("replica %d uses Redis again", n), func() bool { return i.metric(t, "modgate_redis_up ") == 1 })
	}
}

// suffer makes the nth trouble happen while clients work. Upstream has new modules
// before, meanwhile and afterwards.
func (f *sharingFleet) suffer(cluster *sharedtest.Cluster, n int, trouble clusterTrouble) {
	newModule := func(when string) {
		f.add(proxytest.Simple(f.t, "example.com/"+when, fmt.Sprintf("v1.%d.0", n)))
	}
	master, replica := cluster.Pair()
	newModule("before")
	clients := f.startClients()
	clients.everyoneWorks()
	trouble.begin(master, replica)
	newModule("during")
	clients.everyoneWorks()
	if trouble.failsOver {
		cluster.AwaitMaster(replica)
		clients.everyoneWorks()
	}
	trouble.end(master, replica)
	clients.everyoneWorks()
	cluster.Settle()
	newModule("after")
	clients.everyoneWorks()
	clients.end()
	f.t.Logf("%s: %d requests, %d go commands", trouble.about, clients.requests.Load(), clients.commands.Load())
	if f.t.Failed() {
		f.t.Fatalf("while %s", trouble.about)
	}
}

// clusterClients work until end is called: two are go commands with empty module
// caches, one asks each replica for all files. They leave the machine some time.
type clusterClients struct {
	fleet              *sharingFleet
	stop               chan struct{}
	running            sync.WaitGroup
	rounds             [2 + replicaCount]atomic.Int64
	requests, commands atomic.Int64
}

func (f *sharingFleet) startClients() *clusterClients {
	c := &clusterClients{fleet: f, stop: make(chan struct{})}
	for n := range c.rounds {
		c.running.Go(func() {
			pace := time.NewTicker(300 * time.Millisecond)
			defer pace.Stop()
			for ; ; c.rounds[n].Add(1) {
				select {
				case <-c.stop:
					return
				case <-pace.C:
					c.round(n)
				}
			}
		})
	}
	return c
}

func (c *clusterClients) round(n int) {
	f := c.fleet
	if n >= replicaCount {
		f.goDownload(f.replicas[n-replicaCount].url)
		c.commands.Add(1)
		return
	}
	for _, path := range f.paths() {
		if err := f.fetch(f.t.Context(), f.replicas[n].url, path); err != nil {
			f.t.Error(err)
		}
		c.requests.Add(1)
	}
}

// everyoneWorks returns when each has begun and ended a round.
func (c *clusterClients) everyoneWorks() {
	c.fleet.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(5 * time.Minute) // what a busy machine needs is no failure
	for n := range c.rounds {
		for want := c.rounds[n].Load() + 2; c.rounds[n].Load() < want && !c.fleet.t.Failed(); <-tick.C {
			if time.Now().After(deadline) {
				c.fleet.t.Fatalf("client %d hangs", n)
			}
		}
	}
}

func (c *clusterClients) end() {
	close(c.stop)
	c.running.Wait()
}

// goDownload has a go command with an empty module cache fetch some, small
// and large, named and not.
func (f *sharingFleet) goDownload(url string) {
	dir, err := os.MkdirTemp("", "modgate-cold-*")
	if err != nil {
		f.t.Error(err)
		return
	}
	defer os.RemoveAll(dir) // there are many
	cmd := exec.Command("go", "mod", "download", "example.com/fleet0@v1.0.0", "example.com/fleet1@latest", "example.com/before@latest", "example.com/big@v1.0.0")
	cmd.Dir, cmd.Env = dir, goEnv(dir, url, f.log.Key())
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Errorf("go mod download: %v\n%s", err, out)
	}
}
