package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/s3"
	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/internal/breaker"
)

// behind returns a Store whose way to the bucket leads through a Proxy, and
// another that goes straight to it.
func behind(t *testing.T) (s *s3.Store, straight *s3.Store, p *sharedtest.Proxy, dir string) {
	t.Helper()
	return behindFor(t, 500*time.Millisecond)
}

// patient is a time-out for tests that are not about it: a busy machine must not
// look like a bucket in trouble.
const patient = 30 * time.Second

// behindFor is behind with a time-out.
func behindFor(t *testing.T, timeout time.Duration) (s *s3.Store, straight *s3.Store, p *sharedtest.Proxy, dir string) {
	t.Helper()
	server := sharedtest.NewS3(t)
	c := config(server)
	c.Timeout, c.PartSize = patient, 5<<20
	straight = open(t, c)
	p = sharedtest.NewProxy(t, server.Endpoint)
	c.Endpoint, c.Timeout = p.URL, timeout
	return open(t, c), straight, p, filepath.Join(server.Dir, c.Prefix)
}

// await waits until f returns nil.
func await(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// A bucket in trouble is a fault, never an absence, costs nothing after the
// first request, and is used again when it is back.
func TestBucketInTrouble(t *testing.T) {
	for about, f := range map[string]sharedtest.Fault{
		"500": {Status: 500}, "503": {Status: 503}, "hangs": {Hang: true}, "403": {Status: 403},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			s, straight, p, _ := behind(t)
			put(t, straight, zip, []byte("zip"))
			p.Always(f)
			if _, err := read(t.Context(), s, zip); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("read: %v", err)
			}
			p.Requests()
			begin := time.Now()
			for range 200 {
				if _, err := read(t.Context(), s, zip); !errors.Is(err, breaker.ErrOpen) {
					t.Fatalf("read: %v, want breaker.ErrOpen", err)
				}
			}
			if d, n := time.Since(begin), len(p.Requests()); d > time.Second || n > 3 {
				t.Errorf("200 requests took %v and reached the bucket %d times", d, n)
			}
			if err := s.Put(t.Context(), zip, strings.NewReader("zip"), cache.PutOptions{}); !errors.Is(err, breaker.ErrOpen) {
				t.Errorf("put: %v", err)
			}
			p.Always(sharedtest.Fault{})
			await(t, func() error { _, err := read(t.Context(), s, zip); return err })
		})
	}
}

// One bad answer is no reason to give up.
func TestOneBadAnswer(t *testing.T) {
	s, _, p, _ := behindFor(t, patient)
	n := 0
	p.Set(func(*http.Request) sharedtest.Fault {
		if n++; n%2 == 1 {
			return sharedtest.Fault{Status: 503}
		}
		return sharedtest.Fault{}
	})
	put(t, s, zip, []byte("zip"))
	if got, err := read(t.Context(), s, zip); err != nil || string(got) != "zip" {
		t.Errorf("read %q, %v", got, err)
	}
}

// What goes wrong on the way is not taken for the object, and leaves it alone.
func TestDamagedOnItsWay(t *testing.T) {
	s, straight, p, _ := behindFor(t, patient)
	for _, size := range []int{1000, 3 << 20} {
		name, data := fmt.Sprintf("example.com/m/@v/v1.0.%d.zip", size), noise(size)
		put(t, straight, name, data)
		for about, f := range map[string]sharedtest.Fault{
			"cut":            {Cut: int64(size) / 2},
			"cut at the end": {Cut: int64(size) - 1},
			"flipped":        {Flip: int64(size) / 2},
		} {
			n := 0
			p.Set(func(r *http.Request) sharedtest.Fault {
				if n++; n == 1 {
					return f
				}
				return sharedtest.Fault{}
			})
			got, err := read(t.Context(), s, name)
			// Before a byte has come it may have been asked for again.
			if err == nil && !bytes.Equal(got, data) || err != nil && len(got) >= size || errors.Is(err, cache.ErrCorrupt) || size > 1000 && err == nil {
				t.Errorf("%s: read %d of %d bytes, %v", about, len(got), size, err)
			}
			p.Always(sharedtest.Fault{})
			if got, err := read(t.Context(), s, name); err != nil || !bytes.Equal(got, data) {
				t.Errorf("after %s: %d bytes, %v", about, len(got), err)
			}
		}
	}
}

// A slow body is read; one that has come to a halt is not waited for.
func TestSlowAndStalled(t *testing.T) {
	s, straight, p, _ := behindFor(t, 2*time.Second)
	data := noise(2 << 20)
	put(t, straight, zip, data)
	p.Always(sharedtest.Fault{Pause: 10 * time.Millisecond}) // 1.3 s in all
	if got, err := read(t.Context(), s, zip); err != nil || !bytes.Equal(got, data) {
		t.Errorf("slow: %d bytes, %v", len(got), err)
	}
	p.Always(sharedtest.Fault{Pause: 6 * time.Second})
	begin := time.Now()
	if _, err := read(t.Context(), s, zip); err == nil || time.Since(begin) > 5500*time.Millisecond {
		t.Errorf("stalled: %v after %v", err, time.Since(begin))
	}
}

