package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// checkHeader refuses a 200 that cannot be the file: a page for people, or a
// body in a coding that was not asked for.
func checkHeader(h http.Header) error {
	if c := h.Get("Content-Encoding"); c != "" && c != "identity" {
		return fmt.Errorf("content coding %q was not asked for", c)
	}
	switch t, _, _ := mime.ParseMediaType(h.Get("Content-Type")); t {
	case "text/html", "application/xhtml+xml":
		return fmt.Errorf("it is a web page (%s)", t)
	}
	return nil
}

// checkStart refuses a body by its first bytes. It looks at 512 of them, or
// at all if there are fewer.
func checkStart(f file, start []byte) error {
	text := bytes.TrimLeft(bytes.TrimPrefix(start, []byte("\xef\xbb\xbf")), " \t\r\n")
	switch f.kind {
	case "zip":
		if !bytes.HasPrefix(start, []byte("PK\x03\x04")) && !bytes.HasPrefix(start, []byte("PK\x05\x06")) {
			return errors.New("it is not a zip file")
		}
	case "sumdb":
		// A tile is binary: any byte may come first.
		lower := bytes.ToLower(text)
		if bytes.HasPrefix(lower, []byte("<!doctype")) || bytes.HasPrefix(lower, []byte("<html")) {
			return errors.New("it is a web page")
		}
	case "mod":
		if len(text) == 0 {
			return errors.New("it is empty")
		}
		fallthrough
	default:
		if bytes.HasPrefix(text, []byte("<")) {
			return errors.New("it looks like HTML or XML")
		}
	}
	return nil
}

// checkInfo refuses a .info that does not answer the query. The go command
// demands the same of a proxy (cmd/go/internal/modfetch, proxyRepo.Stat).
func checkInfo(data []byte, path, query string) error {
	var info struct{ Version string }
	if err := json.Unmarshal(data, &info); err != nil {
		return fmt.Errorf("it is not .info JSON: %w", err)
	}
	if info.Version == "" || info.Version != module.CanonicalVersion(info.Version) {
		return fmt.Errorf("its Version %.100q is not canonical", info.Version)
	}
	if err := module.Check(path, info.Version); err != nil {
		return fmt.Errorf("its Version does not fit the module: %w", err)
	}
	// A query may lack +incompatible.
	if query == module.CanonicalVersion(query) && info.Version != query && module.Check(path, query) == nil {
		return fmt.Errorf("it is about version %s", info.Version)
	}
	return nil
}

// parseList returns the versions in the body of @v/list, sorted as strings.
// Lines may have a time behind the version. Pseudo-versions and what is not a
// version of the module are dropped, but a body of which nothing looks like a
// version is not a list.
func parseList(data []byte, path string) ([]string, error) {
	var versions []string
	some, any := false, false
	for line := range bytes.Lines(data) {
		word, _, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if word == "" {
			continue
		}
		any = true
		if !semver.IsValid(word) {
			continue
		}
		some = true
		if word == module.CanonicalVersion(word) && !module.IsPseudoVersion(word) && module.Check(path, word) == nil {
			versions = append(versions, word)
		}
	}
	if any && !some {
		return nil, errors.New("it is not a list of versions")
	}
	slices.Sort(versions)
	return slices.Clip(slices.Compact(versions)), nil
}
