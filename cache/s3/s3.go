// Package s3 keeps objects in a bucket of an S3-compatible object storage, for
// all replicas of a fleet.
//
// An object is stored under the prefix and its name, with its attributes as
// metadata. They carry a digest of the bytes, and a tag that binds both to the
// name: bytes that are not right are found before the last of them is handed
// out, moved to .quarantine/ below the prefix, and fetched again by whoever
// wanted them. What has no tag is not ours, and is put aside as well.
//
// Immutable objects are created by a conditional write (If-None-Match), so that
// one of two writers wins, and everything else by compare-and-swap (If-Match):
// a storage that ignores these headers is not fit for this.
package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/modgate/modgate/internal/breaker"
)

// Config of a Store.
type Config struct {
	// Bucket must exist. Required.
	Bucket string
	// Prefix of all keys, without slashes around it. Default: none.
	Prefix string
	// Region. Default: that of the environment or the AWS configuration, else
	// us-east-1.
	Region string
	// Endpoint is the URL of a storage that is not AWS. Default: AWS.
	Endpoint string
	// PathStyle puts the bucket into the path instead of the host name, as
	// most storages that are not AWS want it.
	PathStyle bool
	// AccessKey and SecretKey are static credentials. Default: the chain of
	// the AWS SDK, which is environment, shared files, web identity, container
	// and instance roles.
	AccessKey, SecretKey string
	// SSE is the encryption at rest to ask for: "AES256", "aws:kms", or "" for
	// what the bucket does by default. KMSKey is the key for aws:kms.
	SSE, KMSKey string
	// Secret authenticates objects: who does not know it cannot forge one. All
	// replicas need the same. Default: objects prove that they are whole and
	// where they belong, and not who wrote them.
	Secret []byte
	// Trust are the authorities of the endpoint; nil means those of the system.
	Trust *x509.CertPool
	// PartSize is that of the parts of a large object, in bytes, and what is
	// larger is uploaded in parts. Default 16 MiB; S3 takes no less than 5 MiB.
	PartSize int64
	// Timeout is how long an answer or the next bytes of one may take; an
	// answer that is asked for again may take twice that. Default 3 seconds.
	Timeout time.Duration
	// TempDir is for objects larger than 1 MiB that come from a reader which
	// cannot seek. Default: that of the system.
	TempDir string
	// Advice returns what a person can do about an error, for the log. May be
	// nil.
	Advice func(error) string
	// Logger receives troubles and objects that were not right. nil discards.
	Logger *slog.Logger
}

// Store is a cache.Store with the ability Quarantiner. It connects when it is
// first used.
type Store struct {
	c         Config
	prefix    string // of keys: empty, or ends with a slash
	log       *slog.Logger
	client    *awss3.Client
	transport *http.Transport
	breaker   *breaker.Breaker
	writes    *breaker.Breaker // open while the bucket can be read and not changed
	m         metrics
	aside     chan struct{} // has a place for one: something was put aside
}

