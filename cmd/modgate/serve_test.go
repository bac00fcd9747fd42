package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serving is a service in this process with a handler of the test's choice.
type serving struct {
	public, admin string
	log           *lockedBuffer
	end           context.CancelFunc // as the first signal does
	ended         chan error
}

func startService(t *testing.T, drain Drain, handler http.HandlerFunc, background ...func(context.Context) error) *serving {
	t.Helper()
	s := &serving{log: new(lockedBuffer), ended: make(chan error, 1)}
	cfg := &settings{Config: Config{Listen: "127.0.0.1:0", Admin: Admin{"127.0.0.1:0"}, Drain: drain}}
	log, sink := newLog(s.log, Log{Format: "text"})
	h := new(health)
	v := &service{settings: cfg, log: log, sink: sink, health: h, app: &app{handler: handler, background: background}}
	ctx, cancel := context.WithCancel(t.Context())
	if err := v.listen(ctx, newRegistry(h)); err != nil {
		t.Fatal(err)
	}
	s.public, s.admin, s.end = "http://"+v.publicAddr.Addr().String(), "http://"+v.privateAddr.Addr().String(), cancel
	go func() { s.ended <- v.run(ctx) }()
	t.Cleanup(func() { cancel(); s.wait(t) })
	return s
}

// wait waits for the end and returns its error; again and again, if asked.
func (s *serving) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		s.ended <- err
		return err
	case <-time.After(30 * time.Second):
		t.Fatalf("the service does not end:\n%s", s.log)
		return nil
	}
}

// until waits until the condition holds.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !condition(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// halves is a handler whose answer to /slow stops in the middle until release
// is closed.
func halves(release <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "8")
		io.WriteString(w, "half")
		if r.URL.Path == "/slow" {
			http.NewResponseController(w).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
				return
			}
		}
		io.WriteString(w, "half")
	}
}

