package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/proxy/proxytest"
)

// The go command fetches a zip from the bucket, without the replica, and it is
// the right one.
func TestRedirectToBucket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bucket := sharedtest.NewS3(t)
	front := sharedtest.NewProxy(t, bucket.Endpoint)
	m := proxytest.Big(t, "example.com/big", "v1.0.0", 2<<20)
	w.log.Add(m.Version, m.H1, m.ModH1)
	w.upstream.Add(t, m)
	flags := []string{"--cache-s3-bucket=" + bucket.Bucket, "--cache-s3-endpoint=" + front.URL, "--cache-s3-path-style=on", "--cache-s3-redirect=on",
		"--cache-s3-access-key=" + bucket.AccessKey, "--cache-s3-secret-key=" + bucket.SecretKey}
	i := w.start(t, flags...)
	download := func(about string) {
		t.Helper()
		home := t.TempDir()
		cmd := exec.Command("go", "mod", "download", "-x", m.Version.String())
		cmd.Dir = home
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GOMODCACHE=" + home + "/mod", "GOFLAGS=-modcacherw",
			"GOPROXY=" + i.url, "GOSUMDB=" + w.log.Key(), "GOTOOLCHAIN=local"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", about, err, out)
		}
	}
	path := proxytest.Path(t, m.Version, "zip")
	download("cold")
	awaitBucket(t, front, "GET /"+bucket.Bucket+path, func() { download("from the bucket") })

	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(i.url + path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	where := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusFound || !strings.HasPrefix(where, front.URL) || !strings.Contains(where, "X-Amz-Expires=300") || strings.Contains(where, bucket.SecretKey) {
		t.Errorf("%s, Location %s", resp.Status, where)
	}
	if code, body := get(t, where); code != 200 || !bytes.Equal([]byte(body), m.Zip) {
		t.Errorf("from there: %d, %d bytes", code, len(body))
	}
	if strings.Contains(i.log(), "X-Amz-Signature") {
		t.Error("the log has a URL that opens the bucket")
	}
	front.Requests()
	const hits = 200
	begin := time.Now()
	for range hits {
		resp, err := client.Get(i.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusFound {
			t.Fatalf("%s", resp.Status)
		}
	}
	took := time.Since(begin)
	if n := len(front.Requests()); n > 1+int(took/time.Second) {
		t.Errorf("%d hits within %v cost %d requests to the bucket", hits, took, n)
	}
	// A bucket in trouble sends nobody anywhere, a second later.
	front.Always(sharedtest.Fault{Status: 503})
	until(t, "the replica answers itself", func() bool {
		resp, err := client.Get(i.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(body, m.Zip) {
			t.Errorf("without the bucket: %d bytes, %v", len(body), err)
		}
		return true
	})
	front.Always(sharedtest.Fault{})
	until(t, "the bucket is found well", func() bool {
		resp, err := client.Get(i.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusFound
	})
	if status, text := post(t, i.admin+"/-/purge?module="+m.Version.Path, ""); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if code, body := get(t, i.url+path); code != 200 || !bytes.Equal([]byte(body), m.Zip) {
		t.Errorf("after a purge: %d, %d bytes", code, len(body))
	}
}

// awaitBucket does something until the bucket sees a request.
func awaitBucket(t *testing.T, front *sharedtest.Proxy, want string, do func()) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		front.Requests()
		do()
		seen := front.Requests()
		for _, r := range seen {
			if r == want {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the bucket saw %q, want %s", seen, want)
		}
	}
}
