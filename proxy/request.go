package proxy

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// Kinds of requests beside KindInfo, KindMod and KindZip, as in metrics.
const (
	kindList   = "list"
	kindLatest = "latest"
	kindQuery  = "query" // .info of a branch, a commit, a version prefix, or a version that lacks +incompatible
	kindSumDB  = "sumdb"
	kindPage   = "page"
	kindOther  = "other"
)

// Kinds lists all kinds that an access record may have.
func Kinds() []string {
	return []string{kindList, kindLatest, kindQuery, KindInfo, KindMod, KindZip, kindSumDB, kindPage, kindOther}
}

// request is a parsed request for a module.
type request struct {
	kind string
	// mod is unescaped. Version is empty for list and latest, and a query for
	// kindQuery.
	mod module.Version
	// name is the stored name: the path of the protocol, escaped its way.
	name string
	// from is where the module comes from; nil until its route is known.
	from *supply
	// since is when a zip came here, as its request found it: zero if it did
	// not. To fetch it must not turn a decision about what is new.
	since time.Time
	// rules are those that decide; nil until a decision is due.
	rules Policy
}

// immutable reports whether the answer never changes.
func (r *request) immutable() bool {
	return r.kind == KindInfo || r.kind == KindMod || r.kind == KindZip
}

// maxElement bounds one element of a module path or a version, in bytes: a
// file name has 255, and what is stored beside a file needs the rest.
const maxElement = 240

// errRequest is why a path is not a request of the protocol.
var errRequest = errors.New("not a path of the GOPROXY protocol")

// parse reads the path of a request (go.dev/ref/mod#goproxy-protocol), which
// is still percent-encoded and has no leading slash. What does not lead back
// to the same path is refused, so that every object has one name only.
func parse(escaped string) (request, error) {
	name, err := unquote(escaped)
	if err != nil {
		return request{}, err
	}
	if path, ok := strings.CutSuffix(name, "/@latest"); ok {
		return finish(request{kind: kindLatest, name: name}, path)
	}
	path, file, ok := strings.Cut(name, "/@v/")
	if !ok {
		return request{}, fmt.Errorf("%w: it has neither /@v/ nor /@latest", errRequest)
	}
	if file == "list" {
		return finish(request{kind: kindList, name: name}, path)
	}
	dot := strings.LastIndexByte(file, '.')
	if dot < 0 {
		return request{}, fmt.Errorf("%w: no .info, .mod or .zip", errRequest)
	}
	r := request{kind: file[dot+1:], name: name}
	if err := r.setVersion(file[:dot]); err != nil {
		return request{}, err
	}
	return finish(r, path)
}

// setVersion unescapes the version and tells versions from queries.
func (r *request) setVersion(escaped string) error {
	if len(escaped) > maxElement {
		return fmt.Errorf("%w: the version is longer than %d bytes", errRequest, maxElement)
	}
	v, err := module.UnescapeVersion(escaped)
	if err != nil || strings.HasPrefix(v, "-") || strings.HasPrefix(v, ".") {
		return fmt.Errorf("%w: %.60q is not a version", errRequest, escaped)
	}
	r.mod.Version = v
	exact := semver.IsValid(v) && module.CanonicalVersion(v) == v
	switch {
	case r.kind != KindInfo && r.kind != KindMod && r.kind != KindZip:
		return fmt.Errorf("%w: no .info, .mod or .zip", errRequest)
	case exact:
	case r.kind == KindInfo && v == Latest:
		// The same question as @latest, and so the same object.
		r.kind, r.mod.Version = kindLatest, ""
		r.name = strings.TrimSuffix(r.name, "@v/latest.info") + "@latest"
	case r.kind == KindInfo:
		r.kind = kindQuery
	default:
		return fmt.Errorf("%w: %.60q is not a canonical version", errRequest, v)
	}
	return nil
}

// finish unescapes the module path and checks it.
func finish(r request, escaped string) (request, error) {
	path, err := module.UnescapePath(escaped)
	if err != nil {
		return request{}, fmt.Errorf("%w: %.200q is not a module path", errRequest, escaped)
	}
	for elem := range strings.SplitSeq(escaped, "/") {
		if len(elem) > maxElement {
			return request{}, fmt.Errorf("%w: an element of the module path is longer than %d bytes", errRequest, maxElement)
		}
	}
	if len(escaped) > maxPath {
		return request{}, fmt.Errorf("%w: the module path is longer than %d bytes", errRequest, maxPath)
	}
	r.mod.Path = path
	if r.immutable() {
		_, major, _ := module.SplitPathVersion(path)
		switch err := module.CheckPathMajor(r.mod.Version, major); {
		case err == nil:
		case r.kind == KindInfo && module.CheckPathMajor(r.mod.Version+"+incompatible", major) == nil:
			// go get m@v2.0.0 asks like this where there is no go.mod; the
			// answer is v2.0.0+incompatible.
			r.kind = kindQuery
		default:
			return request{}, fmt.Errorf("%w: version %s does not fit the module path %s", errRequest, r.mod.Version, path)
		}
	}
	return r, nil
}

// maxPath bounds an escaped module path, in bytes.
const maxPath = 1024

// unquote undoes the percent-encoding of what the go command encodes: what
// net/url.PathEscape does to "!", and to the few characters of a branch or tag
// that it must escape. It refuses every other: %2e, %2f and their like exist to
// get around checks.
func unquote(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		c, err := hex.DecodeString(s[i+1 : min(i+3, len(s))])
		if err != nil || len(c) != 1 || !mayBeQuoted(c[0]) {
			return "", fmt.Errorf("%w: %q is encoded where it need not be", errRequest, s[i:min(i+3, len(s))])
		}
		b.Write(c)
		i += 2
	}
	return b.String(), nil
}

// mayBeQuoted reports whether c may come percent-encoded. Whether it may be in a
// path or a version is decided later.
func mayBeQuoted(c byte) bool {
	switch {
	case c <= ' ', c == 0x7f, c == '/', c == '\\', c == '.', c == '%', c == '-', c == '_':
		return false
	case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		return false
	}
	return true
}

// fileName returns the stored name of one file of m.
func fileName(m module.Version, kind string) (string, error) {
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return "", err
	}
	return path + "/@v/" + version + "." + kind, nil
}
