package sharedtest

import (
	"fmt"
	"strconv"
	"strings"
)

// Cluster is a Redis Cluster of three masters, each with a replica that takes its
// place when it is gone for two seconds.
type Cluster struct {
	Nodes []*Redis // the masters first, as they were at the start
}

// NewFailoverCluster starts six servers.
func NewFailoverCluster(t TB) *Cluster {
	t.Helper()
	c := &Cluster{Nodes: newCluster(t, 1)}
	c.Settle()
	return c
}

// NewCluster starts a Cluster of three masters and returns them. Without one of
// them it answers nothing.
func NewCluster(t TB) []*Redis {
	t.Helper()
	return newCluster(t, 0)
}

// newCluster starts three masters and so many replicas of each.
func newCluster(t TB, replicas int) []*Redis {
	t.Helper()
	n := 3 * (1 + replicas)
	ports := FreePorts(t, 2*n)
	var nodes []*Redis
	create := []string{"redis-cli", "--cluster", "create"}
	for i := range n {
		node := newRedis(t, ports[i], "--cluster-enabled", "yes", "--cluster-port", ports[n+i], "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000")
		nodes = append(nodes, node)
		create = append(create, node.Addr)
	}
	run(t, append(create, "--cluster-replicas", strconv.Itoa(replicas), "--cluster-yes")...)
	for _, node := range nodes {
		node.await(func() error {
			if info := node.Do("cluster", "info"); !strings.Contains(info, "cluster_state:ok") {
				return fmt.Errorf("cluster: %s", info)
			}
			return nil
		})
	}
	return nodes
}

// Addrs are the addresses of all nodes.
func (c *Cluster) Addrs() (all []string) {
	for _, n := range c.Nodes {
		all = append(all, n.Addr)
	}
	return all
}

// Pair returns a master and the replica that would take its place. All nodes run.
func (c *Cluster) Pair() (master, replica *Redis) {
	for _, r := range c.Nodes {
		lines := strings.Split(r.ask("role"), "\n")
		if lines[0] != "slave" {
			continue
		}
		for _, m := range c.Nodes {
			if m.port == lines[2] {
				return m, r
			}
		}
	}
	c.Nodes[0].t.Fatalf("the cluster has no replicas")
	return nil, nil
}

// AwaitMaster waits until n is a master, as it says.
func (c *Cluster) AwaitMaster(n *Redis) {
	n.t.Helper()
	n.await(func() error {
		if role := n.ask("role"); !strings.HasPrefix(role, "master") {
			return fmt.Errorf("%s is %s", n.Addr, role)
		}
		return nil
	})
}

// Settle waits until all nodes run, know of no trouble, and three of them follow
// the others.
func (c *Cluster) Settle() {
	c.Nodes[0].t.Helper()
	c.Nodes[0].await(func() error {
		following := 0
		for _, n := range c.Nodes {
			info, nodes, role := n.ask("cluster", "info"), n.ask("cluster", "nodes"), n.ask("role")
			if !strings.Contains(info, "cluster_state:ok") || strings.Contains(nodes, "fail") || strings.Contains(nodes, "handshake") {
				return fmt.Errorf("%s: %s\n%s", n.Addr, info, nodes)
			}
			if strings.HasPrefix(role, "slave") && strings.Contains(role, "connected") {
				following++
			}
		}
		if following != 3 {
			return fmt.Errorf("%d nodes follow another", following)
		}
		return nil
	})
}
