package sumdb_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
	"golang.org/x/mod/module"
)

// public is Go's own checksum database by way of Go's public mirror.
type public struct {
	client   http.Client
	requests atomic.Int64
}

func (p *public) SumDB(ctx context.Context, database, path string) ([]byte, error) {
	p.requests.Add(1)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://proxy.golang.org/sumdb/"+database+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	case http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return nil, fmt.Errorf("%s: %s", path, resp.Status)
}

func TestOnline(t *testing.T) {
	if os.Getenv("MODGATE_TEST_ONLINE") != "1" {
		t.Skip("MODGATE_TEST_ONLINE is not 1")
	}
	remote := new(public)
	defer remote.client.CloseIdleConnections()
	storage := sumdbtest.NewStorage()
	config := sumdb.Config{Name: "sum.golang.org", Remote: remote, Storage: storage, Timeout: 30 * time.Second}
	d, err := sumdb.New(config)
	if err != nil {
		t.Fatal(err)
	}
	known := []struct {
		m        module.Version
		zip, mod string
	}{
		{module.Version{Path: "golang.org/x/text", Version: "v0.20.0"}, "h1:gK/Kv2otX8gz+wn7Rmb3vT96ZwuoxnQlY+HlJVj7Qug=", "h1:D4IsuqiFMhST5bX19pQ9ikHC2GsaKyk/oF+pn3ducp4="},
		{module.Version{Path: "github.com/BurntSushi/toml", Version: "v1.4.0"}, "h1:kuoIxZQy2WRRk1pttg9asf+WVv6tWQuBNVmK8+nqPr0=", "h1:ukJfTF/6rtPPRCnwkur4qwRxa8vTRFBF0uk2lLoLwho="},
		{module.Version{Path: "github.com/google/uuid", Version: "v1.6.0"}, "h1:NIvaJDMOsjHA8n1jAhLSgzrAzy1Hgr+hNrb57e+94F0=", "h1:TIyPZe4MgqvfeYDBFedMoGGpEw/LqOeaOT+nhxU+yHo="},
		{module.Version{Path: "gopkg.in/yaml.v3", Version: "v3.0.1"}, "h1:fxVm/GzAzEWqLHuvctI91KS9hhNmmWOoWu0XTYJS7CA=", "h1:K4uyk7z7BCEPqu6E+C64Yfv1cQ7kz7rIZviUmN+EgEM="},
	}
	var wg sync.WaitGroup
	for _, k := range known {
		wg.Go(func() {
			for kind, hash := range map[string]string{"zip": k.zip, "mod": k.mod} {
				if err := d.Verify(t.Context(), k.m, kind, hash); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d requests for %d modules, %d bytes stored in %d files", remote.requests.Load(), len(known), storage.Bytes(), len(storage.Names("")))

	absent := module.Version{Path: "golang.org/x/text", Version: "v0.20.9999"}
	if err := d.Verify(t.Context(), absent, "zip", known[0].zip); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v, want fs.ErrNotExist", absent, err)
	}

	remote.requests.Store(0)
	if d, err = sumdb.New(config); err != nil {
		t.Fatal(err)
	}
	for _, k := range known {
		if err := d.Verify(t.Context(), k.m, "zip", k.zip); err != nil {
			t.Error(err)
		}
	}
	if n := remote.requests.Load(); n != 0 {
		t.Errorf("%d requests after a restart", n)
	}
}
