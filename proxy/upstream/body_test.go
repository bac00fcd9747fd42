package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
)

// download opens the zip of m and reads it.
func download(t *testing.T, c *Chain, m *proxytest.Module) ([]byte, error) {
	t.Helper()
	body, size, err := c.Open(t.Context(), m.Version, "zip")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if size >= 0 && size != int64(len(m.Zip)) {
		t.Errorf("size %d, want %d", size, len(m.Zip))
	}
	return io.ReadAll(body)
}

const cut = 100_000 // where the bodies of these tests break

// resumeCase is one way to break a body.
type resumeCase struct {
	name     string
	fault    proxytest.Fault
	whole    bool
	requests int
	ranges   string // offset of the last request
}

// firstThen lets first answer the first request and then all others.
func firstThen(first, then proxytest.Fault) proxytest.Fault {
	return func(x proxytest.Exchange) {
		if x.N == 1 {
			first(x)
			return
		}
		then(x)
	}
}

func honest(x proxytest.Exchange) { x.Honest.ServeHTTP(x.W, x.R) }

// changing is f with a header that is not the server's.
func changing(change func(http.Header), f proxytest.Fault) proxytest.Fault {
	return func(x proxytest.Exchange) {
		server := x.Honest
		x.Honest = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			server.ServeHTTP(&headerChanger{w, change}, r)
		})
		f(x)
	}
}

func noTag(h http.Header)    { h.Del("ETag") }
func weakTag(h http.Header)  { h.Set("ETag", `W/"x"`) }
func otherTag(h http.Header) { h.Set("ETag", `"other"`) }

// modified replaces the ETag by a date that lies so far back.
func modified(ago time.Duration) func(http.Header) {
	return func(h http.Header) {
		h.Del("ETag")
		h.Set("Last-Modified", time.Now().Add(-ago).UTC().Format(http.TimeFormat))
	}
}

// A body is resumed where the rest can be proven to belong to it.
func TestResume(t *testing.T) {
	t.Parallel()
	reset := proxytest.Reset(cut)
	for _, c := range []resumeCase{
		{"reset", firstThen(reset, honest), true, 2, "bytes=100000-"},
		{"reset twice", firstThen(reset, func(x proxytest.Exchange) {
			if x.N == 2 {
				reset(x)
				return
			}
			honest(x)
		}), true, 3, "bytes=200000-"},
		{"stall", firstThen(proxytest.Stall(cut), honest), true, 2, "bytes=100000-"},
		{"busy meanwhile", firstThen(reset, func(x proxytest.Exchange) {
			if x.N == 2 {
				proxytest.Status(503, "no")(x)
				return
			}
			honest(x)
		}), true, 3, "bytes=100000-"},
		{"old date", func(x proxytest.Exchange) {
			x.R.Header.Del("If-Range") // the server knows no date
			changing(modified(time.Hour), firstThen(reset, honest))(x)
		}, true, 2, "bytes=100000-"},
		{"no ranges but the same tag", firstThen(reset, proxytest.NoRange()), true, 2, "bytes=100000-"},
	} {
		t.Run(c.name, func(t *testing.T) { testResume(t, c) })
	}
}

// It fails where the rest may be that of another file.
func TestNoResume(t *testing.T) {
	t.Parallel()
	reset := proxytest.Reset(cut)
	for _, c := range []resumeCase{
		{"never whole", proxytest.Reset(10), false, 3, ""},
		{"no validator", changing(noTag, firstThen(reset, honest)), false, 1, ""},
		{"weak validator", changing(weakTag, firstThen(reset, honest)), false, 1, ""},
		{"date that proves nothing", changing(modified(0), firstThen(reset, honest)), false, 1, ""},
		{"changed meanwhile", firstThen(reset, changing(otherTag, proxytest.NoRange())), false, 2, ""},
		{"without a tag the second time", firstThen(reset, changing(noTag, proxytest.NoRange())), false, 2, ""},
		{"changed under the same range", firstThen(reset, func(x proxytest.Exchange) {
			x.R.Header.Del("If-Range")
			changing(otherTag, honest)(x)
		}), false, 2, ""},
		{"another range than asked for", firstThen(reset, func(x proxytest.Exchange) {
			x.R.Header.Set("Range", "bytes=5-")
			honest(x)
		}), false, 2, ""},
		{"gone meanwhile", firstThen(reset, proxytest.Status(404, "no")), false, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) { testResume(t, c) })
	}
}

func testResume(t *testing.T, c resumeCase) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/big", "v1.0.0", 300<<10)
	s := proxytest.New(t, m)
	path := proxytest.Path(t, m.Version, "zip")
	s.SetFault(path, c.fault)
	data, err := download(t, newChain(t, impatient(s.URL)), m)
	if whole := err == nil && bytes.Equal(data, m.Zip); whole != c.whole || !whole && err == nil {
		t.Errorf("read %d of %d bytes, %v", len(data), len(m.Zip), err)
	}
	if !bytes.HasPrefix(m.Zip, data) {
		t.Error("the bytes that did come are wrong")
	}
	if err != nil && verdict(err) != "trouble" {
		t.Errorf("%v is not trouble but %s", err, verdict(err))
	}
	if n := s.Count(path); n != c.requests {
		t.Errorf("%d requests, want %d", n, c.requests)
	}
	if reqs := s.Requests(); c.ranges != "" && reqs[len(reqs)-1].Header.Get("Range") != c.ranges {
		t.Errorf("last request: %v", reqs[len(reqs)-1].Header)
	}
}

type headerChanger struct {
	http.ResponseWriter
	change func(http.Header)
}

func (w *headerChanger) WriteHeader(code int) {
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.change(w.Header())
	w.ResponseWriter.WriteHeader(code)
}

