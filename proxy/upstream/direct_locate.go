package upstream

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"
)

// foundTTL is how long the answer to a go-import lookup is used again. A
// repository that has moved is found after it.
const foundTTL = time.Minute

// place is where the repository of a module is.
type place struct {
	root   string   // the part of the module path that stands for the repository
	subdir string   // of the repository, where a go-import tag says so
	seen   string   // URL that the go command is told, and clients read as Origin
	url    *url.URL // where it really is
	static bool     // the go command finds root and seen by itself
	hg     bool     // it is a Mercurial repository, not one of git
}

// vcs is what the go command calls the system.
func (p *place) vcs() string {
	if p.hg {
		return "hg"
	}
	return "git"
}

type found struct {
	place *place
	asked time.Time
}

// wellKnown are the roots that the go command finds in a path itself
// (cmd/go/internal/vcs: vcsPaths).
var wellKnown = []struct {
	prefix string
	root   *regexp.Regexp
}{
	{"github.com/", regexp.MustCompile(`^github\.com/[\w.\-]+/[\w.\-]+`)},
	{"bitbucket.org/", regexp.MustCompile(`^bitbucket\.org/[\w.\-]+/[\w.\-]+`)},
	{"hub.jazz.net/git/", regexp.MustCompile(`^hub\.jazz\.net/git/[a-z0-9]+/[\w.\-]+`)},
	{"git.apache.org/", regexp.MustCompile(`^git\.apache\.org/[a-z0-9_.\-]+\.git`)},
	{"git.openstack.org/", regexp.MustCompile(`^git\.openstack\.org/[\w.\-]+/[\w.\-]+`)},
	{"", regexp.MustCompile(`^([a-z0-9.\-]+\.)+[a-z0-9.\-]+(/~?[\w.\-]+)+?\.(bzr|fossil|git|hg|svn)(/|$)`)},
}

// staticRoot returns the root that the go command finds in the path, and the
// host and path where it fetches from. ok is false if it has to ask the host.
func staticRoot(modulePath string) (root, repo string, ok bool, err error) {
	for _, k := range wellKnown {
		if !strings.HasPrefix(modulePath+"/", k.prefix) {
			continue
		}
		m := strings.TrimSuffix(k.root.FindString(modulePath), "/")
		switch {
		case m == "" && k.prefix != "":
			return "", "", true, troubled(notModule, nil, "a module on this host has more path elements")
		case m == "":
			continue
		case k.prefix == "" && !strings.HasSuffix(m, ".git") && !strings.HasSuffix(m, ".hg"):
			return "", "", true, troubled(notModule, nil, "by its path it is a %s repository, and modgate fetches from git and Mercurial alone", path.Ext(m))
		}
		if k.prefix == "" {
			return m, strings.TrimSuffix(m, path.Ext(m)), true, nil
		}
		return m, m, true, nil
	}
	return "", "", false, nil
}

// locate finds the repository of a module: by a rule, by the path, or by
// asking the host.
func (d *Direct) locate(ctx context.Context, modulePath string) (*place, error) {
	host, _, _ := strings.Cut(modulePath, "/")
	if a, err := netip.ParseAddr(host); err == nil && (a.IsLoopback() || a.IsUnspecified()) {
		return nil, troubled(forbidden, nil, "%s is this machine: nothing is fetched from there", host)
	}
	static, repo, isStatic, err := staticRoot(modulePath)
	root, u, ruleErr := d.current().repository(modulePath)
	// A well-known host has git; else the end of the root says what it is.
	hg := isStatic && repo != static && strings.HasSuffix(static, ".hg")
	if !isStatic && u != nil {
		hg = d.current().mayBeMercurial(root)
	}
	switch {
	case hg && isStatic && !d.current().mayBeMercurial(static):
		return nil, troubled(notModule, nil, notMercurial)
	case hg && u != nil && u.Scheme != "https":
		return nil, troubled(misconfigured, nil, "the rule for repositories has another URL than https for %s, and Mercurial is only fetched from over HTTPS: give the rule an https URL (hg serve or hgweb answers there), or take the module out of mercurial if it is one of git", root)
	case ruleErr != nil:
		return nil, ruleErr
	case u != nil && isStatic && root != static:
		return nil, troubled(misconfigured, err, "the rule for repositories says that %s is the repository, but to the go command it is %s", root, static)
	case u != nil:
		if !isStatic {
			repo = root
		}
		return &place{root: root, seen: "https://" + repo, url: u, static: isStatic, hg: hg}, nil
	case err != nil:
		return nil, err
	case isStatic:
		u, err := url.Parse("https://" + repo)
		if err != nil {
			return nil, troubled(notModule, err, "not a URL")
		}
		return &place{root: static, seen: u.String(), url: u, static: true, hg: hg}, nil
	case d.current().aboveRepositories(modulePath):
		return nil, troubled(notModule, nil, "the rules for repositories have repositories below it, and none there")
	}
	d.mu.Lock()
	f, ok := d.found[modulePath]
	d.mu.Unlock()
	if ok && time.Since(f.asked) < foundTTL {
		return f.place, nil
	}
	now := time.Now()
	p, err := d.discover(ctx, modulePath)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.found) >= maxRemembered {
		clear(d.found)
	}
	d.found[modulePath] = found{p, now}
	return p, nil
}

