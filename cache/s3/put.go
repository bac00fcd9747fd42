package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/modgate/modgate/cache"
)

// attempts to replace an object that others replace as well.
const attempts = 32

// worthAsking is the size, in bytes, from which on it is asked whether an
// immutable object is there before it is sent.
const worthAsking = 256 << 10

var errBusy = errors.New("s3: the object changes faster than it can be replaced")

// Put implements cache.Store. It reads the body, if that is an io.ReadSeeker
// twice, before it stores anything.
func (s *Store) Put(ctx context.Context, name string, body io.Reader, opts cache.PutOptions) error {
	if err := cache.CheckName(name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	next := cache.Stored{Class: opts.Class, Attrs: opts.Attrs}
	data, drop, err := s.collect(body, &next)
	if err == nil {
		defer drop()
		if err = ctx.Err(); err == nil {
			err = s.replace(ctx, name, data, next)
		}
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}

// collect returns all of body, which has been hashed into d. The caller calls
// drop.
func (s *Store) collect(body io.Reader, d *cache.Stored) (data io.ReadSeeker, drop func(), err error) {
	h := sha256.New()
	if seeker, ok := body.(io.ReadSeeker); ok {
		start, err := seeker.Seek(0, io.SeekCurrent)
		if err == nil && start == 0 {
			size, err := io.Copy(h, seeker)
			if err == nil {
				_, err = seeker.Seek(0, io.SeekStart)
			}
			if err != nil {
				return nil, nil, err
			}
			return seeker, func() {}, d.Complete(size, hex.EncodeToString(h.Sum(nil)))
		}
	}
	var head bytes.Buffer
	size, err := io.Copy(io.MultiWriter(&head, h), io.LimitReader(body, inMemory))
	if err != nil {
		return nil, nil, err
	}
	if size < inMemory {
		return bytes.NewReader(head.Bytes()), func() {}, d.Complete(size, hex.EncodeToString(h.Sum(nil)))
	}
	f, err := os.CreateTemp(s.c.TempDir, "modgate-upload-*")
	if err != nil {
		return nil, nil, err
	}
	drop = func() { _ = f.Close(); _ = os.Remove(f.Name()) }
	if _, err = f.Write(head.Bytes()); err == nil {
		var more int64
		more, err = io.Copy(io.MultiWriter(f, h), body)
		size += more
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = d.Complete(size, hex.EncodeToString(h.Sum(nil)))
	}
	if err != nil {
		drop()
	}
	return f, drop, err
}

// replace stores data under name, as what next says after what is there.
func (s *Store) replace(ctx context.Context, name string, data io.ReadSeeker, next cache.Stored) error {
	// What is immutable is most often new, and asking costs more than sending a
	// little in vain. For the rest it matters what it was.
	look := next.Class != cache.Immutable || next.Size > worthAsking
	for range attempts {
		var old *cache.Stored
		etag := ""
		if look {
			var err error
			if old, etag, err = s.head(ctx, name); err != nil {
				return err
			}
		}
		look = true
		stored, kept, err := next.After(old)
		switch {
		case err != nil:
			return err
		case kept && stored == *old:
			return nil
		case kept:
			err = s.copy(ctx, name, name, etag, s.encode(name, stored))
		default:
			err = s.upload(ctx, name, data, stored, etag)
		}
		if !errors.Is(err, errRaced) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if _, err := data.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return errBusy
}

// head returns what is under name, nil for nothing. What is not ours is put
// aside.
func (s *Store) head(ctx context.Context, name string) (*cache.Stored, string, error) {
	var out *awss3.HeadObjectOutput
	err := s.ask(ctx, func(ctx context.Context) (err error) {
		out, err = s.client.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &s.c.Bucket, Key: s.key(name)})
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	etag := aws.ToString(out.ETag)
	d, err := s.decode(name, aws.ToInt64(out.ContentLength), out.Metadata)
	if err != nil {
		if err := s.condemn(ctx, name, etag, err); !errors.Is(err, fs.ErrNotExist) {
			return nil, "", err
		}
		return nil, "", nil
	}
	return &d, etag, nil
}

// upload writes an object if what is there is still etag; "" for nothing.
func (s *Store) upload(ctx context.Context, name string, data io.Reader, d cache.Stored, etag string) error {
	if d.Size > s.c.PartSize {
		return s.uploadParts(ctx, name, data, d, etag)
	}
	in := &awss3.PutObjectInput{
		Bucket: &s.c.Bucket, Key: s.key(name), Body: data, ContentLength: &d.Size, Metadata: s.encode(name, d),
		ServerSideEncryption: types.ServerSideEncryption(s.c.SSE),
	}
	in.IfNoneMatch, in.IfMatch = condition(etag)
	if s.c.KMSKey != "" {
		in.SSEKMSKeyId = &s.c.KMSKey
	}
	return s.change(ctx, d.Size, func(ctx context.Context) error {
		_, err := s.client.PutObject(ctx, in)
		if err != nil && statusOf(err) == 0 && s.raced(ctx, name, etag) {
			return errRaced
		}
		return err
	})
}

// raced reports whether what is under name is not etag ("" for nothing). A
// storage may answer a write before it has read the body, and close the
// connection while that is still being sent: then the answer, most often that
// the condition of the write does not hold, is lost with the connection.
func (s *Store) raced(ctx context.Context, name, etag string) bool {
	out, err := s.client.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &s.c.Bucket, Key: s.key(name)})
	if err != nil {
		return statusOf(err) == http.StatusNotFound && etag != ""
	}
	return aws.ToString(out.ETag) != etag
}

func condition(etag string) (ifNoneMatch, ifMatch *string) {
	if etag == "" {
		return aws.String("*"), nil
	}
	return nil, &etag
}