// uploads counts the parts of unfinished uploads on the disk of the server.
func uploads(dir string) (n int) {
	_ = filepath.WalkDir(filepath.Dir(filepath.Dir(dir)), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(path, ".sgwtmp") {
			n++
		}
		return nil
	})
	return n
}

func TestFailedUploadLeavesNothing(t *testing.T) {
	s, straight, p, dir := behindFor(t, patient)
	data := noise(12 << 20)
	for about, match := range map[string]string{"a part": "partNumber=3", "the end": "complete"} {
		p.Set(func(r *http.Request) sharedtest.Fault {
			end := match == "complete" && r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
			if strings.Contains(r.URL.RawQuery, match) || end {
				return sharedtest.Fault{Status: http.StatusBadRequest}
			}
			return sharedtest.Fault{}
		})
		if err := s.Put(t.Context(), zip, bytes.NewReader(data), cache.PutOptions{}); err == nil {
			t.Errorf("%s failed, and Put did not", about)
		}
		if n := uploads(dir); n > 0 {
			t.Errorf("after %s failed %d files of the upload are left", about, n)
		}
		if _, err := read(t.Context(), straight, zip); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read: %v", err)
		}
	}
}

// A storage that refuses a write before it has read the body may close the
// connection, and the refusal is lost: the object that is there decides.
func TestRefusalLostWithTheConnection(t *testing.T) {
	server := sharedtest.NewS3(t)
	c := config(server)
	straight := open(t, c)
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var meanwhile func() // what another replica does while a body is sent
	pass := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut {
			pass.ServeHTTP(w, r)
			return
		}
		meanwhile()
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset
		_ = conn.Close()
	}))
	defer front.Close()
	c.Endpoint = front.URL
	s := open(t, c)

	for _, size := range []int{1000, 3 << 20} {
		name, data := fmt.Sprintf("example.com/m/@v/v1.0.%d.zip", size), noise(size)
		meanwhile = func() { put(t, straight, name, data) }
		if err := s.Put(t.Context(), name, bytes.NewReader(data), cache.PutOptions{}); err != nil {
			t.Errorf("%d bytes that another has put meanwhile: %v", size, err)
		}
		other := fmt.Sprintf("example.com/m/@v/v1.1.%d.zip", size)
		meanwhile = func() { put(t, straight, other, noise(size-1)) }
		if err := s.Put(t.Context(), other, bytes.NewReader(data), cache.PutOptions{}); !errors.Is(err, cache.ErrConflict) {
			t.Errorf("%d bytes where another has put others: %v, want ErrConflict", size, err)
		}
	}
	meanwhile = func() {}
	if err := s.Put(t.Context(), zip, bytes.NewReader(noise(3<<20)), cache.PutOptions{}); err == nil || errors.Is(err, cache.ErrConflict) {
		t.Errorf("nothing is there, and nothing arrives: %v", err)
	}
}

// What a replica that died has begun is removed by the others.
func TestSweepRemovesAbandonedUploads(t *testing.T) {
	s, straight, p, dir := behindFor(t, patient)
	p.Set(func(r *http.Request) sharedtest.Fault {
		if r.Method == http.MethodDelete || strings.Contains(r.URL.RawQuery, "partNumber=2") {
			return sharedtest.Fault{Status: http.StatusBadRequest}
		}
		return sharedtest.Fault{}
	})
	if err := s.Put(t.Context(), zip, bytes.NewReader(noise(12<<20)), cache.PutOptions{}); err == nil {
		t.Fatal("Put succeeded")
	}
	if uploads(dir) == 0 {
		t.Skip("the server keeps unfinished uploads elsewhere")
	}
	straight.Sweep(t.Context(), time.Hour)
	if uploads(dir) == 0 {
		t.Error("an upload of a moment ago was removed")
	}
	straight.Sweep(t.Context(), 0)
	if n := uploads(dir); n > 0 {
		t.Errorf("%d files are left", n)
	}
}

func TestServerKilledAndBack(t *testing.T) {
	server := sharedtest.NewS3(t)
	s := open(t, config(server))
	put(t, s, zip, []byte("zip"))
	server.Kill()
	if _, err := read(t.Context(), s, zip); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	server.Restart()
	await(t, func() error { _, err := read(t.Context(), s, zip); return err })
	if _, err := os.Stat(server.Dir); err != nil {
		t.Error(err)
	}
}