// discover asks the host of a module path where its repository is, and the
// root itself if it is another path, because one project must not speak for
// another (https://go.dev/ref/mod#vcs-find).
func (d *Direct) discover(ctx context.Context, modulePath string) (*place, error) {
	tag, err := d.goImport(ctx, modulePath, modulePath)
	if err != nil {
		return nil, err
	}
	if tag.prefix != modulePath {
		again, err := d.goImport(ctx, tag.prefix, modulePath)
		if err != nil {
			return nil, err
		}
		if again != tag {
			return nil, troubled(notModule, nil, "https://%s and its root %s disagree about the repository", modulePath, tag.prefix)
		}
	}
	u, err := url.Parse(tag.repo)
	if err == nil {
		err = checkRepoURL(u)
	}
	if err == nil && tag.vcs == "hg" && u.Scheme != "https" {
		err = errors.New("a Mercurial repository is fetched from over HTTPS alone; if it can be had so, say where in a rule under repositories in the file of direct.file (docs/private.md)")
	}
	if err != nil {
		return nil, troubled(forbidden, err, "its go-import tag names a repository that is not fetched: %v", cleanURLError(err))
	}
	if tag.subdir != "" && (!cleanSubdir(tag.subdir)) {
		return nil, troubled(notModule, nil, "its go-import tag names a directory that is not valid")
	}
	return &place{root: tag.prefix, subdir: tag.subdir, seen: tag.repo, url: u, hg: tag.vcs == "hg"}, nil
}

// cleanURLError leaves out of an error of package url what the server wrote.
func cleanURLError(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return errors.New("not a URL")
	}
	return err
}

func cleanSubdir(s string) bool {
	for e := range strings.SplitSeq(s, "/") {
		if e == "" || e == "." || e == ".." || strings.HasPrefix(e, "-") || strings.ContainsAny(e, "\\:\"<>") {
			return false
		}
	}
	return true
}

// notMercurial is for who asks for a module that a rule would allow.
const notMercurial = "its repository is one of Mercurial, and modgate fetches from git alone; to allow it, name it under mercurial in the file of direct.file (docs/private.md)"

// goImportTag is a <meta name="go-import"> element.
type goImportTag struct{ prefix, vcs, repo, subdir string }

// goImport asks https://<path>?go-get=1 for the tag that is about modulePath.
func (d *Direct) goImport(ctx context.Context, path, modulePath string) (goImportTag, error) {
	u, err := url.Parse("https://" + path + "?go-get=1")
	if err != nil {
		return goImportTag{}, troubled(notModule, err, "not a URL")
	}
	if !strings.Contains(path, "/") {
		u.Path = "/"
	}
	resp, last, err := d.get(ctx, u, http.Header{}, true)
	if err != nil {
		return goImportTag{}, err
	}
	defer resp.Body.Close()
	tags, err := parseGoImports(io.LimitReader(resp.Body, 1<<20))
	if len(tags) == 0 && resp.StatusCode != http.StatusOK {
		e := statusTrouble(last, resp)
		if e.Is(fs.ErrNotExist) {
			e.Reason, e.text = string(notModule), fmt.Sprintf("%s knows no such module", last.Host)
		}
		return goImportTag{}, e
	}
	if len(tags) == 0 && err != nil {
		return goImportTag{}, explained(err, last.Host)
	}
	var match []goImportTag
	for _, t := range tags {
		if t.prefix == modulePath || strings.HasPrefix(modulePath, t.prefix+"/") {
			match = append(match, t)
		}
	}
	var good []goImportTag
	for _, t := range match {
		if t.vcs == "git" || t.vcs == "hg" && d.current().mayBeMercurial(t.prefix) {
			good = append(good, t)
		}
	}
	switch {
	case len(good) == 1:
		return good[0], nil
	case len(good) > 1:
		return goImportTag{}, troubled(notModule, nil, "https://%s has several go-import tags for it", path)
	case len(match) > 0 && match[0].vcs == "hg":
		return goImportTag{}, troubled(notModule, nil, notMercurial)
	case len(match) > 0:
		return goImportTag{}, troubled(notModule, nil, "its go-import tag is for %q, and modgate fetches from git and Mercurial alone: keep a mirror in git, and name it under repositories in the file of direct.file (docs/private.md)", oneLine(match[0].vcs, 20))
	}
	return goImportTag{}, troubled(notModule, nil, "https://%s?go-get=1 has no go-import tag for it", path)
}

// parseGoImports returns the go-import tags in the head of a page.
func parseGoImports(r io.Reader) ([]goImportTag, error) {
	dec := xml.NewDecoder(r)
	dec.Strict = false
	dec.AutoClose = xml.HTMLAutoClose
	dec.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	var tags []goImportTag
	for {
		token, err := dec.RawToken()
		if err != nil {
			if errors.Is(err, io.EOF) || len(tags) > 0 {
				err = nil
			}
			var syntax *xml.SyntaxError
			if errors.As(err, &syntax) {
				err = nil // a page that is no page has no tags
			}
			return tags, err
		}
		switch t := token.(type) {
		case xml.EndElement:
			if strings.EqualFold(t.Name.Local, "head") {
				return tags, nil
			}
		case xml.StartElement:
			if strings.EqualFold(t.Name.Local, "body") {
				return tags, nil
			}
			if !strings.EqualFold(t.Name.Local, "meta") {
				continue
			}
			var name, content string
			for _, a := range t.Attr {
				switch strings.ToLower(a.Name.Local) {
				case "name":
					name = a.Value
				case "content":
					content = a.Value
				}
			}
			if f := strings.Fields(content); name == "go-import" && (len(f) == 3 || len(f) == 4) {
				tag := goImportTag{prefix: f[0], vcs: f[1], repo: f[2]}
				if len(f) == 4 {
					tag.subdir = f[3]
				}
				tags = append(tags, tag)
			}
		}
	}
}
