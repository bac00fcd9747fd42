package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/modgate/modgate/cache"
)

// heads is how many objects are asked for their class at once.
const heads = 8

// List implements cache.Store. It asks for every object what it is; Names does
// without. Used is when an object was stored.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[cache.Entry, error] {
	return s.each(ctx, prefix, true)
}

// Names is List without the classes of the entries, a thousand of which cost
// one request. They are in the order of their bytes.
func (s *Store) Names(ctx context.Context, prefix string) iter.Seq2[cache.Entry, error] {
	return s.each(ctx, prefix, false)
}

func (s *Store) each(ctx context.Context, prefix string, classes bool) iter.Seq2[cache.Entry, error] {
	return func(yield func(cache.Entry, error) bool) {
		for page, err := range s.pages(ctx, prefix) {
			if err == nil && classes {
				page, err = s.classify(ctx, page)
			}
			if err != nil {
				yield(cache.Entry{}, fmt.Errorf("list the bucket%s: %w", below(prefix), err))
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

func below(prefix string) string {
	if prefix == "" {
		return ""
	}
	return " below " + prefix
}

// pages yields what is listed, without classes.
func (s *Store) pages(ctx context.Context, prefix string) iter.Seq2[[]cache.Entry, error] {
	return func(yield func([]cache.Entry, error) bool) {
		for page, err := range s.keys(ctx, prefix) {
			if !yield(s.entries(page), err) {
				return
			}
		}
	}
}

// keys yields whatever begins with prefix. An error ends it.
func (s *Store) keys(ctx context.Context, prefix string) iter.Seq2[[]types.Object, error] {
	return func(yield func([]types.Object, error) bool) {
		if prefix != "" && !fs.ValidPath(strings.TrimSuffix(prefix, "/")) {
			return // no name starts so
		}
		in := &awss3.ListObjectsV2Input{Bucket: &s.c.Bucket, Prefix: aws.String(s.prefix + prefix)}
		for {
			var out *awss3.ListObjectsV2Output
			err := s.ask(ctx, func(ctx context.Context) (err error) {
				out, err = s.client.ListObjectsV2(ctx, in)
				return err
			})
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(out.Contents, nil) || !aws.ToBool(out.IsTruncated) {
				return
			}
			in.ContinuationToken = out.NextContinuationToken
		}
	}
}

// entries are those of objects that have names: not what is in quarantine.
func (s *Store) entries(objects []types.Object) []cache.Entry {
	var page []cache.Entry
	for _, o := range objects {
		name := strings.TrimPrefix(aws.ToString(o.Key), s.prefix)
		if cache.CheckName(name) == nil {
			page = append(page, cache.Entry{Name: name, Size: aws.ToInt64(o.Size), Used: aws.ToTime(o.LastModified)})
		}
	}
	return page
}

// classify sets the classes of entries, and leaves out those that are gone.
func (s *Store) classify(ctx context.Context, page []cache.Entry) ([]cache.Entry, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(heads)
	there := make([]bool, len(page))
	for i := range page {
		g.Go(func() error {
			d, _, err := s.head(ctx, page[i].Name)
			if d != nil {
				page[i].Class, there[i] = d.Class, true
			}
			return err
		})
	}
	err := g.Wait()
	kept := page[:0]
	for i, e := range page {
		if there[i] {
			kept = append(kept, e)
		}
	}
	return kept, err
}

// Delete implements cache.Store.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := cache.CheckName(name); err != nil {
		return err
	}
	err := s.remove(ctx, func(ctx context.Context) error {
		_, err := s.client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &s.c.Bucket, Key: s.key(name)})
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// copy copies the version etag ("": whichever) of an object within the bucket,
// with other metadata.
func (s *Store) copy(ctx context.Context, from, to, etag string, metadata map[string]string) error {
	source := (&url.URL{Path: s.c.Bucket + "/" + s.prefix + from}).EscapedPath()
	source = strings.ReplaceAll(source, "+", "%2B") // which many read as a space
	in := &awss3.CopyObjectInput{
		Bucket: &s.c.Bucket, Key: s.key(to), CopySource: &source,
		MetadataDirective: types.MetadataDirectiveReplace, Metadata: metadata,
		ServerSideEncryption: types.ServerSideEncryption(s.c.SSE),
	}
	if etag != "" {
		in.CopySourceIfMatch = &etag
	}
	if s.c.KMSKey != "" {
		in.SSEKMSKeyId = &s.c.KMSKey
	}
	return s.change(ctx, s.c.PartSize, func(ctx context.Context) error {
		_, err := s.client.CopyObject(ctx, in)
		return err
	})
}