func TestDrainFinishesWhatIsInProgress(t *testing.T) {
	release := make(chan struct{})
	s := startService(t, Drain{Delay: Duration(time.Second), Timeout: Duration(20 * time.Second)}, halves(release))
	slow, err := http.Get(s.public + "/slow")
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Body.Close()
	if code, _ := get(t, s.public+"/readyz"); code != 200 {
		t.Errorf("/readyz: %d before the end", code)
	}
	s.end()
	until(t, "/readyz turns 503", func() bool { code, _ := get(t, s.admin+"/readyz"); return code == 503 })
	if code, text := get(t, s.public+"/readyz"); code != 503 || !strings.Contains(text, "draining") {
		t.Errorf("/readyz of the public listener: %d %q", code, text)
	}
	if code, _ := get(t, s.public+"/healthz"); code != 200 {
		t.Errorf("/healthz: %d while draining", code)
	}
	resp, err := http.Get(s.public + "/other")
	if err != nil {
		t.Fatalf("a request during drain.delay: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "halfhalf" || !resp.Close {
		t.Errorf("during drain.delay: %q, %v, connection closed: %t", body, err, resp.Close)
	}
	until(t, "the listener closes", func() bool { return closed(s.public) })
	select {
	case err := <-s.ended:
		t.Fatalf("ended with an answer in progress: %v", err)
	default:
	}
	if code, _ := get(t, s.admin+"/healthz"); code != 200 {
		t.Errorf("the admin listener is gone before the end")
	}
	close(release)
	if body, err := io.ReadAll(slow.Body); err != nil || string(body) != "halfhalf" {
		t.Errorf("the answer in progress: %q, %v", body, err)
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
	if log := s.log.String(); strings.Contains(log, "cut") || !strings.Contains(log, "msg=ended") {
		t.Error(log)
	}
}

// closed reports whether connections to a URL are refused.
func closed(url string) bool {
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err == nil {
		c.Close()
	}
	return err != nil
}

// TestDrainAnswersWhoHasConnected: nobody repeats a first request on a connection.
func TestDrainAnswersWhoHasConnected(t *testing.T) {
	s := startService(t, Drain{Timeout: Duration(20 * time.Second)}, halves(nil))
	var clients []net.Conn
	for range 20 {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		clients = append(clients, c)
	}
	s.end()
	until(t, "the listener closes", func() bool { return closed(s.public) })
	for _, c := range clients {
		fmt.Fprintf(c, "GET /fast HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "halfhalf" || !resp.Close {
			t.Errorf("%q, %v, connection closed: %t", body, err, resp.Close)
		}
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

// TestDrainBreaksNothing asks on new connections, and on used ones, until they are
// refused.
func TestDrainBreaksNothing(t *testing.T) {
	s := startService(t, Drain{Timeout: Duration(20 * time.Second)}, halves(nil))
	var asked atomic.Int64
	var clients sync.WaitGroup
	for i := range 8 {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
		defer client.CloseIdleConnections()
		clients.Go(func() {
			for {
				_, text, err := fetch(t.Context(), client, s.public+"/fast")
				var op *net.OpError
				if errors.As(err, &op) && op.Op == "dial" {
					return
				}
				if err != nil || string(text) != "halfhalf" {
					t.Errorf("%q, %v", text, err)
				}
				asked.Add(1)
			}
		})
	}
	until(t, "there is load", func() bool { return asked.Load() > 200 })
	s.end()
	clients.Wait()
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

func TestDrainCutsWhatDoesNotEnd(t *testing.T) {
	s := startService(t, Drain{Timeout: Duration(100 * time.Millisecond)}, halves(nil))
	slow, err := http.Get(s.public + "/slow")
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Body.Close()
	s.end()
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
	if body, err := io.ReadAll(slow.Body); err == nil {
		t.Errorf("a body that was cut looks whole: %q", body)
	}
	if !strings.Contains(s.log.String(), "answers in progress were cut") {
		t.Error(s.log)
	}
}

func TestPartThatFailsEndsTheService(t *testing.T) {
	broken := errors.New("broken part")
	fail := make(chan struct{})
	otherEnded := false
	s := startService(t, Drain{Delay: Duration(time.Hour), Timeout: Duration(time.Second)}, halves(nil),
		func(context.Context) error { <-fail; return broken },
		func(ctx context.Context) error { <-ctx.Done(); otherEnded = true; return nil })
	close(fail)
	if err := s.wait(t); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if !otherEnded {
		t.Error("the other part was not waited for")
	}
}

func TestBackgroundOutlivesRequests(t *testing.T) {
	release := make(chan struct{})
	var ended sync.WaitGroup
	ended.Add(1)
	done := false
	s := startService(t, Drain{Timeout: Duration(20 * time.Second)}, halves(release), func(ctx context.Context) error {
		<-ctx.Done()
		done = true
		ended.Done()
		return nil
	})
	slow, err := http.Get(s.public + "/slow")
	if err != nil {
		t.Fatal(err)
	}
	s.end()
	until(t, "the drain begins", func() bool { return strings.Contains(s.log.String(), "draining") })
	if done {
		t.Error("background work ends while an answer needs it")
	}
	close(release)
	io.Copy(io.Discard, slow.Body)
	slow.Body.Close()
	ended.Wait()
}

// TestBodyCannotHoldAConnection sends a request that announces a body and
// never sends it.
func TestBodyCannotHoldAConnection(t *testing.T) {
	h := boundBody(100*time.Millisecond, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	server := &http.Server{Handler: h}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	defer server.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nfew")
	if data, err := io.ReadAll(c); err != nil {
		t.Errorf("the connection stays open: %q, %v", data, err)
	}
}

func TestLimitsOfRequests(t *testing.T) {
	s := startService(t, Drain{}, halves(nil))
	c, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 64 KiB: %v, %v", resp, err)
	}
}

func TestRequestMetrics(t *testing.T) {
	m := newRequestMetrics([]string{"mod", "zip"})
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(m.Collectors()...)
	before := series(t, r)
	if want := 3 * 11; before["modgate_requests_total"] != want {
		t.Errorf("%d series of modgate_requests_total at the start, want %d", before["modgate_requests_total"], want)
	}
	observed(m)
	if after := series(t, r); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("requests make series: %v, before %v", after, before)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	w := newWorld(t)
	i, err := launch(nil, t.TempDir(), append(w.flags(), "--drain-delay=1h")...)
	if err != nil {
		t.Fatal(err)
	}
	i.cmd.Process.Signal(syscall.SIGHUP)
	until(t, "SIGHUP is noted", func() bool { return strings.Contains(i.log(), "SIGHUP changes nothing") })
	i.cmd.Process.Signal(syscall.SIGTERM)
	until(t, "the drain begins", func() bool { return strings.Contains(i.log(), "msg=draining") })
	i.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-i.ended:
	case <-time.After(10 * time.Second):
		i.cmd.Process.Kill()
		t.Error("the second signal is ignored")
	}
}
