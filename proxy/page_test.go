package proxy

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPageSaysWhatToPaste(t *testing.T) {
	t.Parallel()
	s := &Server{base: "/go/", cfg: Config{Settings: []string{"'GOPRIVATE=git.corp.example/*'"}}}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "http://modgate.corp.example:8443/go/", nil)
	r.Header.Set("X-Forwarded-Proto", "https")
	s.servePage(w, r)
	for _, want := range []string{"go env -w GOPROXY=https://modgate.corp.example:8443/go/\n", "go env -w &#39;GOPRIVATE=git.corp.example/*&#39;", `href="/healthz"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, w.Body)
		}
	}
}

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
