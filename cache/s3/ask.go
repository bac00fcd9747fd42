package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/modgate/modgate/internal/breaker"
)

// errRaced says that a condition of a write did not hold.
var errRaced = errors.New("s3: the object has changed")

// ask runs one operation within twice the time-out, so that it can be repeated
// after a bad answer, and not while the bucket is in
// trouble. Absent is fs.ErrNotExist, a condition that does not hold errRaced.
func (s *Store) ask(ctx context.Context, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, 2*s.c.Timeout)
	defer cancel()
	return s.judge(ctx, func() error { return f(limited) })
}

// judge is ask without a time-out of its own. ctx is the caller's.
func (s *Store) judge(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.breaker.Open() {
		return fmt.Errorf("s3: %w", breaker.ErrOpen)
	}
	err := f()
	if err == nil || errors.Is(err, errRaced) {
		return err
	}
	if e := ctx.Err(); e != nil {
		return e // the caller's, and no fault of the bucket
	}
	return s.translate(err)
}

// translate is the one place where an answer of the storage gets a meaning.
func (s *Store) translate(err error) error {
	status, code := statusOf(err), ""
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	switch {
	case status == http.StatusNotFound && code != "NoSuchBucket":
		return fs.ErrNotExist
	case status == http.StatusPreconditionFailed, status == http.StatusConflict:
		return errRaced
	}
	s.m.errors.Inc()
	// What is refused, or asked for in a wrong way, will be so again: the
	// breaker keeps it from being asked on every request.
	if status == 0 || status >= 500 || status == http.StatusForbidden || status == http.StatusTooManyRequests || code == "NoSuchBucket" {
		s.breaker.Trip(err)
	}
	return fmt.Errorf("s3: %w", err)
}

// statusOf returns the status of the answer that err is about, 0 without one.
func statusOf(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// Probe asks the bucket a question that needs what all others need: a way there,
// time, credentials and rights. It changes nothing.
func (s *Store) Probe(ctx context.Context) error { return s.probe(ctx) }

// probe asks for an object that cannot exist. Only a bucket that is well can
// say so.
func (s *Store) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	_, err := s.client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &s.c.Bucket, Key: aws.String(s.prefix + ".probe")},
		func(o *awss3.Options) { o.RetryMaxAttempts = 1 })
	var api smithy.APIError
	if statusOf(err) == http.StatusNotFound && !(errors.As(err, &api) && api.ErrorCode() == "NoSuchBucket") {
		return nil
	}
	if err == nil {
		err = errors.New("an object that cannot exist is there")
	}
	return err
}
