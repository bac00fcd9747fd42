package gittest

import (
	"fmt"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// goImport is one line of a vanity import page.
type goImport struct{ prefix, vcs, url string }

// SetImport answers ?go-get=1 for the import paths that begin with prefix
// (host/path) with this go-import line, whoever asks. Of several prefixes the
// longest counts. An empty vcs takes the prefix back.
func (s *Server) SetImport(prefix, vcs, url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.imports = append(s.imports, goImport{prefix, vcs, url})
}

// meta answers ?go-get=1. Where SetImport said nothing it answers as GitLab
// does: those who may read the repository get its name, however deep in
// groups it is; all others get the first two elements of the path, be there
// such a repository or not.
func (s *Server) meta(name string, known bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		line := s.importFor(name)
		if line.vcs == "" {
			line = s.likeGitLab(name, known)
		}
		if line.vcs == "" {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<html><head><meta name=\"go-import\" content=\"%s\"></head><body>go get %s</body></html>\n",
			html.EscapeString(line.prefix+" "+line.vcs+" "+line.url), html.EscapeString(line.prefix))
	})
}

func (s *Server) importFor(name string) goImport {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found goImport
	for _, i := range s.imports {
		if beneath(name, i.prefix) && len(i.prefix) >= len(found.prefix) {
			found = i
		}
	}
	return found
}

func (s *Server) likeGitLab(name string, known bool) goImport {
	elements := strings.Split(name, "/")
	if len(elements) < 3 {
		return goImport{}
	}
	repo := strings.Join(elements[:3], "/")
	for n := len(elements); known && n >= 2; n-- {
		candidate := strings.Join(elements[:n], "/")
		if _, err := os.Stat(filepath.Join(s.root, filepath.FromSlash(candidate)+".git")); err == nil {
			repo = candidate
			break
		}
	}
	return goImport{repo, "git", "https://" + repo + ".git"}
}
