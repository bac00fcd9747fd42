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

// sharedHosts returns URLs of the bucket and of each Redis.
func (s *settings) sharedHosts() []string {
	var hosts []string
	if s.Cache.S3.Endpoint != "" {
		hosts = append(hosts, s.Cache.S3.Endpoint)
	}
	for _, address := range s.Cache.Redis.Addr {
		hosts = append(hosts, "redis://"+address)
	}
	if u, err := url.Parse(s.TLS.Storage); err == nil && tlsredis.IsURL(s.TLS.Storage) {
		for host := range strings.SplitSeq(u.Host, ",") {
			hosts = append(hosts, u.Scheme+"://"+host)
		}
	}
	return hosts
}

// shared returns what replicas share, to be asked by doctor.
func (s *settings) shared() []doctor.Shared {
	var all []doctor.Shared
	if s.Cache.S3.on() {
		host := s.Cache.S3.Bucket
		if u, err := url.Parse(s.Cache.S3.Endpoint); err == nil && u.Host != "" {
			host = u.Host
		}
		all = append(all, doctor.Shared{Key: "cache.s3", Host: host, Timeout: s.Cache.S3.Timeout.std(), Bucket: s.askBucket})
	}
	if s.Cache.Redis.on() {
		all = append(all, doctor.Shared{Key: "cache.redis", Host: s.Cache.Redis.Addr.String(), Timeout: s.Cache.Redis.Timeout.std(), Redis: s.askRedis})
	}
	if u, err := url.Parse(s.TLS.Storage); err == nil && s.TLS.storesCertificates() && tlsredis.IsURL(s.TLS.Storage) {
		all = append(all, doctor.Shared{Key: "tls.storage", Host: u.Host, Keeps: true, Timeout: 3 * time.Second, Redis: s.askTLSRedis})
	}
	return all
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
