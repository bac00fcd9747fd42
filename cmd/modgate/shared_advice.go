package main

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/modgate/modgate/cache/redis"
)

// sharedKind is of which kind an error of a Redis or a bucket is: who mends it
// needs another key of the configuration for each.
type sharedKind int

const (
	otherTrouble sharedKind = iota
	unreachable             // nobody answers there
	distrusted              // the certificate, or one side speaks TLS alone
	unauthorized            // user, password or rights
	noSuchBucket
	elsewhere    // the bucket is in another region
	wrongClock   // signatures of ours are of another time
	unfit        // the storage does not keep the conditions of writes
	noStorage    // what answers there speaks another protocol
	wrongMode    // a Cluster, a Sentinel or a server, and taken for another of them
	wrongMaster  // the Sentinels know no master of that name
	wrongDB      // no database of that number
	readOnlyCopy // a replica, which cannot be written
)

// kindOf tells errors of both backends apart. Replies of a server have no type,
// but a word.
func kindOf(err error) sharedKind {
	text := err.Error()
	says := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	var op *net.OpError
	switch {
	case says("RequestTimeTooSkewed"):
		return wrongClock
	case says("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"):
		return elsewhere
	case says("MOVED ", "CROSSSLOT ", "cluster support disabled", "unknown command 'sentinel'", "unknown command 'evalsha'"):
		return wrongMode
	case says("are unreachable: redis: nil"):
		return wrongMaster
	case says("DB index is out of range"):
		return wrongDB
	case says("READONLY "):
		return readOnlyCopy
	case says("WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH", "AccessDenied", "InvalidAccessKeyId", "access key ID", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
		"status 401", "status 403", "StatusCode: 401", "StatusCode: 403"):
		return unauthorized
	case says("NoSuchBucket", "InvalidBucketName"):
		return noSuchBucket
	case says("NotImplemented", "does not keep the condition"):
		return unfit
	case says("no answer of an S3 storage"):
		return noStorage
	case says("x509: ", "tls: ", "server gave HTTP response to HTTPS client"):
		return distrusted
	case errors.As(err, &op) && op.Op == "dial", says("dial tcp", "no such host", "connection refused", "sentinels specified in configuration are unreachable"):
		return unreachable
	}
	return otherTrouble
}

// advice says in a line what mends err.
func (c *Redis) advice(err error) string {
	switch kindOf(err) {
	case unauthorized:
		return "set cache.redis.user and cache.redis.password (for sentinel also cache.redis.sentinel_user and _password) to what that Redis expects"
	case distrusted:
		return "set cache.redis.tls to on or off, as that Redis does, and tls.trust to the authority of its certificate"
	case unreachable:
		return "start the Redis at " + c.Addr.String() + ", open the way to it, or correct cache.redis.addr"
	case wrongMode:
		return "set cache.redis.mode to what is at " + c.Addr.String() + " (standalone, sentinel or cluster), or correct cache.redis.addr"
	case wrongMaster:
		return "set cache.redis.master to what the Sentinels call it: redis-cli -p PORT sentinel masters"
	case wrongDB:
		return "set cache.redis.db to a number that this Redis has (databases in its configuration)"
	case readOnlyCopy:
		return "name the master by cache.redis.addr and not a replica of it, or the Sentinels with cache.redis.mode: sentinel"
	}
	return "look at the Redis at " + c.Addr.String() + " and its log; cache.redis.tls must be as it is there, and cache.redis.timeout long enough"
}

// advice says in a line what mends err.
func (c *S3) advice(err error) string {
	kind := kindOf(err)
	if ahead := c.Bucket + "."; (kind == unreachable || kind == distrusted) && c.PathStyle != "on" && c.Endpoint != "" && strings.Contains(err.Error(), ahead) {
		return "set cache.s3.path_style to on, unless the storage really has a host " + ahead + "… for each bucket"
	}
	switch kind {
	case unauthorized:
		return "set cache.s3.access_key and cache.s3.secret_key, or the role of this machine, to what may read and write the bucket " + c.Bucket
	case distrusted:
		return "set tls.trust to the authority of the certificate, and cache.s3.endpoint to https:// or http:// as the storage speaks"
	case unreachable:
		return "start the storage, open the way to it, or correct cache.s3.endpoint and cache.s3.region"
	case noSuchBucket:
		return "make the bucket " + c.Bucket + ", or correct cache.s3.bucket and cache.s3.region"
	case elsewhere:
		return "set cache.s3.region, and cache.s3.endpoint if there is one, to where the bucket " + c.Bucket + " is"
	case wrongClock:
		return "set the clock of this machine: the storage takes no request that is signed at another time"
	case unfit:
		return "use a newer version of the storage, or another: it must keep the conditions of writes, If-None-Match and If-Match (docs/shared-cache.md)"
	case noStorage:
		return "correct cache.s3.endpoint: what answers there is no S3 storage, or has it below a path"
	}
	return "look at the storage of the bucket " + c.Bucket + " and its log; cache.s3.timeout must be long enough"
}

// advised adds to an error of a command what mends the trouble of what replicas
// share, if there is any.
func (a *app) advised(c *Config, err error) error {
	if err == nil {
		return nil
	}
	text := ""
	if a.bucket != nil {
		if t := a.bucket.Trouble(); t != nil {
			text += "\n  → " + c.Cache.S3.advice(t.Err)
		}
	}
	if r, ok := a.fast.(*redis.Store); ok {
		if t := r.Trouble(); t != nil {
			text += "\n  → " + c.Cache.Redis.advice(t.Err)
		}
	}
	return fmt.Errorf("%w%s", err, text)
}
