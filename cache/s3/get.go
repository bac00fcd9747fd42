package s3

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/modgate/modgate/cache"
)

// inMemory is the size up to which objects are read at once.
const inMemory = 1 << 20

func (s *Store) key(name string) *string { return aws.String(s.prefix + name) }

// Get implements cache.Store. Objects of up to 1 MiB have been read and checked
// when it returns. The body of a larger one is checked while it is read: its
// last bytes are not handed out unless all are right.
func (s *Store) Get(ctx context.Context, name string) (*cache.Object, error) {
	if err := cache.CheckName(name); err != nil {
		return nil, err
	}
	o, err := s.get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	return o, nil
}

func (s *Store) get(ctx context.Context, name string) (*cache.Object, error) {
	b, stored, err := s.open(ctx, name, "")
	if errors.Is(err, cache.ErrCorrupt) {
		return nil, s.condemn(ctx, name, b.etag, err)
	}
	if err != nil {
		return nil, err
	}
	o := &cache.Object{Name: name, Attrs: stored.Attrs, Class: stored.Class, Body: b}
	if b.size > inMemory {
		return o, nil
	}
	stop := context.AfterFunc(ctx, b.cancel)
	defer stop()
	defer b.Close()
	data := make([]byte, b.size)
	if b.size == 0 {
		_, err = b.Read(nil)
	} else {
		_, err = io.ReadFull(b, data)
	}
	if e := ctx.Err(); e != nil {
		return nil, e
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	o.Body, o.Bytes = nil, data
	return o, nil
}

// body reads an object, and hands out its last bytes only if all are right.
type body struct {
	s      *Store
	ctx    context.Context // of the transfer; detached from that of Get
	cancel context.CancelFunc
	name   string
	etag   string
	size   int64
	sum    string

	rest io.ReadCloser // nil: nothing is open
	hash hash.Hash
	read int64 // bytes of rest
	pos  int64 // where the caller is
	err  error // what every further Read returns
}

// open starts a transfer; etag is the version of the object that is wanted, or
// "". With ErrCorrupt the body has an etag and nothing else.
func (s *Store) open(ctx context.Context, name, etag string) (*body, cache.Stored, error) {
	transfer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	timer := time.AfterFunc(2*s.c.Timeout, cancel)
	defer timer.Stop()
	in := &awss3.GetObjectInput{Bucket: &s.c.Bucket, Key: s.key(name)}
	if etag != "" {
		in.IfMatch = &etag
	}
	var out *awss3.GetObjectOutput
	err := s.judge(ctx, s.breaker, func() (err error) {
		out, err = s.client.GetObject(transfer, in)
		return err
	})
	if err != nil {
		cancel()
		return nil, cache.Stored{}, err
	}
	size := aws.ToInt64(out.ContentLength)
	b := &body{s: s, ctx: transfer, cancel: cancel, name: name, etag: aws.ToString(out.ETag), size: size, rest: out.Body, hash: sha256.New()}
	d, err := s.decode(name, size, out.Metadata)
	b.sum = d.SHA256
	if err != nil {
		b.Close()
	}
	return b, d, err
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.next(p)
	b.pos += int64(n)
	b.err = err
	return n, err
}

func (b *body) next(p []byte) (int, error) {
	if b.pos >= b.size && b.size > 0 {
		return 0, io.EOF
	}
	if err := b.align(); err != nil {
		return 0, err
	}
	n, err := b.fetch(p)
	if err != nil || b.read < b.size {
		return n, err
	}
	// These are the last bytes.
	if err := b.check(); err != nil {
		return 0, err
	}
	if b.size == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// fetch reads from the transfer, which must go on within the time-out.
func (b *body) fetch(p []byte) (int, error) {
	if b.size == b.read {
		return 0, nil
	}
	timer := time.AfterFunc(b.s.c.Timeout, b.cancel)
	n, err := b.rest.Read(p[:min(int64(len(p)), b.size-b.read)])
	if !timer.Stop() && err != nil {
		err = fmt.Errorf("no byte for %v: %w", b.s.c.Timeout, err)
	}
	b.hash.Write(p[:n])
	b.read += int64(n)
	if b.read == b.size || err == nil {
		return n, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	b.s.m.errors.Inc()
	return n, fmt.Errorf("s3: %s ends after %d of %d bytes: %w", b.name, b.read, b.size, err)
}

// check compares the digest. A transfer may go wrong where the object is right:
// it is put aside only if it is wrong twice.
func (b *body) check() error {
	reason := b.compare()
	if reason == nil {
		return nil
	}
	ctx := context.WithoutCancel(b.ctx)
	again, _, err := b.s.open(ctx, b.name, b.etag)
	if err == nil {
		defer again.Close()
		buf := make([]byte, 64<<10)
		for again.read < again.size && err == nil {
			_, err = again.fetch(buf)
		}
		if err == nil && again.compare() != nil {
			return b.s.condemn(ctx, b.name, b.etag, reason)
		}
	}
	return fmt.Errorf("s3: %s was damaged on its way: %w", b.name, errors.Join(io.ErrUnexpectedEOF, err))
}

func (b *body) compare() error {
	if sum := hex.EncodeToString(b.hash.Sum(nil)); sum != b.sum {
		return fmt.Errorf("%w: SHA-256 %s where %s should be", cache.ErrCorrupt, sum, b.sum)
	}
	return nil
}

// align makes the transfer stand where the caller is. All bytes before that are
// read, because the digest is of the whole.
func (b *body) align() error {
	if b.rest == nil || b.read > b.pos {
		if b.rest != nil {
			_ = b.rest.Close()
			b.rest = nil
		}
		again, _, err := b.s.open(context.WithoutCancel(b.ctx), b.name, b.etag)
		if err != nil {
			return err
		}
		b.cancel()
		b.ctx, b.cancel, b.rest, b.hash, b.read = again.ctx, again.cancel, again.rest, again.hash, 0
	}
	buf := make([]byte, 0)
	for b.read < b.pos {
		if len(buf) == 0 {
			buf = make([]byte, 64<<10)
		}
		if _, err := b.fetch(buf[:min(int64(len(buf)), b.pos-b.read)]); err != nil {
			return err
		}
	}
	return nil
}

// Seek implements io.Seeker. Going back fetches the object anew.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.pos
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek %s: %w", b.name, fs.ErrInvalid)
	}
	b.pos = offset
	if b.err == io.EOF {
		b.err = nil
	}
	return offset, nil
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.cancel()
	if b.rest != nil {
		return b.rest.Close()
	}
	return nil
}
