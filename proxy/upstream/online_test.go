package upstream

import (
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/module"
)

// TestOnline asks Go's public mirror. MODGATE_TEST_ONLINE=1 turns it on;
// MODGATE_TEST_UPSTREAM names another GOPROXY server to ask.
func TestOnline(t *testing.T) {
	if os.Getenv("MODGATE_TEST_ONLINE") != "1" {
		t.Skip("MODGATE_TEST_ONLINE is not 1")
	}
	list := os.Getenv("MODGATE_TEST_UPSTREAM")
	if list == "" {
		list = "https://proxy.golang.org"
	}
	c := newChain(t, Config{List: list, Proxy: http.ProxyFromEnvironment, Dial: new(net.Dialer).DialContext})
	m := module.Version{Path: "golang.org/x/text", Version: "v0.20.0"}
	ctx := t.Context()

	if _, err := c.Info(ctx, m.Path, m.Version); err != nil {
		t.Error(err)
	}
	if _, err := c.Info(ctx, m.Path, "latest"); verdict(err) != "ok" && verdict(err) != "absent" { // mirrors may not have it
		t.Error(err)
	}
	if versions, err := c.List(ctx, m.Path); err != nil || len(versions) < 20 {
		t.Errorf("List: %d versions, %v", len(versions), err)
	}
	for _, kind := range []string{"mod", "zip"} {
		body, size, err := c.Open(ctx, m, kind)
		if err != nil {
			t.Error(err)
			continue
		}
		h := sha256.New()
		n, err := io.Copy(h, body)
		if err != nil || size >= 0 && n != size || n == 0 {
			t.Errorf("%s: %d of %d bytes, %v", kind, n, size, err)
		}
		t.Logf("%s: size %d, sha256 %x, resumable %v", kind, size, h.Sum(nil), body.(interface{ resumable() bool }).resumable())
		body.Close()
	}
	if _, err := c.Info(ctx, m.Path, "v0.999.0"); verdict(err) != "absent" && verdict(err) != "refused" { // some mirrors refuse
		t.Errorf("absent version: %v", err)
	}
	data, err := c.SumDB(ctx, "sum.golang.org", "/lookup/golang.org/x/text@v0.20.0")
	if err != nil || !strings.Contains(string(data), "golang.org/x/text v0.20.0 h1:") {
		t.Errorf("SumDB: %q, %v", data, err)
	}
}
