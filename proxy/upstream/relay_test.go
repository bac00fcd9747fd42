package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
)

// A download that breaks at one upstream goes on at the next, where the list
// allows that and the next has the same bytes.
func TestRelay(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/big", "v1.0.0", 300<<10)
	other := bytes.Clone(m.Zip)
	other[cut/2] ^= 1
	zip := func(data []byte) proxytest.Fault { return proxytest.Bytes("application/zip", data) }
	dies := firstThen(proxytest.Reset(cut), proxytest.Reset(0))
	for name, c := range map[string]struct {
		sep    string
		faults []proxytest.Fault
		whole  bool
		origin int // index of the last sender
		asked  int // requests to the last
	}{
		"the first is gone":              {"|", []proxytest.Fault{dies, honest}, true, 1, 1},
		"the first is busy":              {"|", []proxytest.Fault{firstThen(proxytest.Reset(cut), proxytest.Status(503, "no")), honest}, true, 1, 1},
		"the first comes back":           {"|", []proxytest.Fault{firstThen(proxytest.Reset(cut), honest), honest}, true, 0, 0},
		"two die":                        {"|", []proxytest.Fault{dies, dies, honest}, true, 2, 1},
		"the second has none":            {"|", []proxytest.Fault{dies, proxytest.Status(404, "no"), honest}, true, 2, 1},
		"the second has another":         {"|", []proxytest.Fault{dies, zip(other), honest}, true, 2, 1},
		"the second has a longer one":    {"|", []proxytest.Fault{dies, zip(append(other, 0)), honest}, true, 2, 1},
		"nobody has the same":            {"|", []proxytest.Fault{dies, zip(other)}, false, 0, 1},
		"all die":                        {"|", []proxytest.Fault{dies, dies}, false, 1, 3},
		"errors do not lead to the next": {",", []proxytest.Fault{dies, honest}, false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var urls []string
			var servers []*proxytest.Server
			for _, f := range c.faults {
				s := proxytest.New(t, m)
				s.SetFault("*", f)
				servers, urls = append(servers, s), append(urls, s.URL)
			}
			chain := newChain(t, impatient(strings.Join(urls, c.sep)))
			body, _, err := chain.Open(t.Context(), m.Version, "zip")
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			data, err := io.ReadAll(body)
			if whole := err == nil && bytes.Equal(data, m.Zip); whole != c.whole {
				t.Errorf("read %d of %d bytes, %v", len(data), len(m.Zip), err)
			}
			if !bytes.HasPrefix(m.Zip, data) {
				t.Error("the bytes that did come are wrong")
			}
			if err != nil && verdict(err) != "trouble" {
				t.Errorf("%v is not trouble but %s", err, verdict(err))
			}
			if got, want := body.(interface{ Origin() string }).Origin(), chain.entries[c.origin].name(); got != want {
				t.Errorf("the bytes come from %s, want %s", got, want)
			}
			if n := len(servers[len(servers)-1].Requests()); n != c.asked {
				t.Errorf("the last was asked %d times, want %d", n, c.asked)
			}
		})
	}
}

// Close ends a Read that compares what another upstream has.
func TestCloseWhileComparing(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/big", "v1.0.0", 300<<10)
	s1, s2 := proxytest.New(t, m), proxytest.New(t, m)
	s1.SetFault("*", firstThen(proxytest.Reset(cut), proxytest.Reset(0)))
	s2.SetFault("*", proxytest.Stall(cut/2))
	cfg := impatient(s1.URL + "|" + s2.URL)
	cfg.NoProgress = time.Minute
	body, _, err := newChain(t, cfg).Open(t.Context(), m.Version, "zip")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, body)
		done <- err
	}()
	for len(s2.Requests()) == 0 {
		<-time.After(time.Millisecond)
	}
	<-time.After(20 * time.Millisecond)
	if err := errors.Join(body.Close(), body.Close()); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil || errors.Is(err, context.Canceled) && verdict(err) != "trouble" {
		t.Errorf("Read: %v", err)
	}
	if n := len(s2.Requests()); n != 1 {
		t.Errorf("a closed body was resumed: %d requests", n)
	}
}
