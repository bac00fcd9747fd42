package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Names of the contenders that are no proxies.
const (
	direct = "direct" // the client straight from the upstream
	static = "static" // a file server over what the client needs
	bare   = "bare"   // a Go HTTP server that answers everything with one small text
)

// A row is one line of the table.
type row struct {
	name    string // for --only
	title   string
	measure func(context.Context, *bench) (result, error)
}

// allRows are the rows in the order of the report. Those that need the warm
// servers stand together behind the cold ones.
func allRows() []row {
	return []row{
		{"cold-near", "cold, complete go.sum, near", coldNear},
		{"cold-far", "cold, complete go.sum, far", coldFar},
		{"cold-nosum", "cold, no go.sum, near", coldNoSum},
		{"two-cold", "two clients cold at once: most requests for one object", twoCold},
		{"fleet-cold", "six clients cold at once on three replicas behind nginx: most requests for one object", fleetCold},
		{"fleet-redis", "three replicas while Redis is killed, hangs, fails over, holds garbage", fleetRedis},
		{"fleet-bucket", "three replicas while the bucket answers 500, 503, parts, nothing", fleetBucket},
		{"fleet-replica", "three replicas, of which one is killed and one drained", fleetReplica},
		{"fleet-disk", "1 GB on three replicas with 256 MiB of disk", fleetDisk},
		{"ttfb", "time to first byte of a cold 36 MB zip", firstByte},
		{"memory", "memory: 16 cold 64 MB zips at once, peak", memory},
		{"disk", "disk after a cold run", disk},
		{"warm", "warm, complete go.sum", warm},
		{"warm-nosum", "warm, no go.sum, checksum database on", warmNoSum},
		{"warm-upstream", "upstream requests of a warm repeat, with and without go.sum", warmUpstream},
		{"hits-mod", ".mod hits", hitsMod},
		{"hits-zip", "zip hits, 240 KB", hitsZip},
		{"hits-bigzip", "zip hits, 36 MB", hitsBigZip},
		{"hits-mod-https1", ".mod hits over HTTP/1.1 and TLS", hitsHTTPS1},
		{"hits-mod-https2", ".mod hits over HTTP/2 and TLS", hitsHTTPS2},
		{"policy", "hits with 1,000 rules on, and off", policyHits},
		{"fleet-scale", ".mod hits of one, two and four replicas", fleetScale},
		{"sendfile", "sendfile seen while a 36 MB zip is sent", sendfile},
	}
}

// selectRows returns the rows called names, or all.
func selectRows(names []string) ([]row, error) {
	rows := allRows()
	if len(names) == 0 {
		return rows, nil
	}
	var known []string
	for _, r := range rows {
		known = append(known, r.name)
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("no row %q; there are %s", n, strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(rows, func(r row) bool { return !slices.Contains(names, r.name) }), nil
}

// cold measures the client in turn straight from upstream and through proxies
// that start with an empty cache. Only the first round has Athens in it.
func (b *bench) cold(ctx context.Context, upstream string, proxies []string, noSum bool) (result, error) {
	r := result{Unit: unitSeconds}
	var ref *download
	for round := range b.cfg.Rounds {
		for _, name := range append([]string{direct}, proxies...) {
			if name == "athens" && round > 0 {
				continue
			}
			b.counting.reset()
			d, err := b.coldRun(ctx, name, upstream, noSum)
			if err != nil {
				return r, err
			}
			if ref == nil {
				ref = &d
			}
			if round == 0 && upstream == b.countURL {
				r.note("%s asked the upstream %s", name, countText(b.counting.requests()))
			}
			if err := d.sameAs(*ref); err != nil {
				return r, fmt.Errorf("%s: %w", name, err)
			}
			r.add(name, d.Elapsed.Seconds())
			b.log.Info("cold", "contender", name, "took", d.Elapsed, "nosum", noSum)
		}
	}
	return r, nil
}

// countText says how many requests there were, and how many of them went to a
// checksum database.
func countText(counts map[string]int) string {
	all, database := 0, 0
	for path, n := range counts {
		all += n
		if strings.HasPrefix(path, "/sumdb/") {
			database += n
		}
	}
	return fmt.Sprintf("%d times, of these %d times for the checksum database", all, database)
}

// coldRun is one run of the client. The proxy has its own new process and
// directory, and both are gone afterwards.
func (b *bench) coldRun(ctx context.Context, name, upstream string, noSum bool) (d download, err error) {
	o := fetchOptions{Proxy: upstream, SumDB: b.cfg.SumDB, NoSum: noSum}
	if name != direct {
		dir := b.dir(name)
		defer func() {
			if e := os.RemoveAll(dir); err == nil {
				err = e
			}
		}()
		s, err := b.bin.startProxy(ctx, name, dir, target{Upstream: upstream, SumDB: b.cfg.SumDB})
		if err != nil {
			return d, err
		}
		defer s.Close()
		o.Proxy = s.URL
	}
	syscall.Sync() // what the run before has left to write is not this one's
	return b.client.fetch(ctx, o)
}

func coldNear(ctx context.Context, b *bench) (result, error) {
	r, err := b.cold(ctx, b.upstream, append([]string{"modgate"}, b.cfg.Peers...), false)
	r.ratio("modgate", direct, 1.2, true)
	return r, err
}

func coldFar(ctx context.Context, b *bench) (result, error) {
	_, far, err := b.relay(ctx, b.cfg.FarDelay, 0)
	if err != nil {
		return result{}, err
	}
	r, err := b.cold(ctx, far, []string{"modgate"}, false)
	r.ratio("modgate", direct, 1.0, true)
	return r, err
}

func coldNoSum(ctx context.Context, b *bench) (result, error) {
	proxies := []string{"modgate"}
	if slices.Contains(b.cfg.Peers, "goproxy") {
		proxies = append(proxies, "goproxy")
	}
	r, err := b.cold(ctx, b.upstream, proxies, true)
	r.ratio("modgate", direct, 1.1, true)
	return r, err
}

// A warmServer holds what the workload needs already.
type warmServer struct {
	name, url string
	pid       int
	sumDB     bool // has what a client without go.sum asks for too
}

// warm returns the static server and the proxies, each with a full cache. They
// are started once and stay until the end.
func (b *bench) warm(ctx context.Context) ([]warmServer, error) {
	if b.warmed != nil {
		return b.warmed, nil
	}
	url, stop, err := b.bin.startStatic(ctx, b.dir(static), b.tree)
	if err != nil {
		return nil, err
	}
	b.stops = append(b.stops, stop)
	servers := []warmServer{{name: static, url: url}}
	for _, name := range append([]string{"modgate"}, b.cfg.Peers...) {
		began := time.Now()
		s, err := b.bin.startProxy(ctx, name, b.dir(name), b.near())
		if err != nil {
			return nil, err
		}
		b.stops = append(b.stops, s.Close)
		ws := warmServer{name: name, url: s.URL, pid: s.PID, sumDB: name != "athens"}
		for _, noSum := range []bool{false, true} {
			if noSum && !ws.sumDB {
				continue
			}
			if _, err := b.client.fetch(ctx, fetchOptions{Proxy: s.URL, SumDB: b.cfg.SumDB, NoSum: noSum}); err != nil {
				return nil, fmt.Errorf("warm %s: %w", name, err)
			}
		}
		b.log.Info("warmed", "contender", name, "took", time.Since(began).Round(time.Millisecond))
		servers = append(servers, ws)
	}
	b.warmed = servers
	return servers, nil
}
