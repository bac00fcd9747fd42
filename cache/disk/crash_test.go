package disk_test

import (
	"bufio"
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/cachetest"
	"github.com/modgate/modgate/cache/disk"
)

// Environment of a child process of the tests.
const (
	envDir  = "MODGATE_TEST_CHILD_DIR"
	envRole = "MODGATE_TEST_CHILD_ROLE"
	// envRounds sets how often the crash test kills; the default suits every run.
	envRounds = "MODGATE_TEST_CRASHES"
)

func TestMain(m *testing.M) {
	if os.Getenv(envRole) == "put" {
		if err := putForever(os.Getenv(envDir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// putForever changes objects until it is killed. It prints, before and after
// each change, what the name will hold: "- name sha256" and "+ name sha256".
func putForever(dir string) error {
	s, err := disk.New(disk.Config{Dir: dir})
	if err != nil {
		return err
	}
	var out sync.Mutex
	say := func(sign, name, sum string) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(sign, name, sum)
	}
	errs := make(chan error)
	for w := range 4 {
		go func() {
			for {
				if err := putOne(s, w, say); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

func putOne(s *disk.Store, w int, say func(sign, name, sum string)) error {
	ctx := context.Background()
	data := make([]byte, rand.IntN(50_000))
	_, _ = crand.Read(data)
	name, class := fmt.Sprintf("example.com/w%d/m%d/@v/v1.0.0.zip", w, rand.IntN(1e9)), cache.Immutable
	switch rand.IntN(4) {
	case 0: // all of a size, so that a size tells nothing
		name, class, data = fmt.Sprintf("example.com/w%d/@v/list", w), cache.Mutable, append(data, make([]byte, 5000)...)[:5000]
	case 1:
		name, class = fmt.Sprintf("pins/w%d", w), cache.Precious
	case 2:
		name, class = fmt.Sprintf("example.com/w%d/@latest", w), cache.Mutable
		say("-", name, "absent")
		if err := s.Delete(ctx, name); err != nil {
			return err
		}
		say("+", name, "absent")
	}
	h := sha256.Sum256(data)
	sum := hex.EncodeToString(h[:])
	say("-", name, sum)
	if rand.IntN(2) == 0 {
		if err := s.Put(ctx, name, strings.NewReader(string(data)), cache.PutOptions{Class: class}); err != nil {
			return err
		}
	} else if err := putSpool(ctx, s, name, data, class); err != nil {
		return err
	}
	say("+", name, sum)
	return nil
}

func putSpool(ctx context.Context, s *disk.Store, name string, data []byte, class cache.Class) error {
	f, err := s.NewSpool()
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return s.PutSpool(ctx, name, f, cache.PutOptions{Class: class})
}

// TestKill kills a process that changes objects, at random moments, and checks
// after each time that every object is whole, that every name holds what was
// acknowledged or what was being put, and that nothing is left in the spool.
func TestKill(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	if n, err := strconv.Atoi(os.Getenv(envRounds)); err == nil {
		rounds = n
	}
	dir := t.TempDir()
	known := make(map[string]*history)
	changes := 0
	for round := range rounds {
		changes += killOne(t, dir, known)
		s, err := disk.New(disk.Config{Dir: dir})
		must(t, err)
		cachetest.Leftovers(t, dir+"/.modgate/spool")
		checkAll(t, s, known)
		must(t, s.Close())
		if t.Failed() {
			t.Fatalf("after round %d", round)
		}
	}
	t.Logf("%d changes, %d names", changes, len(known))
	if changes < rounds {
		t.Error("too few changes to prove anything")
	}
}

// history of a name: what it holds for sure, and what may have replaced it.
type history struct{ sure, maybe string }

// killOne runs a child for a moment and adds what it said to known.
func killOne(t *testing.T, dir string, known map[string]*history) int {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), envRole+"=put", envDir+"="+dir)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	lines := bufio.NewScanner(out)
	n := 0
	var kill *time.Timer
	for lines.Scan() {
		if kill == nil { // it has begun
			kill = time.AfterFunc(time.Duration(rand.IntN(80_000))*time.Microsecond, func() { _ = c.Process.Kill() })
		}
		f := strings.Fields(lines.Text())
		if len(f) != 3 || len(f[2]) != 64 && f[2] != "absent" {
			continue // cut off
		}
		h := known[f[1]]
		if h == nil {
			h = &history{sure: "absent"}
			known[f[1]] = h
		}
		switch h.maybe = f[2]; f[0] {
		case "+":
			h.sure, h.maybe = f[2], ""
			n++
		}
	}
	if kill == nil {
		t.Fatal("the child did nothing")
	}
	kill.Stop()
	_ = c.Wait()
	return n
}

func checkAll(t *testing.T, s *disk.Store, known map[string]*history) {
	t.Helper()
	seen := make(map[string]string)
	for e, err := range s.List(t.Context(), "") {
		must(t, err)
		o, err := s.Get(t.Context(), e.Name)
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
			continue
		}
		h := sha256.New()
		_, err = io.Copy(h, o.Body)
		must(t, err)
		must(t, o.Close())
		sum := hex.EncodeToString(h.Sum(nil))
		if sum != o.Attrs.SHA256 {
			t.Errorf("%s: bytes %s, attributes %q", e.Name, sum, o.Attrs.SHA256)
		}
		if known[e.Name] == nil {
			t.Errorf("%s: nobody put it", e.Name)
		}
		seen[e.Name] = sum
	}
	for name, h := range known {
		got, ok := seen[name]
		if !ok {
			got = "absent"
		}
		if got != h.sure && got != h.maybe {
			t.Errorf("%s holds %s; acknowledged was %s, in progress %q", name, got, h.sure, h.maybe)
		}
		h.sure, h.maybe = got, ""
	}
}

// TestBetweenTheRenames checks the one moment of a replacement at which the
// attribute file and the bytes are of different versions, for sizes that differ
// and sizes that are equal.
func TestBetweenTheRenames(t *testing.T) {
	const list = "example.com/m/@v/list"
	for _, next := range []string{"new", "longer", ""} {
		dir := t.TempDir()
		s := open(t, dir)
		put(t, s, list, "old", cache.Mutable)
		o, err := s.Get(t.Context(), list)
		must(t, err)
		want := o.Attrs
		must(t, o.Close())
		put(t, s, list, next, cache.Mutable)
		must(t, os.WriteFile(filepath.Join(dir, list), []byte("old"), 0o644))

		s = open(t, dir)
		o, err = s.Get(t.Context(), list)
		if err != nil {
			t.Errorf("%q: %v", next, err)
			continue
		}
		b, err := o.ReadAll(10)
		if string(b) != "old" || o.Attrs != want || err != nil {
			t.Errorf("%q: %q, %+v, %v; want the old object", next, b, o.Attrs, err)
		}
		// And the next Put starts from there.
		put(t, s, list, "last", cache.Mutable)
		if got := content(t, s, list); got != "last" {
			t.Errorf("%q", got)
		}
	}
}

func TestNeitherVersionIsCorrupt(t *testing.T) {
	const list = "example.com/m/@v/list"
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, list, "one", cache.Mutable)
	put(t, s, list, "two", cache.Mutable)
	must(t, os.WriteFile(filepath.Join(dir, list), []byte("bad"), 0o644))
	if o, err := open(t, dir).Get(t.Context(), list); err == nil {
		o.Close()
		t.Error("bytes that were never put are served")
	} else if !strings.Contains(err.Error(), cache.ErrCorrupt.Error()) {
		t.Error(err)
	}
	put(t, s, list, "six", cache.Mutable)
	if got := content(t, s, list); got != "six" {
		t.Errorf("%q", got)
	}
}
