package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// TestMain puts a program called modgate into the PATH: this test binary, which
// then runs main. The tests below start it as anybody would.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"modgate": main})
}

// instance is a modgate serve that a test has started.
type instance struct {
	url, admin string // URLs without a slash behind
	dir        string // of its cache
	cmd        *exec.Cmd
	ended      chan struct{} // closed when the process has ended
	err        error         // of the process; valid when ended

	mu     sync.Mutex // guards stderr
	stderr bytes.Buffer
}

var servingLine = regexp.MustCompile(`msg=serving .*\baddr=(\S+)(?: admin=(\S+))?`)

// launch starts modgate serve on free ports. In environ only that counts; args
// come last. Its log must be text.
func launch(environ []string, dir string, args ...string) (*instance, error) {
	i := &instance{dir: dir, ended: make(chan struct{})}
	i.cmd = exec.Command("modgate", append([]string{"serve", "--config=off", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--cache-dir=" + dir}, args...)...)
	i.cmd.Env = append([]string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH"), "GORACE=halt_on_error=1 exitcode=66 atexit_sleep_ms=0"}, environ...)
	pipe, err := i.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := begin(i.cmd); err != nil {
		return nil, err
	}
	serving := make(chan []string, 1)
	go func() {
		defer close(i.ended)
		lines := bufio.NewReader(pipe)
		for {
			line, err := lines.ReadString('\n')
			i.mu.Lock()
			i.stderr.WriteString(line)
			i.mu.Unlock()
			if m := servingLine.FindStringSubmatch(line); m != nil {
				serving <- m
			}
			if err != nil {
				break
			}
		}
		i.err = i.cmd.Wait()
	}()
	select {
	case m := <-serving:
		i.url = "http://" + m[1]
		if m[2] != "" {
			i.admin = "http://" + m[2]
		}
		return i, nil
	case <-i.ended:
		return nil, fmt.Errorf("modgate serve ended: %w\n%s", i.err, i.log())
	case <-time.After(time.Minute):
		return nil, errors.Join(fmt.Errorf("modgate serve is not ready:\n%s", i.log()), i.cmd.Process.Kill())
	}
}

// log returns what the process has written to stderr.
func (i *instance) log() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.stderr.String()
}

// stop drains the process and returns what is wrong with its end.
func (i *instance) stop() error {
	i.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-i.ended:
	case <-time.After(time.Minute):
		i.cmd.Process.Kill()
		<-i.ended
		return fmt.Errorf("modgate serve did not end:\n%s", i.log())
	}
	if i.err != nil {
		return fmt.Errorf("modgate serve: %w\n%s", i.err, i.log())
	}
	if !strings.Contains(i.log(), "msg=ended") {
		return fmt.Errorf("the last line of the log is lost:\n%s", i.log())
	}
	return nil
}

// world is what a modgate under test stands in: an upstream with the modules of
// testdata/mod and a checksum database that knows them.
type world struct {
	upstream *proxytest.Server
	log      *sumdbtest.Log
}

func newWorld(t testing.TB) *world {
	t.Helper()
	log, err := sumdbtest.New("sum.example.com")
	if err != nil {
		t.Fatal(err)
	}
	log.Fill(300) // more than one tile
	mods := proxytest.Load(t, filepath.Join("testdata", "mod"))
	for _, m := range mods {
		log.Add(m.Version, m.H1, m.ModH1)
	}
	up := proxytest.New(t, mods...)
	up.SumDB(log.Name(), log)
	return &world{up, log}
}

// flags are those with which a server lives in this world.
func (w *world) flags() []string {
	return []string{"--upstream=" + w.upstream.URL, "--sumdb=" + w.log.Key()}
}

// start starts a server in w that ends, and must end well, with the test.
func (w *world) start(t *testing.T, args ...string) *instance {
	t.Helper()
	i, err := launch(nil, t.TempDir(), append(w.flags(), args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.stop(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// get returns status and body of a URL.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// goEnv is the environment in which the go command uses the server at url and
// nothing of the machine but its build cache. dir is its home, to which no process
// of it writes once it has ended: without the file that is made there, one that
// looks after telemetry would, while a test removes the directory.
func goEnv(dir, url, sumdb string) []string {
	settings := filepath.Join(dir, ".config", "go", "telemetry")
	err := os.MkdirAll(settings, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(settings, "mode"), []byte("off"), 0o600)
	}
	if err != nil {
		panic(err)
	}
	return []string{
		"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "GOCACHE=" + buildCache(),
		"GOPATH=" + filepath.Join(dir, "gopath"), "GOMODCACHE=" + filepath.Join(dir, "modcache"),
		"GOPROXY=" + url, "GOSUMDB=" + sumdb, "GONOSUMDB=", "GONOPROXY=", "GOPRIVATE=", "GOINSECURE=",
		"GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "GOENV=off", "GOWORK=off", "CGO_ENABLED=0",
	}
}

// buildCache is the build cache of the machine: compiling the standard library
// anew for each script would take minutes.
func buildCache() string {
	if dir := os.Getenv("GOCACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "go-build")
	}
	return filepath.Join(dir, "go-build")
}
