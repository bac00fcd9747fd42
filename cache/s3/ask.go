package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/modgate/modgate/internal/breaker"
)

// errRaced says that a condition of a write did not hold.
var errRaced = errors.New("s3: the object has changed")

// ask runs one operation that reads, within twice the time-out, so that it can
// be repeated after a bad answer, and not while the bucket is in trouble. Absent
// is fs.ErrNotExist, a condition that does not hold errRaced.
func (s *Store) ask(ctx context.Context, f func(context.Context) error) error {
	return s.within(ctx, s.breaker, 0, f)
}

// slowest is the rate that an upload may have, in bytes per second.
const slowest = 256 << 10

// change is ask for an operation that sends or copies size bytes. A bucket that
// refuses changes can be read.
func (s *Store) change(ctx context.Context, size int64, f func(context.Context) error) error {
	if s.writes.Open() {
		return fmt.Errorf("s3: %w", breaker.ErrOpen)
	}
	return s.within(ctx, s.writes, size, f)
}

// remove is ask for an operation that takes something away. It is tried while
// the bucket refuses to be written.
func (s *Store) remove(ctx context.Context, f func(context.Context) error) error {
	return s.within(ctx, s.writes, 0, f)
}

// within is judge with the time-out of an operation that sends size bytes.
func (s *Store) within(ctx context.Context, refused *breaker.Breaker, size int64, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, 2*s.c.Timeout+time.Duration(size/slowest)*time.Second)
	defer cancel()
	return s.judge(ctx, refused, func() error { return f(limited) })
}

// judge is ask without a time-out of its own. ctx is the caller's; refused is
// told where the bucket will not do this.
func (s *Store) judge(ctx context.Context, refused *breaker.Breaker, f func() error) error {
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
	err = meaning(err)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errRaced) {
		return err
	}
	s.m.errors.Inc()
	switch status := statusOf(err); {
	case ofOne(codeOf(err)):
	case status >= 300 && status < 500 && status != http.StatusTooManyRequests, status == http.StatusNotImplemented:
		// What is refused, or asked for in a wrong way, will be so again: the
		// breaker keeps it from being asked on every request.
		refused.Trip(err)
	default:
		s.breaker.Trip(err)
	}
	return fmt.Errorf("s3: %w", err)
}

// meaning is the one place where an answer of the storage gets a meaning. 404
// alone is no absence: it is also how a server answers that is no storage, and
// how some refuse a key or name a bucket that is not there.
func meaning(err error) error {
	switch code, status := codeOf(err), statusOf(err); {
	case code == "NoSuchKey", code == "NotFound", code == "NoSuchUpload", code == "NoSuchVersion":
		return fs.ErrNotExist
	case status == http.StatusPreconditionFailed, status == http.StatusConflict,
		status == http.StatusNotModified: // older MinIO, to a PUT (minio/minio issue 19442)
		return errRaced
	}
	return short(err)
}

// ofOne reports whether a refusal speaks of one object, and not of the bucket.
func ofOne(code string) bool {
	switch code {
	case "BadDigest", "EntityTooLarge", "EntityTooSmall", "IncompleteBody", "InvalidDigest", "InvalidObjectState",
		"InvalidPart", "InvalidPartOrder", "InvalidRange", "KeyTooLongError", "MetadataTooLarge", "RequestTimeout":
		return true
	}
	return false
}

// answer is an error of the SDK without the two hundred characters of requests,
// hosts and attempts that it begins with, and that differ each time.
type answer struct {
	text string
	err  error
}

func (a *answer) Error() string { return a.text }
func (a *answer) Unwrap() error { return a.err }

func short(err error) error {
	var op *smithy.OperationError
	if !errors.As(err, &op) {
		return err
	}
	var api smithy.APIError
	var unsent *smithyhttp.RequestSendError
	status, what := statusOf(err), ""
	switch {
	case errors.As(err, &api) && api.ErrorCode() != unknownCode:
		what = fmt.Sprintf("%s: %s (status %d)", api.ErrorCode(), api.ErrorMessage(), status)
	case status != 0:
		what = fmt.Sprintf("status %d, and no answer of an S3 storage", status)
	case errors.As(err, &unsent):
		what = unsent.Err.Error()
	default:
		what = op.Err.Error()
	}
	return &answer{op.Operation() + ": " + what, err}
}

// unknownCode is what the SDK calls an answer without a code.
const unknownCode = "UnknownError"

// codeOf returns the code of the answer that err is about, "" without one.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// statusOf returns the status of the answer that err is about, 0 without one.
func statusOf(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// Probe asks the bucket questions that need what all others need: a way there,
// time, credentials and rights. It changes nothing.
func (s *Store) Probe(ctx context.Context) error {
	if err := s.probe(ctx); err != nil {
		return err
	}
	err := s.probeWrites(ctx)
	if errors.Is(err, errUnconditional) {
		return fmt.Errorf("%w, which modgate needs", err)
	}
	return err
}

var errUnconditional = errors.New("the storage does not keep the condition of a write (If-Match)")

// probe asks for an object that cannot exist. Only a bucket that is well can
// say so.
func (s *Store) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	_, err := s.client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &s.c.Bucket, Key: aws.String(s.prefix + ".probe")}, once)
	if err == nil {
		return errors.New("an object that cannot exist is there")
	}
	if err = meaning(err); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// probeWrites replaces a version of an object that cannot exist. Only who may
// write hears that it does not.
func (s *Store) probeWrites(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.c.Timeout)
	defer cancel()
	_, err := s.client.PutObject(ctx, &awss3.PutObjectInput{
		Bucket: &s.c.Bucket, Key: aws.String(s.prefix + ".writable"), Body: strings.NewReader(""),
		IfMatch: aws.String(`"00000000000000000000000000000000"`),
	}, once)
	if err == nil {
		return errUnconditional
	}
	if err = meaning(err); errors.Is(err, fs.ErrNotExist) || errors.Is(err, errRaced) {
		return nil
	}
	return err
}

func once(o *awss3.Options) { o.RetryMaxAttempts = 1 }
