package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/proxy/proxytest"
)

// killRounds is how often TestKill kills; envKills sets another number.
const (
	killRounds = 200
	envKills   = "MODGATE_TEST_KILLS"
)

// TestKill kills the server at random moments of many downloads. After each
// time it starts on what was left: nothing of the dead process lies about, every
// object has its bytes, and every answer that was completed before is given
// again without asking anybody.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := killRounds
	if testing.Short() {
		rounds = 20
	}
	if n, err := strconv.Atoi(os.Getenv(envKills)); err == nil {
		rounds = n
	}
	k := newKiller(t)
	for round := range rounds {
		k.round(t)
		if t.Failed() {
			t.Fatalf("in round %d of %d", round+1, rounds)
		}
	}
	t.Logf("%d answers were complete when %d kills came, %d were not", k.whole, rounds, k.cut)
	if k.whole < 5*rounds || k.cut < 5*rounds {
		t.Errorf("too few to prove anything")
	}
	out, err := exec.Command("modgate", "cache", "verify", "--online", "--config=off", "--cache-dir="+k.dir, k.w.flags()[0], k.w.flags()[1]).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(" 0 corrupt, 0 unreadable")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// killer is what TestKill knows.
type killer struct {
	w     *world
	dir   string
	files map[string][]byte // by path

	mu         sync.Mutex // guards what follows
	acked      map[string]bool
	whole, cut int
}

func newKiller(t *testing.T) *killer {
	k := &killer{w: newWorld(t), dir: t.TempDir(), acked: map[string]bool{}}
	var mods []*proxytest.Module
	for n, size := range []int{3 << 20, 3<<20 + 12345, 1<<20 + 1, 400 << 10} {
		m := proxytest.Big(t, fmt.Sprintf("example.com/big%d", n), "v1.0.0", size)
		mods = append(mods, m)
		k.w.upstream.SetFault(proxytest.Path(t, m.Version, "zip"), trickle)
	}
	for n := range 4 {
		mods = append(mods, proxytest.Simple(t, "example.com/small", fmt.Sprintf("v1.%d.0", n)))
	}
	k.w.addTo(t, mods...)
	k.files = expected(t, mods...)
	return k
}

// trickle answers honestly but takes its time for a large body, so that there
// is a middle of it to be killed in.
func trickle(x proxytest.Exchange) { x.Honest.ServeHTTP(slowWriter{x.W, x.R.Context()}, x.R) }

type slowWriter struct {
	http.ResponseWriter
	ctx context.Context
}

// Write writes after a moment.
func (w slowWriter) Write(p []byte) (int, error) {
	select {
	case <-time.After(200 * time.Microsecond):
	case <-w.ctx.Done():
	}
	return w.ResponseWriter.Write(p)
}

// round is one life of the server.
func (k *killer) round(t *testing.T) {
	k.forgetSome(t)
	i, err := launch(nil, k.dir, append(k.w.flags(), "--ttl-list=1h")...)
	if err != nil {
		t.Fatal(err)
	}
	if left := strays(t, k.dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	k.checkObjects(t)
	k.checkAnswers(t, i)
	k.download(t, i)
	<-i.ended
	if strings.Contains(i.log(), "DATA RACE") || strings.Contains(i.log(), "panic:") {
		t.Error(i.log())
	}
}

// checkObjects reads the whole directory, as another process would.
func (k *killer) checkObjects(t *testing.T) {
	t.Helper()
	s, err := disk.New(disk.Config{Dir: k.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	there := map[string]bool{}
	for e, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		o, err := s.Get(t.Context(), e.Name)
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
			continue
		}
		data, err := io.ReadAll(o.Body)
		o.Close()
		sum := sha256.Sum256(data)
		if err != nil || hex.EncodeToString(sum[:]) != o.Attrs.SHA256 {
			t.Errorf("%s: %v, attributes and bytes differ", e.Name, err)
		}
		if right, known := k.files["/"+e.Name]; known && !bytes.Equal(data, right) {
			t.Errorf("%s: WRONG BYTES", e.Name)
		}
		there["/"+e.Name] = true
	}
	for path := range k.acked {
		if !there[path] {
			t.Errorf("%s: completed before the kill and lost", path)
		}
	}
}

// checkAnswers asks again for what was completed; the upstream must not notice.
func (k *killer) checkAnswers(t *testing.T, i *instance) {
	t.Helper()
	k.w.upstream.Forget()
	for path := range k.acked {
		i.want(t, path, k.files[path])
	}
	if asked := k.w.upstream.Requests(); len(asked) > 0 {
		t.Errorf("the upstream was asked for %s", asked[0].Path)
	}
}

// forgetSome takes objects away, so that there is something to download. No
// server runs that could have them in memory.
func (k *killer) forgetSome(t *testing.T) {
	for path := range k.acked {
		if rand.IntN(2) == 0 {
			continue
		}
		delete(k.acked, path)
		file := filepath.Join(k.dir, filepath.FromSlash(path))
		for _, name := range []string{file, filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".attr")} {
			if err := os.Remove(name); err != nil {
				t.Error(err)
			}
		}
	}
}

// download asks for everything at once, for zips twice, and kills a moment
// after some of the answers have come.
func (k *killer) download(t *testing.T, i *instance) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	answers := make(chan bool, 2*len(k.files))
	var wg sync.WaitGroup
	for path, right := range k.files {
		for n := range 2 {
			if n == 0 || strings.HasSuffix(path, ".zip") {
				wg.Go(func() {
					code, body, err := fetch(t.Context(), client, i.url+path)
					k.note(t, path, right, code, body, err)
					answers <- true
				})
			}
		}
	}
	enough := time.After(time.Second)
	for range rand.IntN(len(k.files)) {
		select {
		case <-answers:
		case <-enough:
		}
	}
	<-time.After(time.Duration(rand.IntN(20_000)) * time.Microsecond)
	if err := i.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// note judges an answer.
func (k *killer) note(t *testing.T, path string, right []byte, code int, body []byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err != nil:
		k.cut++
	case code != http.StatusOK:
		t.Errorf("%s: %d %s", path, code, body)
	case !bytes.Equal(body, right):
		t.Errorf("%s: WRONG BYTES: %d of them, want %d", path, len(body), len(right))
	default:
		k.whole++
		k.acked[path] = true
	}
}
