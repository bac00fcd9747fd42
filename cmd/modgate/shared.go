package main

import (
	"context"
	"crypto/x509"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/redis"
	"github.com/modgate/modgate/cache/s3"
)

// stores are what openCache returns.
type stores struct{ store, durable cache.Store }

// openShared puts near in front of what replicas share, if there is any:
//
//	shared ─┬─ near
//	        ├─ redis
//	        └─ s3
func (a *app) openShared(ctx context.Context, c *Config, near stores, registry *prometheus.Registry, log *slog.Logger) (store, durable cache.Store, err error) {
	if !c.Cache.S3.on() && !c.Cache.Redis.on() {
		return near.store, near.durable, nil
	}
	trust, err := trustPool(c.TLS.Trust)
	if err != nil {
		return nil, nil, err
	}
	shared := cache.SharedConfig{MaxFast: maxInMemory, Heard: a.heard, Logger: log}
	if c.Cache.Redis.on() {
		if shared.Fast, err = a.openRedis(c, trust, registry, log); err != nil {
			return nil, nil, err
		}
	}
	if c.Cache.S3.on() {
		if shared.Bucket, err = a.openS3(ctx, c, trust, registry, log); err != nil {
			return nil, nil, err
		}
	}
	a.near, a.fast = near.store, shared.Fast
	if a.bucket != nil {
		a.purges = newPurgeLog(a.bucket, near.store, log)
		shared.Missed = a.purges.read
	}
	s, err := cache.NewShared(near.store, shared)
	if err != nil {
		return nil, nil, err
	}
	if p := a.purges; p != nil {
		p.lists = append(p.lists, near.store.List, a.bucket.Names)
		p.expire, p.removed = s.Expire, func() { a.server.Heard("") }
		a.background = append(a.background, p.Run)
	}
	registry.MustRegister(s.Collectors()...)
	a.background = append(a.background, s.Run)
	return s, s, nil
}

// heard is called while the app runs: with "" where something may have been
// missed.
func (a *app) heard(name string) {
	if a.purges != nil && (name == purgesName || name == "") {
		a.purges.news()
	}
	if a.server != nil { // else this is a command
		a.server.Heard(name)
	}
}

func (a *app) openRedis(c *Config, trust *x509.CertPool, registry *prometheus.Registry, log *slog.Logger) (cache.Store, error) {
	cfg := c.Cache.Redis.config(c.Cache.Secret)
	cfg.Trust, cfg.Advice, cfg.Logger = trust, c.Cache.Redis.advice, log
	s, err := redis.New(cfg)
	if err != nil {
		return nil, err
	}
	if c.Cache.Redis.exposed() && c.Cache.Secret == "" {
		log.Warn("whoever reaches this Redis can put modules into it: set cache.redis.password and cache.redis.tls, or cache.secret", "addr", c.Cache.Redis.Addr.String())
	}
	a.closers = append(a.closers, s.Close)
	registry.MustRegister(s.Collectors()...)
	a.background = append(a.background, s.Run)
	return s, nil
}

func (a *app) openS3(ctx context.Context, c *Config, trust *x509.CertPool, registry *prometheus.Registry, log *slog.Logger) (cache.Store, error) {
	cfg := c.Cache.S3.config(c.Cache.Secret)
	cfg.Trust, cfg.Advice, cfg.Logger = trust, c.Cache.S3.advice, log
	s, err := s3.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	a.bucket = s
	a.closers = append(a.closers, s.Close)
	registry.MustRegister(s.Collectors()...)
	a.background = append(a.background, s.Run)
	return s, nil
}
