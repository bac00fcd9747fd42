package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/cachetest"
	"github.com/modgate/modgate/cache/s3"
	"github.com/modgate/modgate/cache/sharedtest"
)

var prefixes atomic.Int64

// config of a Store in the bucket of server, with a prefix of its own.
func config(server *sharedtest.S3) s3.Config {
	return s3.Config{
		Bucket: server.Bucket, Prefix: fmt.Sprintf("test%d/modules", prefixes.Add(1)), Endpoint: server.Endpoint, PathStyle: true,
		AccessKey: server.AccessKey, SecretKey: server.SecretKey,
	}
}

// open returns a running Store, ended with the test.
func open(t *testing.T, c s3.Config) *s3.Store {
	t.Helper()
	c.TempDir = t.TempDir()
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	s, err := s3.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
		left, _ := os.ReadDir(c.TempDir)
		if len(left) > 0 {
			t.Errorf("temporary files are left: %v", left)
		}
	})
	return s
}

const zip = "example.com/!acme/m/@v/v1.0.0+incompatible.zip"

// noise is n bytes that no two tests have in common.
func noise(n int) []byte {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	_, _ = r.Read(data)
	return data
}

func put(t *testing.T, s *s3.Store, name string, data []byte) {
	t.Helper()
	// A reader that cannot seek, as that of a download.
	if err := s.Put(t.Context(), name, io.MultiReader(bytes.NewReader(data)), cache.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func read(ctx context.Context, s *s3.Store, name string) ([]byte, error) {
	o, err := s.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return o.ReadAll(1 << 30)
}

func TestContract(t *testing.T) {
	server := sharedtest.NewS3(t)
	cachetest.Test(t, func(t *testing.T) cache.Store {
		c := config(server)
		c.Timeout = 30 * time.Second
		return open(t, c)
	})
}

// Objects of all ways: read at once, as a stream, uploaded in parts.
func TestSizes(t *testing.T) {
	server := sharedtest.NewS3(t)
	c := config(server)
	c.PartSize = 5 << 20
	s := open(t, c)
	for _, n := range []int{0, 1, 1 << 20, 1<<20 + 1, 3 << 20, 5 << 20, 5<<20 + 1, 12 << 20} {
		name, data := fmt.Sprintf("example.com/m/@v/v1.0.%d.zip", n), noise(n)
		for range 2 {
			put(t, s, name, data)
			got, err := read(t.Context(), s, name)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes: read %d, %v", n, len(got), err)
			}
		}
		if n == 0 {
			continue
		}
		data[n/2] ^= 1
		if err := s.Put(t.Context(), name, bytes.NewReader(data), cache.PutOptions{}); !errors.Is(err, cache.ErrConflict) {
			t.Errorf("%d other bytes: %v, want ErrConflict", n, err)
		}
	}
}

// A file is uploaded from where it is: eight large ones are on their way at a
// time, in a process that has 64 MiB for all its work.
func TestPartsAreNotKeptInMemory(t *testing.T) {
	server := sharedtest.NewS3(t)
	c := config(server)
	c.Timeout = patient
	s := open(t, c)
	const size = 40 << 20
	f, err := os.Create(filepath.Join(t.TempDir(), "zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(noise(size)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := s.Put(t.Context(), zip, f, cache.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("an upload of %d MiB allocates %d MiB", size>>20, n>>20)
	}
	if o, err := s.Get(t.Context(), zip); err != nil || o.Attrs.Size != size {
		t.Errorf("%+v, %v", o, err)
	} else {
		o.Close()
	}
}

func TestSeekingInAStream(t *testing.T) {
	server := sharedtest.NewS3(t)
	s := open(t, config(server))
	data := noise(3 << 20)
	put(t, s, zip, data)
	o, err := s.Get(t.Context(), zip)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for _, at := range []int64{2 << 20, 0, 1<<20 + 7, int64(len(data)) - 1, int64(len(data)), 5} {
		if _, err := o.Body.Seek(at, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(o.Body)
		if err != nil || !bytes.Equal(got, data[at:]) {
			t.Errorf("from %d: %d bytes, %v", at, len(got), err)
		}
	}
}

// file returns the file that the server keeps an object in.
func file(server *sharedtest.S3, c s3.Config, name string) string {
	return filepath.Join(server.Dir, c.Prefix, name)
}

// What is in the bucket is not believed.
func TestWrongObjects(t *testing.T) {
	server := sharedtest.NewS3(t)
	for _, size := range []int{1000, 3 << 20} {
		for about, spoil := range map[string]func(t *testing.T, name string){
			"a bit": func(t *testing.T, name string) {
				f, err := os.OpenFile(name, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := f.WriteAt([]byte("xyz"), int64(size)/2); err != nil {
					t.Fatal(err)
				}
			},
			"truncated": func(t *testing.T, name string) {
				if err := os.Truncate(name, int64(size)-1); err != nil {
					t.Fatal(err)
				}
			},
			"nothing": func(t *testing.T, name string) {
				if err := os.Truncate(name, 0); err != nil {
					t.Fatal(err)
				}
			},
			"not ours": func(t *testing.T, name string) {
				if err := errors.Join(os.Remove(name), os.WriteFile(name, noise(size), 0o644)); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(fmt.Sprintf("%s of %d", about, size), func(t *testing.T) {
				c := config(server)
				s := open(t, c)
				data := noise(size)
				put(t, s, zip, data)
				spoil(t, file(server, c, zip))
				got, err := read(t.Context(), s, zip)
				if !errors.Is(err, cache.ErrCorrupt) || !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("error %v", err)
				}
				if len(got) == size {
					t.Error("its last byte was handed out")
				}
				if _, err := os.Stat(file(server, c, zip)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("it was not put aside: %v", err)
				}
				if kept, _ := filepath.Glob(filepath.Join(server.Dir, c.Prefix, ".quarantine/*/example.com/!acme/m/@v/*.zip")); len(kept) != 1 {
					t.Errorf("in quarantine: %q", kept)
				}
				put(t, s, zip, data)
				if got, err := read(t.Context(), s, zip); err != nil || !bytes.Equal(got, data) {
					t.Errorf("after that: %d bytes, %v", len(got), err)
				}
			})
		}
	}
}

func TestSecretAuthenticatesObjects(t *testing.T) {
	server := sharedtest.NewS3(t)
	c := config(server)
	forger := open(t, c)
	c.Secret = []byte("of the fleet")
	ours := open(t, c)
	put(t, forger, zip, []byte("evil"))
	if got, err := read(t.Context(), ours, zip); !errors.Is(err, cache.ErrCorrupt) || !strings.Contains(err.Error(), "another secret") {
		t.Errorf("read %q, %v", got, err)
	}
	put(t, forger, zip, []byte("evil"))
	put(t, ours, zip, []byte("good"))
	if got, err := read(t.Context(), ours, zip); err != nil || string(got) != "good" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestNames(t *testing.T) {
	server := sharedtest.NewS3(t)
	s := open(t, config(server))
	for _, n := range []string{"b.example/m/@v/v1.0.0.mod", "a.example/m/@v/v1.0.0.mod", "a.example/m/@v/v1.1.0.mod"} {
		put(t, s, n, []byte(n))
	}
	var got []string
	for e, err := range s.Names(t.Context(), "a.example/") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Name, " ", e.Size))
	}
	if want := "a.example/m/@v/v1.0.0.mod 25, a.example/m/@v/v1.1.0.mod 25"; strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		want string
		s3.Config
	}{
		{"no bucket", s3.Config{}},
		{"its name alone", s3.Config{Bucket: "s3://b"}},
		{"its name alone", s3.Config{Bucket: "b/team"}},
		{"write https", s3.Config{Bucket: "b", Endpoint: "minio:9000"}},
		{"write https", s3.Config{Bucket: "b", Endpoint: "http://"}},
		{"write https", s3.Config{Bucket: "b", Endpoint: "http://minio:port"}},
		{"write https", s3.Config{Bucket: "b", Endpoint: "https://user:password@minio"}},
		{"belong together", s3.Config{Bucket: "b", AccessKey: "x"}},
		{"AES256 or", s3.Config{Bucket: "b", SSE: "rot13"}},
		{"with aws:kms", s3.Config{Bucket: "b", KMSKey: "x"}},
		{"no less than", s3.Config{Bucket: "b", PartSize: 1}},
		{"is empty", s3.Config{Bucket: "b", Prefix: "a//b"}},
		{"begins with a dot", s3.Config{Bucket: "b", Prefix: "../other"}},
		{"begins with a dot", s3.Config{Bucket: "b", Prefix: "."}},
		{"begins with a dot", s3.Config{Bucket: "b", Prefix: "a/.records"}},
		{"control characters", s3.Config{Bucket: "b", Prefix: "a\nb"}},
		{"negative", s3.Config{Bucket: "b", Timeout: -1}},
	} {
		if _, err := s3.New(t.Context(), c.Config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.Config, err, c.want)
		}
	}
	for _, c := range []s3.Config{
		{Bucket: "arn:aws:s3:eu-central-1:123456789012:accesspoint/modgate"},
		{Bucket: "b", Prefix: "/a b/ü+%2F?x#y:z/", Endpoint: "https://store.example/storage/v1/s3"},
	} {
		if err := c.Check(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