// A flaky line that always makes progress gets the file in the end, however
// often it breaks.
func TestResumeAsLongAsThereIsProgress(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/big", "v1.0.0", 4<<20)
	s := proxytest.New(t, m)
	s.SetFault("*", func(x proxytest.Exchange) { proxytest.Reset(enoughProgress + 1000)(x) })
	data, err := download(t, newChain(t, local(s.URL)), m)
	if err != nil || !bytes.Equal(data, m.Zip) {
		t.Errorf("read %d bytes, %v", len(data), err)
	}
	if n := len(s.Requests()); n < 4 {
		t.Errorf("%d requests", n)
	}
}

// A chunked body has no size; its clean early end cannot be seen here, but is
// not claimed to be whole either.
func TestUnknownLength(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/big", "v1.0.0", 100<<10)
	s := proxytest.New(t, m)
	s.SetFault("*", proxytest.Short(50_000))
	body, size, err := newChain(t, local(s.URL)).Open(t.Context(), m.Version, "zip")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if data, err := io.ReadAll(body); size != -1 || err != nil || len(data) != 50_000 {
		t.Errorf("size %d, read %d, %v", size, len(data), err)
	}
}

// Endless answers are cut at their limit, and the error names limit, upstream
// and file.
func TestEndless(t *testing.T) {
	t.Parallel()
	s := proxytest.New(t)
	c := newChain(t, local(s.URL))
	mv := module.Version{Path: "example.com/a", Version: "v1.0.0"}
	for _, e := range []struct {
		name, prefix string
		limit        int
		ask          func() error
	}{
		{"info", `{"Version":"v1.0.0","x":"`, maxInfo, func() error { _, err := c.Info(t.Context(), mv.Path, mv.Version); return err }},
		{"list", "v1.0.0\n", maxList, func() error { _, err := c.List(t.Context(), mv.Path); return err }},
		{"mod", "module x\n", maxMod, func() error { return drain(c.Open(t.Context(), mv, "mod")) }},
		{"sumdb", "", maxSumDB, func() error { _, err := c.SumDB(t.Context(), "sum.test", "/latest"); return err }},
	} {
		s.SumDB("sum.test", nil)
		s.SetFault("*", proxytest.Endless("text/plain", e.prefix, "v1.0.0\n"))
		s.SetFault("/sumdb/sum.test/supported", proxytest.Bytes("text/plain", nil))
		s.Forget()
		err := asError(t, e.ask())
		for _, part := range []string{fmt.Sprint(e.limit), strings.TrimPrefix(s.URL, "http://")} {
			if !strings.Contains(err.Public(), part) {
				t.Errorf("%s: %q does not name %s", e.name, err.Public(), part)
			}
		}
		if verdict(err) != "trouble" || len(s.Requests()) > 2 {
			t.Errorf("%s: %v after %d requests", e.name, err, len(s.Requests()))
		}
	}
}

func drain(body io.ReadCloser, _ int64, err error) error {
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return err
}

// A size above the limit is refused before the first byte.
func TestAnnouncedTooLarge(t *testing.T) {
	t.Parallel()
	s := proxytest.New(t)
	c := newChain(t, local(s.URL))
	s.SetFault("*", func(x proxytest.Exchange) {
		x.W.Header().Set("Content-Length", fmt.Sprint(maxZip+1))
		_, _ = io.WriteString(x.W, "PK\x03\x04")
	})
	_, _, err := c.Open(t.Context(), module.Version{Path: "example.com/a", Version: "v1.0.0"}, "zip")
	if e := asError(t, err); !strings.Contains(e.Public(), fmt.Sprint(maxZip)) || !strings.Contains(e.Public(), "example.com/a") {
		t.Errorf("got %v", err)
	}
}

// A consumer that takes its time is not a stall of the upstream.
func TestSlowConsumer(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/big", "v1.0.0", 100<<10)
	s := proxytest.New(t, m)
	cfg := local(s.URL)
	cfg.NoProgress = 60 * time.Millisecond
	body, _, err := newChain(t, cfg).Open(t.Context(), m.Version, "zip")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	var got []byte
	buf := make([]byte, 40<<10)
	for err == nil {
		var n int
		n, err = body.Read(buf)
		got = append(got, buf[:n]...)
		<-time.After(150 * time.Millisecond) // real time: the other end is a real server
	}
	if err != io.EOF || !bytes.Equal(got, m.Zip) || s.Count(proxytest.Path(t, m.Version, "zip")) != 1 {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

// Close ends a Read that waits, from another goroutine.
func TestCloseWhileReading(t *testing.T) {
	t.Parallel()
	m := proxytest.Big(t, "example.com/big", "v1.0.0", 100<<10)
	s := proxytest.New(t, m)
	s.SetFault("*", proxytest.Stall(50_000))
	cfg := local(s.URL)
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
	<-time.After(50 * time.Millisecond)
	if err := errors.Join(body.Close(), body.Close()); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil || errors.Is(err, fs.ErrNotExist) || !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v", err)
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("a closed body was resumed: %d requests", n)
	}
}

func TestContentRange(t *testing.T) {
	t.Parallel()
	for v, want := range map[string][2]int64{
		"bytes 5-9/10": {5, 10}, "bytes 5-9/*": {5, -1}, "bytes 0-0/1": {0, 1},
		"": {-1, -1}, "bytes */10": {-1, -1}, "items 5-9/10": {-1, -1}, "bytes x-9/10": {-1, -1}, "bytes 5-9": {-1, -1},
	} {
		if from, total := contentRange(v); from != want[0] || total != want[1] {
			t.Errorf("%q: %d, %d", v, from, total)
		}
	}
}
