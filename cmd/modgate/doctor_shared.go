package main

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/modgate/modgate/cache/redis"
	"github.com/modgate/modgate/cache/s3"
	"github.com/modgate/modgate/doctor"
	tlsredis "github.com/modgate/modgate/tlsmgr/redis"
)

// shared returns what replicas share, to be asked by doctor.
func (s *settings) shared() []doctor.Shared {
	var all []doctor.Shared
	if s.Cache.S3.on() {
		one := s.Cache.S3.shared()
		one.Bucket = s.askBucket
		all = append(all, one)
	}
	if s.Cache.Redis.on() {
		one := s.Cache.Redis.shared()
		one.Redis = s.askRedis
		all = append(all, one)
	}
	if u, err := url.Parse(s.TLS.Storage); err == nil && s.TLS.storesCertificates() && tlsredis.IsURL(s.TLS.Storage) {
		one := doctor.Shared{Key: "tls.storage", Host: u.Host, Server: "Redis, tls.storage", Keeps: true, Timeout: 3 * time.Second, Redis: s.askTLSRedis}
		for host := range strings.SplitSeq(u.Host, ",") {
			one.URLs = append(one.URLs, u.Scheme+"://"+host)
		}
		all = append(all, one)
	}
	return all
}

// shared returns what there is to say of the bucket.
func (c *S3) shared() doctor.Shared {
	one := doctor.Shared{Key: "cache.s3", Host: c.Bucket, Server: "bucket, cache.s3.bucket", Timeout: c.Timeout.std(), Advice: c.advice}
	if u, err := url.Parse(c.Endpoint); err == nil && u.Host != "" {
		one.Host, one.Server, one.URLs = u.Host, "bucket, cache.s3.endpoint", []string{c.Endpoint}
	}
	return one
}

// shared returns what there is to say of the Redis.
func (c *Redis) shared() doctor.Shared {
	one := doctor.Shared{Key: "cache.redis", Host: c.Addr.String(), Server: "Redis, cache.redis.addr", Timeout: c.Timeout.std(), Advice: c.advice}
	for _, address := range c.Addr {
		one.URLs = append(one.URLs, "redis://"+address)
	}
	return one
}

func (s *settings) askBucket(ctx context.Context) (err error) {
	cfg := s.Cache.S3.config(s.Cache.Secret)
	if cfg.Trust, err = trustPool(s.TLS.Trust); err != nil {
		return err
	}
	b, err := s3.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return b.Probe(ctx)
}

func (s *settings) askRedis(ctx context.Context) (info doctor.RedisInfo, err error) {
	cfg := s.Cache.Redis.config(s.Cache.Secret)
	if cfg.Trust, err = trustPool(s.TLS.Trust); err != nil {
		return info, err
	}
	r, err := redis.New(cfg)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	i, err := r.Info(ctx)
	return doctor.RedisInfo(i), err
}

func (s *settings) askTLSRedis(ctx context.Context) (info doctor.RedisInfo, err error) {
	storage, done, err := s.openCertStorage(nil)
	if err != nil {
		return info, err
	}
	defer func() { err = errors.Join(err, done()) }()
	r, ok := storage.(*tlsredis.Store)
	if !ok {
		return info, errors.New("tls.storage is no Redis")
	}
	i, err := r.Info(ctx)
	return doctor.RedisInfo(i), err
}
