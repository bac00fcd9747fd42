package s3

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/modgate/modgate/cache"
)

// located is how long an URL from Locate may be used. A client does so at once.
const located = 5 * time.Minute

// Locate implements cache.Locator. The object is there and has our tag; its bytes
// are not read.
func (s *Store) Locate(ctx context.Context, name string) (string, cache.Attrs, error) {
	if err := cache.CheckName(name); err != nil {
		return "", cache.Attrs{}, err
	}
	d, _, err := s.head(ctx, name)
	if err == nil && d == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return "", cache.Attrs{}, fmt.Errorf("locate %s: %w", name, err)
	}
	signed, err := awss3.NewPresignClient(s.client).PresignGetObject(ctx, &awss3.GetObjectInput{
		Bucket: &s.c.Bucket, Key: s.key(name), ResponseCacheControl: aws.String("private, max-age=0"),
	}, awss3.WithPresignExpires(located))
	if err != nil {
		return "", cache.Attrs{}, fmt.Errorf("locate %s: %w", name, err)
	}
	return signed.URL, d.Attrs, nil
}
