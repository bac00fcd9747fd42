package s3

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/modgate/modgate/cache"
)

// uploadParts is upload for what is larger than a part. Whatever goes wrong, no
// part stays behind, if the bucket can still be told.
func (s *Store) uploadParts(ctx context.Context, name string, data io.Reader, d cache.Stored, etag string) error {
	in := &awss3.CreateMultipartUploadInput{
		Bucket: &s.c.Bucket, Key: s.key(name), Metadata: s.encode(name, d),
		ServerSideEncryption: types.ServerSideEncryption(s.c.SSE),
	}
	if s.c.KMSKey != "" {
		in.SSEKMSKeyId = &s.c.KMSKey
	}
	var id *string
	if err := s.change(ctx, 0, func(ctx context.Context) error {
		out, err := s.client.CreateMultipartUpload(ctx, in)
		if err == nil {
			id = out.UploadId
		}
		return err
	}); err != nil {
		return err
	}
	parts, err := s.sendParts(ctx, name, data, d.Size, id)
	if err == nil {
		done := &awss3.CompleteMultipartUploadInput{
			Bucket: &s.c.Bucket, Key: s.key(name), UploadId: id,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		}
		done.IfNoneMatch, done.IfMatch = condition(etag)
		err = s.change(ctx, d.Size, func(ctx context.Context) error {
			_, err := s.client.CompleteMultipartUpload(ctx, done)
			return err
		})
	}
	if err != nil {
		s.abort(context.WithoutCancel(ctx), s.key(name), id)
	}
	return err
}

// sendParts uploads data in parts. What is in a file is read from there, and not
// kept in memory: several uploads are under way at a time.
func (s *Store) sendParts(ctx context.Context, name string, data io.Reader, size int64, id *string) ([]types.CompletedPart, error) {
	var parts []types.CompletedPart
	var buf []byte
	at, random := data.(io.ReaderAt)
	if !random {
		buf = make([]byte, s.c.PartSize)
	}
	for off := int64(0); off < size; off += s.c.PartSize {
		n := min(s.c.PartSize, size-off)
		var part io.ReadSeeker
		if random {
			part = io.NewSectionReader(at, off, n)
		} else {
			if _, err := io.ReadFull(data, buf[:n]); err != nil {
				return nil, err
			}
			part = bytes.NewReader(buf[:n])
		}
		number := aws.Int32(int32(len(parts) + 1))
		var out *awss3.UploadPartOutput
		if err := s.change(ctx, n, func(ctx context.Context) (err error) {
			out, err = s.client.UploadPart(ctx, &awss3.UploadPartInput{
				Bucket: &s.c.Bucket, Key: s.key(name), UploadId: id, PartNumber: number, Body: part,
			})
			return err
		}); err != nil {
			return nil, err
		}
		parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: number})
	}
	return parts, nil
}

func (s *Store) abort(ctx context.Context, key, id *string) {
	err := s.remove(ctx, func(ctx context.Context) error {
		_, err := s.client.AbortMultipartUpload(ctx, &awss3.AbortMultipartUploadInput{Bucket: &s.c.Bucket, Key: key, UploadId: id})
		return err
	})
	if err != nil {
		s.log.Warn("an upload that failed could not be removed; a later sweep does it", "key", aws.ToString(key), "error", err)
		return
	}
	s.m.aborted.Inc()
}

// abandoned is the age at which an upload belongs to nobody: those of replicas
// that are alive end much earlier.
const abandoned = time.Hour

// sweep removes uploads that nobody finished, at the start and every hour, and
// empties the quarantine then and whenever something was put aside, until ctx
// ends.
func (s *Store) sweep(ctx context.Context) error {
	tick := time.NewTicker(abandoned)
	defer tick.Stop()
	for uploads := true; ; {
		if uploads {
			s.Sweep(ctx, abandoned)
		}
		if err := s.EmptyQuarantine(ctx, keepAside); err != nil {
			s.log.Debug("the quarantine of the bucket could not be emptied", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			uploads = true
		case <-s.aside:
			uploads = false
		}
	}
}

// Sweep removes uploads that were begun longer than age ago.
func (s *Store) Sweep(ctx context.Context, age time.Duration) {
	in := &awss3.ListMultipartUploadsInput{Bucket: &s.c.Bucket, Prefix: &s.prefix}
	for ctx.Err() == nil {
		var out *awss3.ListMultipartUploadsOutput
		err := s.ask(ctx, func(ctx context.Context) (err error) {
			out, err = s.client.ListMultipartUploads(ctx, in)
			return err
		})
		if err != nil {
			s.log.Debug("unfinished uploads could not be listed", "error", err)
			return
		}
		for _, u := range out.Uploads {
			if time.Since(aws.ToTime(u.Initiated)) >= age {
				s.abort(ctx, u.Key, u.UploadId)
			}
		}
		if !aws.ToBool(out.IsTruncated) {
			return
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}
