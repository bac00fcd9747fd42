package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/cache/mem"
	"github.com/modgate/modgate/cache/s3"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/upstream"
	"github.com/modgate/modgate/sumdb"
)

// maxInMemory is the size up to which files are kept in memory: all of a .mod,
// .info, list or tile, and no zip worth a system call.
const maxInMemory = 128 << 10

// app is the proxy, put together:
//
//	request → access → auth → proxy ─┬─ policy
//	                                 ├─ store:  tiered ─┬─ mem
//	                                 │                  └─ checked → limit → disk
//	                                 ├─ source: upstream chain → the world
//	                                 ├─ proofs: sumdb ──┬─ checked → limit → disk
//	                                 │                  └─ upstream chain
//	                                 └─ private: direct → repositories
//	                                    pins → files, and the bucket
//
// Where replicas share something, a shared store stands before tiered, and takes
// the place of checked for proofs; see openShared.
type app struct {
	handler    http.Handler
	base       string // path of the proxy, without a slash at the end
	reloads    *reloads
	rules      *livePolicy
	troubles   seenTroubles // for /-/status
	server     *proxy.Server
	directory  *disk.Store                   // cache.dir
	store      cache.Store                   // what the server serves from
	near       cache.Store                   // the part of store that is here alone
	memory     cache.Store                   // before near; nil without
	fast       cache.Store                   // Redis; nil without
	bucket     *s3.Store                     // nil without
	purges     *purgeLog                     // of the fleet; nil without a bucket
	background []func(context.Context) error // run until their context ends
	closers    []func() error                // in the order of opening
}

// wire puts the app together. It opens the cache directory but neither listens
// nor connects to anything, and starts nothing; ctx is for looking up
// credentials.
func wire(ctx context.Context, c *Config, registry *prometheus.Registry, log *slog.Logger) (*app, error) {
	a := &app{reloads: newReloads(log)}
	registry.MustRegister(a.reloads.failed)
	a.background = append(a.background, a.reloads.run)
	rules, err := a.openPolicy(c)
	if err != nil {
		return nil, err
	}
	a.rules = rules
	registry.MustRegister(rules.Collectors()...)
	d, err := a.openDirectory(c.Cache, log)
	if err != nil {
		return nil, err
	}
	store, durable, err := a.openCache(c.Cache, d, registry, log)
	if err != nil {
		return nil, err
	}
	if store, durable, err = a.openShared(ctx, c, stores{store, durable}, registry, log); err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.store = store
	source, err := a.openSource(c, registry, log)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	p := proxy.Config{
		Store:       store,
		Public:      source,
		Policy:      rules,
		BasePath:    c.BasePath,
		ListTTL:     c.TTL.List.std(),
		StaleTTL:    c.TTL.Stale.std(),
		NegativeTTL: c.TTL.Negative.std(),
		PrivateTTL:  c.TTL.Private.std() - refsTTL(c),
		LookAhead:   int(c.LookAhead),
		Redirect:    c.Cache.S3.on() && c.Cache.S3.Redirect == "on",
		Settings:    clientSettings(c),
		Logger:      log,
	}
	if err := a.addSumDB(&p, c, rules, source, durable, registry); err != nil {
		return nil, errors.Join(err, a.close())
	}
	if err := a.addPrivate(&p, c, registry); err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.addScrub(c.Cache, d, p.Verifier, registry, log)
	server, err := proxy.New(p)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.server = server
	registry.MustRegister(server.Collectors()...)
	a.background = append(a.background, server.Run)
	requests := newRequestMetrics(proxy.Kinds())
	registry.MustRegister(requests.Collectors()...)
	a.base = strings.TrimSuffix("/"+strings.Trim(c.BasePath, "/"), "/")
	front, err := a.addAuth(c, server, registry, log)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.handler = requests.count(access.Handler(front, access.Reports{
		Log: log, Code: func(err error) string { return string(codeOf(err)) },
		Observe: func(rec *access.Record, took time.Duration) {
			requests.observe(rec, took)
			a.troubles.observe(rec)
		},
	}))
	return a, nil
}

func (a *app) openDirectory(c Cache, log *slog.Logger) (*disk.Store, error) {
	d, err := disk.New(disk.Config{Dir: c.Dir, Logger: log})
	if err != nil {
		return nil, err
	}
	a.directory = d
	a.closers = append(a.closers, d.Close)
	return d, nil
}

// openCache returns the store of the proxy, and the part of it that is on
// disk.
func (a *app) openCache(c Cache, d *disk.Store, registry *prometheus.Registry, log *slog.Logger) (store, durable cache.Store, err error) {
	limit, err := cache.NewLimit(d, cache.LimitConfig{MaxBytes: int64(c.MaxSize), Space: d.Space, Sweep: d.Sweep, Logger: log})
	if err != nil {
		return nil, nil, errors.Join(err, a.close())
	}
	registry.MustRegister(limit.Collectors()...)
	a.background = append(a.background, limit.Run)
	checked := cache.NewChecked(limit, cache.CheckedConfig{Logger: log})
	registry.MustRegister(checked.Collectors()...)
	if c.Memory == 0 {
		return checked, checked, nil
	}
	m, err := mem.New(mem.Config{MaxBytes: int64(c.Memory), MaxObject: maxInMemory})
	if err != nil {
		return nil, nil, errors.Join(err, a.close())
	}
	registry.MustRegister(m.Collectors()...)
	a.memory = m
	return cache.NewTiered(m, checked, cache.TieredConfig{MaxObject: maxInMemory, Logger: log}), checked, nil
}

