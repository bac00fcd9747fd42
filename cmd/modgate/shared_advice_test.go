package main

import (
	"errors"
	"strings"
	"testing"
)

// What Redis and storages say, and the key of the configuration that mends it.
func TestSharedAdvice(t *testing.T) {
	redis, bucket := &Redis{Addr: List{"redis.example:6379"}}, &S3{Bucket: "corp"}
	for says, want := range map[string]string{
		"WRONGPASS invalid username-password pair or user is disabled.":   "cache.redis.password",
		"NOAUTH Authentication required.":                                 "cache.redis.password",
		"MOVED 12874 127.0.0.1:7323":                                      "cache.redis.mode",
		"CROSSSLOT Keys in request don't hash to the same slot":           "cache.redis.mode",
		"ERR This instance has cluster support disabled":                  "cache.redis.mode",
		"ERR unknown command 'evalsha', with args beginning with: '48dd'": "cache.redis.mode",
		"redis: all sentinels specified in configuration are unreachable: ERR unknown command 'sentinel', with args beginning with: 'm'": "cache.redis.mode",
		"redis: all sentinels specified in configuration are unreachable: redis: nil":                                                    "cache.redis.master",
		"redis: all sentinels specified in configuration are unreachable: dial tcp: no such host":                                        "start the Redis at redis.example:6379",
		"ERR DB index is out of range":                          "cache.redis.db",
		"READONLY You can't write against a read only replica.": "not a replica",
		"dial tcp 127.0.0.1:6379: connect: connection refused":  "cache.redis.addr",
		"context deadline exceeded":                             "cache.redis.tls",
	} {
		if got := redis.advice(errors.New(says)); !strings.Contains(got, want) {
			t.Errorf("%s\n  advice %s\n  want   %s", says, got, want)
		}
	}
	for says, want := range map[string]string{
		"GetObject: InvalidAccessKeyId: none (status 404)":                                            "cache.s3.access_key",
		"GetObject: XAdminUserNotFound: No user exists with the provided access key ID. (status 404)": "cache.s3.access_key",
		"PutObject: AccessDenied: Access Denied. (status 403)":                                        "read and write the bucket corp",
		"HeadObject: Forbidden: Forbidden (status 403)":                                               "cache.s3.access_key",
		"GetObject: ExpiredToken: The provided token has expired. (status 400)":                       "role of this machine",
		"GetObject: NoSuchBucket: The specified bucket does not exist":                                "make the bucket corp",
		"GetObject: InvalidBucketName: not valid (status 400)":                                        "cache.s3.bucket",
		"GetObject: PermanentRedirect: use the endpoint (status 301)":                                 "cache.s3.region",
		"GetObject: AuthorizationHeaderMalformed: the region 'x' is wrong (400)":                      "cache.s3.region",
		"GetObject: RequestTimeTooSkewed: The difference (status 403)":                                "clock",
		"PutObject: NotImplemented: A header you provided (status 501)":                               "If-None-Match",
		"GetObject: status 404, and no answer of an S3 storage":                                       "cache.s3.endpoint",
		`Get "https://s3:9000/b": tls: failed to verify certificate: x509: none`:                      "tls.trust",
		`Get "http://s3:9000/b": dial tcp 127.0.0.1:9000: connect: refused`:                           "cache.s3.endpoint",
	} {
		if got := bucket.advice(errors.New(says)); !strings.Contains(got, want) {
			t.Errorf("%s\n  advice %s\n  want   %s", says, got, want)
		}
	}
	bucket.Endpoint = "https://minio.example:9000"
	for _, says := range []string{
		`GetObject: Get "https://corp.minio.example:9000/x": dial tcp: lookup corp.minio.example: no such host`,
		`GetObject: Get "https://corp.minio.example:9000/x": tls: failed to verify certificate: x509: certificate is valid for minio.example, not corp.minio.example`,
	} {
		if got := bucket.advice(errors.New(says)); !strings.Contains(got, "cache.s3.path_style") {
			t.Errorf("%s\n  advice %s", says, got)
		}
	}
}
