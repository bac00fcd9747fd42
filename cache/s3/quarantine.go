package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/modgate/modgate/cache"
)

// What was put aside waits for a person: the last keepQuarantined objects as in
// a directory, and all of the last day, because one replica with another secret
// puts aside whatever it reads.
const (
	keepQuarantined = 16
	keepAside       = 24 * time.Hour
)

// Quarantine implements cache.Quarantiner. The object is moved to
// .quarantine/<time>/ below the prefix.
func (s *Store) Quarantine(ctx context.Context, name, reason string) error {
	if err := cache.CheckName(name); err != nil {
		return err
	}
	if err := s.putAside(ctx, name, "", reason); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("quarantine %s: %w", name, err)
	}
	return nil
}

// Quarantined returns the number of objects that were put aside.
func (s *Store) Quarantined(ctx context.Context) (n int, err error) {
	for page, err := range s.keys(ctx, quarantine) {
		if err != nil {
			return n, fmt.Errorf("list the quarantine: %w", err)
		}
		n += len(page)
	}
	return n, nil
}

// quarantine is where objects are put aside, below the prefix of the store.
const quarantine = ".quarantine/"

// condemn puts aside the version etag of an object, which is wrong. The error
// says so, and that the object is absent now.
func (s *Store) condemn(ctx context.Context, name, etag string, reason error) error {
	s.m.corrupt.Inc()
	if err := s.putAside(ctx, name, etag, reason.Error()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("an object in the bucket is wrong and cannot be put aside", "name", name, "reason", reason, "error", err)
	} else {
		s.log.Warn("an object in the bucket was wrong and is put aside", "name", name, "reason", reason)
	}
	return fmt.Errorf("%w: %w", reason, fs.ErrNotExist)
}

func (s *Store) putAside(ctx context.Context, name, etag, reason string) error {
	to := quarantine + time.Now().UTC().Format("20060102T150405.000000") + "/" + name
	err := s.copy(ctx, name, to, etag, map[string]string{"reason": strings.Map(printable, reason)})
	if err != nil {
		return err
	}
	defer s.asideSoon()
	in := &awss3.DeleteObjectInput{Bucket: &s.c.Bucket, Key: s.key(name)}
	if etag != "" {
		in.IfMatch = &etag
	}
	return s.remove(ctx, func(ctx context.Context) error {
		_, err := s.client.DeleteObject(ctx, in)
		return err
	})
}

// asideSoon has Run empty the quarantine.
func (s *Store) asideSoon() {
	select {
	case s.aside <- struct{}{}:
	default:
	}
}

// EmptyQuarantine removes what was put aside longer than age ago, but for the
// last ones.
func (s *Store) EmptyQuarantine(ctx context.Context, age time.Duration) error {
	var last []types.Object // in the order of time, which is that of their keys
	for page, err := range s.keys(ctx, quarantine) {
		if err != nil {
			return fmt.Errorf("list the quarantine: %w", err)
		}
		for _, o := range page {
			last = append(last, o)
			if len(last) <= keepQuarantined {
				continue
			}
			oldest := last[0]
			last = last[1:]
			if time.Since(aws.ToTime(oldest.LastModified)) < age {
				return nil // and so are all that follow
			}
			if err := s.remove(ctx, func(ctx context.Context) error {
				_, err := s.client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &s.c.Bucket, Key: oldest.Key})
				return err
			}); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("empty the quarantine: %w", err)
			}
		}
	}
	return nil
}

// printable keeps what may stand in a header.
func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}