// openSource returns the way to the upstreams and to checksum databases.
func (a *app) openSource(c *Config, registry *prometheus.Registry, log *slog.Logger) (*upstream.Chain, error) {
	trust, err := trustPool(c.TLS.Trust)
	if err != nil {
		return nil, err
	}
	cfg := upstream.Config{List: c.Upstream, Trust: trust, UserAgent: "modgate/" + buildInfo().Version, Answered: a.troubles.answered, Logger: log}
	if db, err := parseSumDB(c.SumDB); err == nil && db != nil && db.URL != "" {
		cfg.SumDBURL = map[string]string{db.Name: db.URL}
	}
	chain, err := upstream.New(cfg)
	if err != nil {
		return nil, err
	}
	a.closers = append(a.closers, chain.Close)
	registry.MustRegister(chain.Collectors()...)
	return chain, nil
}

// addSumDB gives p the checksum database that c names, for its own proofs and
// for clients.
func (a *app) addSumDB(p *proxy.Config, c *Config, rules *livePolicy, remote sumdb.Remote, store cache.Store, registry *prometheus.Registry) error {
	mirror := sumdb.MirrorConfig{PrivatePatterns: c.Private.String()}
	if c.SumDB != "off" {
		db, err := sumdb.New(sumdb.Config{Name: c.SumDB, Remote: remote, Storage: &proofs{store: store}, Private: rules.IsPrivate, Logger: p.Logger})
		if err != nil {
			return err
		}
		a.closers = append(a.closers, db.Close)
		registry.MustRegister(db.Collectors()...)
		mirror.DBs = append(mirror.DBs, db)
		p.Verifier = db
	}
	var err error
	p.SumDB, err = sumdb.NewMirror(mirror)
	return err
}

// refsTTL is the part of ttl.private for which the tags of a repository are
// shared by all of its modules. The answers that are made from them are kept for
// the rest, so that none is older than ttl.private.
func refsTTL(c *Config) time.Duration { return c.TTL.Private.std() / 5 }

// maxAhead is how much one visit to a repository may bring that nobody has
// asked for: the default, or nothing where looking ahead is turned off.
func maxAhead(c *Config) int64 {
	if c.LookAhead == 0 {
		return -1
	}
	return 0
}

// addPrivate gives p the way to the repositories of private modules, and the
// memory of what they were at first.
func (a *app) addPrivate(p *proxy.Config, c *Config, registry *prometheus.Registry) error {
	if len(c.Private) == 0 || c.Direct.Go == "off" {
		return nil
	}
	files, err := openPins(c.Cache.Dir)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, files.Close)
	pins, err := sumdb.NewPins(sumdb.PinsConfig{Storage: a.sharedPinsOf(files, registry, p.Logger), Logger: p.Logger})
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	trust, err := trustPool(c.TLS.Trust)
	if err != nil {
		return err
	}
	direct, err := upstream.NewDirect(upstream.DirectConfig{
		Dir:       filepath.Join(c.Cache.Dir, ".modgate", "direct"),
		Private:   c.Private.String(),
		Self:      self,
		Go:        c.Direct.Go,
		Slots:     int(c.Direct.Fetches),
		Timeout:   c.Direct.Timeout.std(),
		RefsTTL:   max(refsTTL(c), 1), // 0 would be the default
		MaxAhead:  maxAhead(c),
		Trust:     trust,
		LookupEnv: os.LookupEnv,
		Logger:    p.Logger,
	})
	if err != nil {
		return fmt.Errorf("%w\n  → install go and git, or leave private modules to the clients: --direct-go=off", err)
	}
	if c.Direct.File != "" {
		err := a.reloads.add("direct.file", c.Direct.File, func(data []byte) error {
			rules, err := parseDirectFile(c.Direct.File, data)
			if err != nil {
				return err
			}
			for _, v := range unsetVariables(rules, data, os.LookupEnv) {
				p.Logger.Warn("a credential is to come from a variable of the environment that is not set: requests to its host fail", "variable", v.name, "file", c.Direct.File, "line", v.line)
			}
			return atLines(c.Direct.File, data, direct.SetRules(rules))
		})
		if err != nil {
			return err
		}
	}
	registry.MustRegister(pins.Collectors()...)
	registry.MustRegister(direct.Collectors()...)
	a.background = append(a.background, direct.Run)
	p.Private, p.Pins = direct, pins
	return nil
}

// close closes what was opened, in reverse.
func (a *app) close() error {
	var errs []error
	for _, c := range slices.Backward(a.closers) {
		errs = append(errs, c())
	}
	a.closers = nil
	return errors.Join(errs...)
}
