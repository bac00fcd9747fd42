package main

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is started on a stage is undone in reverse, however the play ends.
func TestStage(t *testing.T) {
	t.Parallel()
	for about, c := range map[string]struct {
		play func(*stage) error
		want string
	}{
		"well":   {func(*stage) error { return nil }, ""},
		"error":  {func(*stage) error { return errors.New("no") }, "no"},
		"Fatalf": {func(s *stage) error { s.Fatalf("it is %s", "broken"); return errors.New("went on") }, "it is broken"},
		"both":   {func(s *stage) error { s.fail(errors.New("first")); return errors.New("last") }, "first\nlast"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "stage")
			var undone []int
			err := perform(t.Context(), dir, func(s *stage) error {
				for i := range 3 {
					s.Cleanup(func() { undone = append(undone, i) })
					if err := os.WriteFile(filepath.Join(s.TempDir(), "file"), nil, 0o600); err != nil {
						return err
					}
				}
				return c.play(s)
			})
			if got := errorText(err); got != c.want {
				t.Errorf("error %q, want %q", got, c.want)
			}
			if !slices.Equal(undone, []int{2, 1, 0}) {
				t.Errorf("undone: %v", undone)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("left behind: %v", err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A fleetLoad tells what is wrong from what has only failed, and asks once more
// where that is allowed, but not for wrong bytes.
func TestFleetLoadCounts(t *testing.T) {
	t.Parallel()
	const path, text = "/example.com/m/@v/v1.0.0.mod", "module example.com/m\n"
	for about, c := range map[string]struct {
		answers                    []func(http.ResponseWriter)
		forgive                    bool
		requests, again, lost, bad int64
	}{
		"right":        {[]func(http.ResponseWriter){answer(200, text)}, true, 1, 0, 0, 0},
		"wrong":        {[]func(http.ResponseWriter){answer(200, strings.ToUpper(text)), answer(200, text)}, true, 1, 0, 1, 1},
		"short":        {[]func(http.ResponseWriter){answer(200, text[:5]), answer(200, text)}, true, 1, 0, 1, 1},
		"500":          {[]func(http.ResponseWriter){answer(500, "no")}, false, 1, 0, 1, 0},
		"cut":          {[]func(http.ResponseWriter){cutOff}, false, 1, 0, 1, 0},
		"cut, again":   {[]func(http.ResponseWriter){cutOff, answer(200, text)}, true, 1, 1, 0, 0},
		"cut, in vain": {[]func(http.ResponseWriter){cutOff, answer(404, "")}, true, 1, 1, 1, 0},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			n := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				a := c.answers[min(n, len(c.answers)-1)]
				n++
				a(w)
			}))
			defer srv.Close()
			tree := t.TempDir()
			write(t, mkdirFor(t, filepath.Join(tree, path)), text)
			l := &fleetLoad{f: &troubledFleet{b: &bench{tree: tree}}, paths: []string{path}, forgive: c.forgive}
			client := plainClient()
			defer client.CloseIdleConnections()
			l.ask(t.Context(), client, srv.URL)
			if l.requests.Load() != c.requests || l.again.Load() != c.again || l.lost.Load() != c.lost || l.wrong.Load() != c.bad {
				t.Errorf("%d requests, %d again, %d lost, %d wrong; first: %v", l.requests.Load(), l.again.Load(), l.lost.Load(), l.wrong.Load(), l.first)
			}
		})
	}
}

func mkdirFor(t *testing.T, name string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func answer(status int, text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}
}

// cutOff breaks an answer off after it has begun.
func cutOff(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "21")
	_, _ = w.Write([]byte("module"))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// askAlone ends when the replica takes no connection any more, which is no failed
// request.
func TestAskAloneEnds(t *testing.T) {
	t.Parallel()
	const path, text = "/example.com/m/@v/v1.0.0.mod", "module example.com/m\n"
	tree := t.TempDir()
	write(t, mkdirFor(t, filepath.Join(tree, path)), text)
	l := &fleetLoad{f: &troubledFleet{b: &bench{tree: tree}}, paths: []string{path}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var ln *listener
	ln, err := listen(ctx, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n++; n {
		case 3:
			answer(http.StatusServiceUnavailable, "no")(w)
		case 5:
			go func() { _ = ln.srv.Shutdown(ctx) }()
			fallthrough
		default:
			answer(http.StatusOK, text)(w)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	requests, failed := l.askAlone(ctx, ln.URL)
	if requests < 5 || failed != 1 {
		t.Errorf("%d requests, %d failed: %v", requests, failed, l.first)
	}
}
