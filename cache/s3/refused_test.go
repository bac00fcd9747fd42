package s3_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/s3"
	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/internal/breaker"
)

// refusing is a storage that answers everything in one way.
func refusing(t *testing.T, status int, body string) (*s3.Store, *int) {
	t.Helper()
	asked := new(int)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	s, err := s3.New(t.Context(), s3.Config{
		Bucket: "b", Endpoint: server.URL, PathStyle: true, AccessKey: "k", SecretKey: "s", Timeout: patient,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, asked
}

// An answer that has to do with the configuration is trouble, whatever its
// status, and is told in short: never an absence, or the bucket would stay empty
// and nobody would know why.
func TestWrongAnswersAreTrouble(t *testing.T) {
	code := func(code string) string {
		return "<Error><Code>" + code + "</Code><Message>what is wrong</Message><RequestId>id</RequestId></Error>"
	}
	for _, c := range []struct {
		status int
		body   string
		want   string
	}{
		{404, code("InvalidAccessKeyId"), "GetObject: InvalidAccessKeyId: what is wrong (status 404)"}, // versitygw
		{404, code("NoSuchBucket"), "GetObject: NoSuchBucket: what is wrong (status 404)"},
		{404, "<html><head><meta></head>no such page</html>", "GetObject: status 404, and no answer of an S3 storage"},
		{400, code("InvalidBucketName"), "GetObject: InvalidBucketName: what is wrong (status 400)"},
		{400, code("ExpiredToken"), "GetObject: ExpiredToken: what is wrong (status 400)"},
		{400, code("AuthorizationHeaderMalformed"), "GetObject: AuthorizationHeaderMalformed: what is wrong (status 400)"},
		{301, code("PermanentRedirect"), "GetObject: PermanentRedirect: what is wrong (status 301)"},
		{401, code("Unauthorized"), "GetObject: Unauthorized: what is wrong (status 401)"},
	} {
		t.Run(fmt.Sprint(c.status, c.body), func(t *testing.T) {
			s, asked := refusing(t, c.status, c.body)
			_, err := read(t.Context(), s, zip)
			if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.HasSuffix(err.Error(), "s3: "+c.want) {
				t.Errorf("read: %v\nwant  %s", err, c.want)
			}
			n := *asked
			if _, err := read(t.Context(), s, zip); !errors.Is(err, breaker.ErrOpen) || *asked != n {
				t.Errorf("read again: %v, %d requests more", err, *asked-n)
			}
			if tr := s.Trouble(); tr == nil || tr.Err.Error() != c.want {
				t.Errorf("trouble: %+v", tr)
			}
			if err := s.Probe(t.Context()); err == nil {
				t.Error("the probe finds nothing wrong")
			}
		})
	}
}

// What is refused of one object says nothing about the others.
func TestRefusalOfOneObject(t *testing.T) {
	s, _ := refusing(t, 400, "<Error><Code>KeyTooLongError</Code><Message>too long</Message></Error>")
	for range 2 {
		if err := s.Put(t.Context(), zip, strings.NewReader("zip"), cache.PutOptions{}); err == nil || errors.Is(err, breaker.ErrOpen) {
			t.Errorf("put: %v", err)
		}
	}
	if tr := s.Trouble(); tr != nil {
		t.Errorf("trouble: %v", tr.Err)
	}
}

// A bucket that may not be changed is read all the same, says so once, and is not
// asked for each object until it may.
func TestReadOnlyBucket(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			testReadOnly(t, status)
		})
	}
}

func testReadOnly(t *testing.T, status int) {
	server := sharedtest.NewS3(t)
	c := config(server)
	put(t, open(t, c), zip, []byte("zip"))
	p := sharedtest.NewProxy(t, server.Endpoint)
	refuse := func(r *http.Request) (f sharedtest.Fault) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			f.Status = status
		}
		return f
	}
	p.Set(refuse)
	var told atomic.Int32
	c.Endpoint, c.Timeout, c.Advice = p.URL, patient, func(error) string { told.Add(1); return "" }
	s := open(t, c)
	const other = "example.com/other/@v/v1.0.0.mod"
	if err := s.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "PutObject: ") {
		t.Errorf("probe: %v", err)
	}
	if err := s.Put(t.Context(), other, strings.NewReader("module"), cache.PutOptions{}); err == nil || errors.Is(err, breaker.ErrOpen) {
		t.Errorf("put: %v", err)
	}
	p.Requests()
	for range 50 {
		if err := s.Put(t.Context(), other, strings.NewReader("module"), cache.PutOptions{}); !errors.Is(err, breaker.ErrOpen) {
			t.Fatalf("put: %v", err)
		}
		if got, err := read(t.Context(), s, zip); err != nil || string(got) != "zip" {
			t.Fatalf("read: %q, %v", got, err)
		}
	}
	writes := 0
	for _, r := range p.Requests() {
		if !strings.HasPrefix(r, "GET ") && !strings.HasSuffix(r, "/.writable") {
			writes++
		}
	}
	if tr := s.Trouble(); writes > 0 || tr == nil || !strings.HasPrefix(tr.Err.Error(), "PutObject: ") {
		t.Errorf("%d writes, trouble %+v", writes, tr)
	}
	p.Always(sharedtest.Fault{})
	await(t, func() error { return s.Put(t.Context(), other, strings.NewReader("module"), cache.PutOptions{}) })
	if n := told.Load(); n != 1 {
		t.Errorf("the trouble was told %d times", n)
	}
}

// Some storages answer a write whose condition does not hold as if it were a read.
func TestConditionAnsweredAsByARead(t *testing.T) {
	s, straight, p, _ := behindFor(t, patient)
	put(t, straight, zip, []byte("zip"))
	p.Set(func(r *http.Request) (f sharedtest.Fault) {
		if r.Method == http.MethodPut {
			f.Status = http.StatusNotModified
		}
		return f
	})
	if err := s.Put(t.Context(), zip, strings.NewReader("zip"), cache.PutOptions{}); err != nil {
		t.Errorf("the same bytes: %v", err)
	}
	if err := s.Put(t.Context(), zip, strings.NewReader("other"), cache.PutOptions{}); !errors.Is(err, cache.ErrConflict) {
		t.Errorf("other bytes: %v", err)
	}
	if tr := s.Trouble(); tr != nil {
		t.Errorf("trouble: %v", tr.Err)
	}
}
