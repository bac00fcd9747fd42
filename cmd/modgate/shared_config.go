package main

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/modgate/modgate/cache/redis"
	"github.com/modgate/modgate/cache/s3"
)

// S3 configures the bucket that replicas share.
type S3 struct {
	Bucket    string   `key:"bucket" doc:"Bucket of an S3-compatible storage that keeps what was fetched for all replicas (docs/shared-cache.md). Empty: there is none."`
	Prefix    string   `key:"prefix" doc:"Begins all keys in the bucket."`
	Region    string   `key:"region" doc:"Region of the bucket. Default: that of the environment or of the AWS configuration, else us-east-1."`
	Endpoint  string   `key:"endpoint" doc:"URL of a storage that is not AWS: https://minio.corp.example:9000."`
	PathStyle string   `key:"path_style" default:"off" oneof:"off on" doc:"on puts the bucket into the path of the URL and not before the host name, as most storages that are not AWS want it."`
	AccessKey string   `key:"access_key" secret:"hidden" doc:"Static credentials. Default: those that the AWS SDK finds in the environment, in shared files, or by the role of the pod or machine."`
	SecretKey string   `key:"secret_key" secret:"hidden" doc:"The secret that belongs to the access key."`
	SSE       string   `key:"sse" default:"bucket" oneof:"bucket AES256 aws:kms" doc:"Encryption at rest to ask for: AES256, aws:kms, or bucket for what the bucket does by itself."`
	KMSKey    string   `key:"kms_key" doc:"For aws:kms: the key."`
	Redirect  string   `key:"redirect" default:"off" oneof:"off on" doc:"on sends clients for large public zips to the bucket, by an URL that is signed for five minutes: they must reach it, and trust its certificate (docs/shared-cache.md)."`
	Timeout   Duration `key:"timeout" default:"3s" doc:"How long an answer or the next bytes of one may take before the bucket counts as being in trouble."`
}

// Redis configures the Redis that replicas share.
type Redis struct {
	Addr             List     `key:"addr" doc:"host:port of a Redis that replicas share small files, leases and news by (docs/shared-cache.md): of the server, of the Sentinels, or of some nodes of a Cluster. Empty: there is none."`
	Mode             string   `key:"mode" default:"standalone" oneof:"standalone sentinel cluster" doc:"What the addresses are of: standalone, sentinel or cluster."`
	Master           string   `key:"master" doc:"For sentinel: what the master is called there."`
	User             string   `key:"user" doc:"User of an access control list; empty is the default user."`
	Password         string   `key:"password" secret:"hidden" doc:"Password of the user."`
	SentinelUser     string   `key:"sentinel_user" doc:"For sentinel: user of the Sentinels."`
	SentinelPassword string   `key:"sentinel_password" secret:"hidden" doc:"For sentinel: password of the Sentinels."`
	DB               Count    `key:"db" default:"0" doc:"Number of the database; a cluster has only 0."`
	TLS              string   `key:"tls" default:"off" oneof:"off on" doc:"on speaks TLS; authorities are those of the system and of tls.trust."`
	Namespace        string   `key:"namespace" default:"modgate" doc:"Begins all keys, so that fleets which share nothing can use one Redis."`
	TTL              Duration `key:"ttl" default:"24h" doc:"How long an object is kept in Redis after it was stored or confirmed."`
	Timeout          Duration `key:"timeout" default:"250ms" doc:"How long an answer may take before Redis counts as being in trouble."`
}

func (c *S3) on() bool    { return c.Bucket != "" }
func (c *Redis) on() bool { return len(c.Addr) > 0 }

// config returns the configuration of the backend.
func (c *S3) config(secret string) s3.Config {
	sse := c.SSE
	if sse == "bucket" {
		sse = ""
	}
	return s3.Config{
		Bucket: c.Bucket, Prefix: c.Prefix, Region: c.Region, Endpoint: c.Endpoint, PathStyle: c.PathStyle == "on",
		AccessKey: c.AccessKey, SecretKey: c.SecretKey, SSE: sse, KMSKey: c.KMSKey,
		Secret: []byte(secret), Timeout: c.Timeout.std(),
	}
}

// config returns the configuration of the backend.
func (c *Redis) config(secret string) redis.Config {
	return redis.Config{
		Mode: c.Mode, Addrs: c.Addr, Master: c.Master, User: c.User, Password: c.Password,
		SentinelUser: c.SentinelUser, SentinelPassword: c.SentinelPassword, DB: int(c.DB), TLS: c.TLS == "on",
		Namespace: c.Namespace, Secret: []byte(secret), MaxObject: maxInMemory, TTL: c.TTL.std(), Timeout: c.Timeout.std(),
	}
}

// exposed reports that the password and whatever is kept cross a network that
// others may listen to, or that everybody there may write.
func (c *Redis) exposed() bool {
	for _, a := range c.Addr {
		host, _, _ := net.SplitHostPort(a)
		ip, err := netip.ParseAddr(host)
		if host != "localhost" && (err != nil || !ip.IsLoopback()) {
			return c.TLS != "on" || c.Password == ""
		}
	}
	return false
}

// sharedRules are the checks of cache.s3.* and cache.redis.*.
func (s *settings) sharedRules() []rule {
	return []rule{
		{"cache.secret", s.checkSharedSecret},
		{"cache.s3.bucket", s.checkS3},
		{"cache.redis.addr", s.checkRedis},
	}
}

// minSecret is what makes guessing hopeless, in bytes.
const minSecret = 32

func (s *settings) checkSharedSecret() error {
	c := &s.Cache
	switch {
	case c.Secret == "":
		return nil
	case !c.S3.on() && !c.Redis.on():
		return remedied("has no meaning without cache.s3.bucket or cache.redis.addr", "remove it, or name what replicas share")
	case len(c.Secret) < minSecret:
		return remedied("is short enough to be guessed", "give it 32 characters or more: openssl rand -hex 32")
	}
	return nil
}

func (s *settings) checkS3() error {
	c := &s.Cache.S3
	if !c.on() {
		if strings.Join([]string{c.Prefix, c.Region, c.Endpoint, c.AccessKey, c.SecretKey, c.KMSKey}, "") != "" {
			return remedied("is empty, and other keys of cache.s3 are not", "name the bucket, or remove them")
		}
		return nil
	}
	config := c.config(s.Cache.Secret)
	return sharedMistake(config.Check())
}

func (s *settings) checkRedis() error {
	c := &s.Cache.Redis
	if !c.on() {
		if strings.Join([]string{c.Master, c.User, c.Password, c.SentinelUser, c.SentinelPassword}, "") != "" {
			return remedied("is empty, and other keys of cache.redis are not", "name the addresses, or remove them")
		}
		return nil
	}
	if c.TTL.std() != 0 && c.TTL.std() < time.Minute {
		return remedied("goes with a cache.redis.ttl that keeps nothing", "give it an hour or more")
	}
	config := c.config(s.Cache.Secret)
	return sharedMistake(config.Check())
}

// sharedMistake is what a backend finds wrong, for people.
func sharedMistake(err error) error {
	if err == nil {
		return nil
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	return errors.New("cannot be used: " + text)
}
