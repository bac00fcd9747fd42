package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// TestScripts runs testdata/script. Each script has a world of its own and can
// say, beside what testscript offers:
//
//	serve [flag...]         start a server; sets $MODGATE, $GOPROXY,
//	                        $ADMIN (URLs) and $ADDR (host:port)
//	halt                    drain it; it must end well
//	http METHOD PATH [header: value...]
//	                        send one request, PATH byte by byte as it stands (in
//	                        Go's syntax if it begins with "); the whole answer
//	                        is stdout. A PATH that begins with @ goes to the
//	                        admin listener.
//	requests FILE           one request on each line of FILE, "STATUS METHOD
//	                        PATH"; all must be answered with their STATUS
//	fault PATH KIND [arg]   let the upstream answer wrongly: status CODE, html,
//	                        reset N, short N, stall N, bytes TEXT, none
//	lie PREFIX KIND [arg]   let the checksum database lie: status CODE, flip BIT,
//	                        replace OLD NEW, none
//	asked N PATH            the upstream was asked N times for PATH since
//	                        the last forget
//	quiet                   the upstream was not asked at all since then
//	forget
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			w := newWorld(t)
			env.Values["world"] = w
			env.Vars = append(env.Vars, goEnv(env.WorkDir, "off", w.log.Key())...)
			env.Setenv("UPSTREAM", w.upstream.URL)
			env.Setenv("SUMDB", w.log.Key())
			env.Setenv("CACHE", filepath.Join(env.WorkDir, "cache"))
			env.Setenv("PATH", os.Getenv("PATH"))
			env.Defer(w.upstream.Close)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": scriptServe, "halt": scriptHalt, "http": scriptHTTP, "requests": scriptRequests,
			"fault": scriptFault, "lie": scriptLie, "asked": scriptAsked, "quiet": scriptQuiet, "forget": scriptForget,
		},
	})
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value("world").(*world) }

// running is the server of a script.
type running struct {
	mu sync.Mutex
	i  *instance // nil: none
}

func scriptServe(ts *testscript.TestScript, neg bool, args []string) {
	i, err := launch(nil, ts.Getenv("CACHE"), append(worldOf(ts).flags(), args...)...)
	if neg {
		if err == nil {
			i.stop()
			ts.Fatalf("modgate serve started")
		}
		fmt.Fprint(ts.Stderr(), err)
		return
	}
	ts.Check(err)
	r := &running{i: i}
	ts.SetCmd("halt", func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(r.halt()) })
	ts.Defer(func() { ts.Check(r.halt()) })
	ts.Setenv("MODGATE", i.url)
	ts.Setenv("ADDR", strings.TrimPrefix(i.url, "http://"))
	ts.Setenv("GOPROXY", i.url)
	ts.Setenv("ADMIN", i.admin)
}

func (r *running) halt() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.i == nil {
		return nil
	}
	i := r.i
	r.i = nil
	return i.stop()
}

func scriptHalt(ts *testscript.TestScript, _ bool, _ []string) { ts.Fatalf("halt: nothing is served") }

func scriptHTTP(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: http METHOD PATH [header: value...]")
	}
	resp, err := send(ts, args[0], args[1], args[2:]...)
	ts.Check(err)
	defer resp.Body.Close()
	fmt.Fprintf(ts.Stdout(), "%s %s\n", resp.Proto, resp.Status)
	resp.Header.Write(ts.Stdout())
	fmt.Fprintln(ts.Stdout())
	if _, err := io.Copy(ts.Stdout(), resp.Body); err != nil {
		fmt.Fprintf(ts.Stdout(), "\nbroken off: %v\n", err)
	}
}

// send sends one request without any of the care that net/http would take of
// the path.
func send(ts *testscript.TestScript, method, path string, headers ...string) (*http.Response, error) {
	server := ts.Getenv("MODGATE")
	if rest, ok := strings.CutPrefix(path, "@"); ok {
		server, path = ts.Getenv("ADMIN"), rest
	}
	if strings.HasPrefix(path, `"`) {
		var err error
		if path, err = strconv.Unquote(path); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", u.Host, 10*time.Second)
	if err != nil {
		return nil, err
	}
	ts.Defer(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", method, path, u.Host)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(conn, b.String()); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
}

func scriptRequests(ts *testscript.TestScript, _ bool, args []string) {
	var wrong []string
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.SplitN(line, " ", 3)
		if len(fields) != 3 {
			ts.Fatalf("%q is not STATUS METHOD PATH", line)
		}
		resp, err := send(ts, fields[1], fields[2])
		ts.Check(err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || strconv.Itoa(resp.StatusCode) != fields[0] {
			wrong = append(wrong, fmt.Sprintf("%s: %s %q %v", line, resp.Status, body, err))
		}
	}
	if len(wrong) > 0 {
		ts.Fatalf("%s", strings.Join(wrong, "\n"))
	}
}

func scriptFault(ts *testscript.TestScript, _ bool, args []string) {
	args = append(args, "", "")
	n, _ := strconv.Atoi(args[2])
	var f proxytest.Fault
	switch args[1] {
	case "status":
		f = proxytest.Status(n, args[3])
	case "html":
		f = proxytest.HTML()
	case "reset":
		f = proxytest.Reset(int64(n))
	case "short":
		f = proxytest.Short(int64(n))
	case "stall":
		f = proxytest.Stall(int64(n))
	case "bytes":
		f = proxytest.Bytes("application/octet-stream", []byte(args[2]))
	case "none":
	default:
		ts.Fatalf("fault: %q is none", args[1])
	}
	worldOf(ts).upstream.SetFault(args[0], f)
}

func scriptLie(ts *testscript.TestScript, _ bool, args []string) {
	args = append(args, "", "")
	n, _ := strconv.Atoi(args[2])
	log := worldOf(ts).log
	switch args[1] {
	case "status":
		log.Lie(sumdbtest.Say(args[0], n, args[3]))
	case "flip":
		log.Lie(sumdbtest.FlipBit(args[0], n))
	case "replace":
		log.Lie(sumdbtest.Replace(args[0], args[2], args[3]))
	case "none":
		log.Lie()
	default:
		ts.Fatalf("lie: %q is none", args[1])
	}
}

func scriptAsked(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: asked N PATH")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := worldOf(ts).upstream.Count(args[1]); (got == want) == neg {
		ts.Fatalf("the upstream was asked %d times for %s", got, args[1])
	}
}

func scriptQuiet(ts *testscript.TestScript, neg bool, _ []string) {
	requests := worldOf(ts).upstream.Requests()
	if (len(requests) == 0) == neg {
		var paths []string
		for _, r := range requests {
			paths = append(paths, r.Method+" "+r.Path)
		}
		ts.Fatalf("the upstream was asked %d times: %s", len(requests), strings.Join(paths, ", "))
	}
}

func scriptForget(ts *testscript.TestScript, _ bool, _ []string) {
	worldOf(ts).upstream.Forget()
	worldOf(ts).log.Forget()
}
