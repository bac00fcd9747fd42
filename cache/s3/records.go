package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/modgate/modgate/cache"
)

// maxRecord bounds a record, in bytes.
const maxRecord = 1 << 20

// Records are small and cannot be had again. They stand beside the objects,
// below .records/, where no listing shows them and nothing that makes room finds
// them. One that is not right is an error until a person has looked at it, and
// never taken for absent.

func recordName(name string) string { return ".records/" + name }

// Record returns the record called name; fs.ErrNotExist if there is none.
func (s *Store) Record(ctx context.Context, name string) ([]byte, error) {
	data, _, err := s.record(ctx, name)
	return data, err
}

// Records yields the names of the records that begin with prefix. An error ends
// the sequence.
func (s *Store) Records(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for page, err := range s.keys(ctx, recordName(prefix)) {
			if err != nil {
				yield("", fmt.Errorf("list records %s: %w", prefix, err))
				return
			}
			for _, o := range page {
				if !yield(strings.TrimPrefix(aws.ToString(o.Key), s.prefix+recordName("")), nil) {
					return
				}
			}
		}
	}
}

// SwapRecord stores a record if it is still old, nil for absent; else the error
// is cache.ErrConflict. When it returns nil all who share the bucket see data.
func (s *Store) SwapRecord(ctx context.Context, name string, old, data []byte) error {
	if err := cache.CheckName(name); err != nil {
		return err
	}
	etag := ""
	if old != nil {
		current, tag, err := s.record(ctx, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || !bytes.Equal(current, old) {
			return fmt.Errorf("record %s: %w", name, cache.ErrConflict)
		}
		etag = tag
	}
	err := s.putSmall(ctx, recordName(name), data, etag)
	if errors.Is(err, errRaced) || errors.Is(err, fs.ErrNotExist) {
		err = cache.ErrConflict
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	return nil
}

func (s *Store) putSmall(ctx context.Context, key string, data []byte, etag string) error {
	sum := sha256.Sum256(data)
	d := cache.Stored{Class: cache.Precious, Attrs: cache.Attrs{
		Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), FirstSeen: time.Now().UTC(),
	}}
	return s.upload(ctx, key, bytes.NewReader(data), d, etag)
}

// markKey stands beside the objects, so that it goes when they are removed.
const markKey = ".mark"

// Mark returns a text that is another one in each bucket and below each prefix,
// and after all objects were removed. Whoever asks first makes it.
func (s *Store) Mark(ctx context.Context) (string, error) {
	data, _, err := s.small(ctx, markKey)
	if errors.Is(err, fs.ErrNotExist) {
		data = []byte(rand.Text())
		if err = s.putSmall(ctx, markKey, data, ""); errors.Is(err, errRaced) {
			data, _, err = s.small(ctx, markKey)
		}
	}
	if err != nil {
		return "", fmt.Errorf("mark of the bucket: %w", err)
	}
	return string(data), nil
}

// record returns a record and its version.
func (s *Store) record(ctx context.Context, name string) (data []byte, etag string, err error) {
	if err := cache.CheckName(name); err != nil {
		return nil, "", err
	}
	data, etag, err = s.small(ctx, recordName(name))
	if err != nil {
		return nil, "", fmt.Errorf("record %s: %w", name, err)
	}
	return data, etag, nil
}

// small returns something small that is no object, and its version.
func (s *Store) small(ctx context.Context, key string) (data []byte, etag string, err error) {
	b, d, err := s.open(ctx, key, "")
	if err != nil {
		return nil, "", err
	}
	defer b.Close()
	timer := time.AfterFunc(s.c.Timeout, b.cancel)
	defer timer.Stop()
	data, err = io.ReadAll(io.LimitReader(b.rest, maxRecord+1))
	if err == nil && len(data) > maxRecord {
		err = fmt.Errorf("%w: more than %d bytes", cache.ErrCorrupt, maxRecord)
	}
	if sum := sha256.Sum256(data); err == nil && hex.EncodeToString(sum[:]) != d.SHA256 {
		err = fmt.Errorf("%w: SHA-256 is not %s", cache.ErrCorrupt, d.SHA256)
	}
	return data, b.etag, err
}
