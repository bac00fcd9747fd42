package access_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/internal/access"
)

// serve answers one request by h through a Handler and returns its log line.
func serve(t *testing.T, target string, h http.HandlerFunc) map[string]any {
	t.Helper()
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	handler := access.Handler(h, access.Reports{Log: log})
	func() {
		defer func() { recover() }()
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, target, nil))
	}()
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Fatalf("%d log lines, want 1: %q", n, &out)
	}
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	return line
}

func TestLineSaysHowARequestWasAnswered(t *testing.T) {
	t.Parallel()
	line := serve(t, "/x", func(w http.ResponseWriter, _ *http.Request) {
		rec := access.From(w)
		rec.Kind, rec.Module, rec.Version, rec.Outcome = "zip", "example.com/m", "v1.0.0", access.Miss
		rec.Err = errors.New("why")
		w.WriteHeader(http.StatusBadGateway)
		io.WriteString(w, "12345")
		io.Copy(w, strings.NewReader("678"))
	})
	want := map[string]any{"kind": "zip", "module": "example.com/m", "version": "v1.0.0", "outcome": "miss", "status": 502.0, "bytes": 8.0, "error": "why", "method": "GET"}
	for k, v := range want {
		if line[k] != v {
			t.Errorf("%s = %v, want %v", k, line[k], v)
		}
	}
}

func TestAbortedRequestHasALine(t *testing.T) {
	t.Parallel()
	line := serve(t, "/x", func(w http.ResponseWriter, _ *http.Request) {
		access.From(w).Outcome = access.Trouble
		panic(http.ErrAbortHandler)
	})
	if line["outcome"] != "trouble" || line["level"] != "WARN" {
		t.Errorf("got %v", line)
	}
}

func TestHostilePathIsOneBoundedLine(t *testing.T) {
	t.Parallel()
	line := serve(t, "/%0d%0aforged%1b[31m"+strings.Repeat("x", 5000), func(http.ResponseWriter, *http.Request) {})
	if path := line["path"].(string); len(path) > 1100 {
		t.Errorf("path of %d bytes in the log", len(path))
	}
}

func TestIDsDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	h := access.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		id := access.From(w).ID()
		if id == "" || seen[id] {
			t.Errorf("id %q is empty or was seen before", id)
		}
		seen[id] = true
	}), access.Reports{})
	for range 100 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	}
}

func TestObserverSeesTheRecord(t *testing.T) {
	t.Parallel()
	var got access.Record
	h := access.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		access.From(w).Outcome = access.Hit
		io.WriteString(w, "hello")
	}), access.Reports{Observe: func(r *access.Record, _ time.Duration) { got = *r }})
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	if got.Outcome != access.Hit || got.Bytes != 5 || got.Status != http.StatusOK {
		t.Errorf("got %+v", got)
	}
}

// readerFrom notes whether the fast way was kept.
type readerFrom struct {
	*httptest.ResponseRecorder
	used bool
}

func (r *readerFrom) ReadFrom(src io.Reader) (int64, error) {
	r.used = true
	return io.Copy(r.ResponseRecorder, src)
}

func TestReadFromReachesTheConnection(t *testing.T) {
	t.Parallel()
	w := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	access.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.Copy(w, struct{ io.Reader }{strings.NewReader("body")})
	}), access.Reports{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if !w.used {
		t.Error("the wrapper hides io.ReaderFrom: no body would leave by sendfile")
	}
}

func TestOutcomesAreAClosedSet(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for i, name := range access.Outcomes() {
		if name == "" || seen[name] || access.Outcome(i).String() != name {
			t.Errorf("outcome %d is called %q", i, name)
		}
		seen[name] = true
	}
}
