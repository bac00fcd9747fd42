package proxy

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPageSaysWhatToPaste(t *testing.T) {
	t.Parallel()
	s := &Server{base: "/go/", cfg: Config{Settings: []string{"GONOPROXY=none", "'GONOSUMDB=git.corp.example/*'"}}}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "http://modgate.corp.example:8443/go/", nil)
	r.Header.Set("X-Forwarded-Proto", "https")
	s.servePage(w, r)
	for _, want := range []string{"go env -w GOPROXY=https://modgate.corp.example:8443/go/\n", "go env -w &#39;GONOSUMDB=git.corp.example/*&#39;", "<code>go env -u GOPROXY GONOPROXY GONOSUMDB</code>", `href="/healthz"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, w.Body)
		}
	}
}

// No public database has seen a private module.
func TestPageSaysWhatIsProven(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "every go command that asks.</p>"},
		{Config{Verifier: proven{}}, "before it was stored.</p>"},
		{Config{Verifier: proven{}, Private: empty{}}, "before it was stored, but for private modules, which no public database knows.</p>"},
	} {
		w := httptest.NewRecorder()
		(&Server{base: "/", cfg: test.cfg}).servePage(w, httptest.NewRequest("GET", "/", nil))
		if !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("the page lacks %q:\n%s", test.want, w.Body)
		}
	}
}

// proven and empty stand for what is there.
type (
	proven struct{ Verifier }
	empty  struct{ Source }
)

func TestPageTrustsNoHost(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = "<script>alert(1)</script>"
	(&Server{base: "/"}).servePage(w, r)
	if strings.Contains(w.Body.String(), "<script>") {
		t.Errorf("the page has what the client wrote:\n%s", w.Body)
	}
}

func TestPageByHEAD(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	(&Server{base: "/"}).servePage(w, httptest.NewRequest("HEAD", "/", nil))
	if w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("%d with %d bytes", w.Code, w.Body.Len())
	}
}