// New checks c and loads credentials; ctx is for that. It does not connect to
// the bucket; the caller runs Run beside the Store.
func New(ctx context.Context, c Config) (*Store, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	s := &Store{c: c, log: c.Logger, aside: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if c.Prefix != "" {
		s.prefix = c.Prefix + "/"
	}
	var err error
	if err = s.connect(ctx); err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	s.m.init()
	s.breaker = breaker.New(breaker.Config{Name: "bucket " + c.Bucket, Interval: time.Second, Probe: s.probe, Up: s.m.up, Advice: c.Advice, Logger: s.log})
	s.writes = breaker.New(breaker.Config{Name: "writing to bucket " + c.Bucket, Interval: time.Second, Probe: s.probeWrites, Up: s.m.writable, Advice: c.Advice, Logger: s.log})
	return s, nil
}

// Check reports all mistakes of c, and sets what is not set to its default.
func (c *Config) Check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf("s3: "+format, args...)) }
	if c.Bucket == "" {
		wrong("no bucket is set")
	}
	if strings.ContainsAny(c.Bucket, "/:? \t\r\n") && !strings.HasPrefix(c.Bucket, "arn:") {
		wrong("bucket %q: write its name alone; what is below it goes into the prefix", c.Bucket)
	}
	c.Prefix = strings.Trim(c.Prefix, "/")
	if c.Prefix != "" && !isPrefix(c.Prefix) {
		wrong("prefix %q: write elements with a slash between them, none of which is empty, begins with a dot or has control characters", c.Prefix)
	}
	if c.Endpoint != "" && !isEndpoint(c.Endpoint) {
		wrong("endpoint %q: write https://host[:port]", c.Endpoint)
	}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		wrong("access key and secret key belong together; set both, or none to use the credentials of the environment")
	}
	if c.SSE != "" && c.SSE != "AES256" && c.SSE != "aws:kms" {
		wrong("encryption %q: use AES256 or aws:kms", c.SSE)
	}
	if c.KMSKey != "" && c.SSE != "aws:kms" {
		wrong("a KMS key has a meaning with aws:kms alone")
	}
	if c.PartSize == 0 {
		c.PartSize = 16 << 20
	}
	if c.PartSize < minPart {
		wrong("parts of %d bytes: S3 takes no less than %d", c.PartSize, minPart)
	}
	if c.Timeout == 0 {
		c.Timeout = 3 * time.Second
	}
	if c.Timeout < 0 {
		wrong("the time-out is negative")
	}
	return errors.Join(errs...)
}

func isPrefix(text string) bool {
	return fs.ValidPath(text) && !strings.HasPrefix(text, ".") && !strings.Contains(text, "/.") && strings.IndexFunc(text, unicode.IsControl) < 0
}

func isEndpoint(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

// minPart is the least size of a part that is not the last.
const minPart = 5 << 20

// connect makes the client, which connects when it is first used.
func (s *Store) connect(ctx context.Context) error {
	c := &s.c
	options := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff = 3, 300*time.Millisecond
			})
		}),
		// It writes to standard error.
		config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
			s.log.Debug("the AWS SDK says", "text", fmt.Sprintf(format, v...))
		})),
		// Digests are ours; other storages often know no others.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if c.AccessKey != "" {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, "")))
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return err
	}
	if loaded.Region == "" {
		loaded.Region = "us-east-1"
	}
	roots := c.Trust
	if client, ok := loaded.HTTPClient.(*awshttp.BuildableClient); ok && roots == nil {
		roots = client.GetTransport().TLSClientConfig.RootCAs // of AWS_CA_BUNDLE
	}
	s.transport = &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: c.Timeout}).DialContext,
		TLSHandshakeTimeout:   c.Timeout,
		ResponseHeaderTimeout: c.Timeout,
		ExpectContinueTimeout: time.Second, // a refusal spares the body, where the storage knows how
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}
	s.client = awss3.NewFromConfig(loaded, func(o *awss3.Options) {
		o.HTTPClient = &http.Client{Transport: s.transport}
		o.UsePathStyle = c.PathStyle
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
	})
	return nil
}

// Close ends idle connections.
func (s *Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// Run looks after a bucket in trouble, ends uploads that nobody finished, and
// empties the quarantine, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.breaker.Run(ctx) })
	g.Go(func() error { return s.writes.Run(ctx) })
	g.Go(func() error { return s.sweep(ctx) })
	return g.Wait()
}

// Trouble returns why the bucket, or writing to it, is left alone at the moment;
// nil if neither is.
func (s *Store) Trouble() *breaker.Trouble {
	if t := s.breaker.Trouble(); t != nil {
		return t
	}
	return s.writes.Trouble()
}

// Collectors are the metrics of the store.
func (s *Store) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.m.up, s.m.writable, s.m.corrupt, s.m.errors, s.m.aborted}
}
