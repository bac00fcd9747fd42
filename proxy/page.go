package proxy

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"github.com/modgate/modgate/internal/access"
)

//go:embed page.html
var pageText string

// servePage tells a person with a browser what this is and how to use it. HEAD
// answers 200: the go command asks so whether its credentials are good
// (cmd/go/internal/auth, GOAUTH=git).
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	rec := access.From(w)
	rec.Kind, rec.Outcome = kindPage, access.Local
	page, err := template.New("page").Parse(pageText)
	if err != nil {
		s.fail(w, r, request{}, err)
		return
	}
	scheme := "http"
	if overTLS(r) {
		scheme = "https"
	}
	url := scheme + "://" + r.Host + s.base
	if s.base == "/" {
		url = scheme + "://" + r.Host
	}
	var names []string
	for _, setting := range s.cfg.Settings {
		name, _, _ := strings.Cut(strings.TrimPrefix(setting, "'"), "=")
		names = append(names, name)
	}
	var b bytes.Buffer
	err = page.Execute(&b, struct {
		URL             string
		SumDB, Private  bool
		Settings, Names []string
	}{url, s.cfg.Verifier != nil, s.cfg.Private != nil, s.cfg.Settings, names})
	if err != nil {
		s.fail(w, r, request{}, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	if r.Method != http.MethodHead {
		w.Write(b.Bytes())
	}
}
