package upstream

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"

	"golang.org/x/mod/module"
)

// Rules are the part of the configuration of private modules that can change
// while the server runs.
type Rules struct {
	// Repositories say where repositories really are. The first that matches
	// is taken. Modules that none matches are found as the go command does:
	// by the host's name if it is a well-known one, by a .git in the path, or
	// by asking https://<path>?go-get=1.
	Repositories []Repository
	// Credentials say as whom a host is asked. Of several that match, the one
	// with the longest prefix is taken.
	Credentials []Credential
	// Mercurial are the patterns (as in GOPRIVATE) of the modules that may come
	// from Mercurial repositories, over HTTPS. Everything else comes from git
	// alone.
	Mercurial []string
	// Networks (10.20.0.0/16, or one address) that names may lead to.
	// Without them a host may have an address in a company's ranges (RFC
	// 1918, RFC 4193, RFC 6598) only if a private pattern, a repository or a
	// credential names it, and none may be this machine or its link.
	Networks []string
}

// Repository says where the repository of a module is, without asking the
// host in the module's path.
type Repository struct {
	// Match is the module path of the root of the repository:
	// git.corp.example/*/*. In each path element * and ? stand for any
	// characters but /. What lies below is a directory of the repository.
	Match string
	// URL is where it is: https://… or ssh://user@host:port/…. {1}, {2}, …
	// are the path elements that were matched by one with a wildcard, in
	// order. {root} is the whole matched path.
	URL string
}

// Credential is what modgate shows to a host. Exactly one way is set: a
// password, an SSH key, a netrc file or a helper. Values of Username, Password
// and SSHKey that begin with "file:" are read from that file each time, those
// with "env:" from the environment. Credentials reach neither the disk nor
// arguments nor the environment of a process, except a helper's own.
type Credential struct {
	// Match is a host, with a port if it is not the usual one, and the
	// beginning of a path in whole elements: git.corp.example/team. It is
	// compared with the URL of the repository and that of a go-import lookup.
	Match string
	// Username and Password, or a token, for HTTPS. Default user: "git",
	// which the large hosts take beside a token.
	Username, Password string
	// SSHKey is the file of a private key, and KnownHosts the file that
	// proves the host's (ssh-keyscan writes one). Both are needed for ssh.
	SSHKey, KnownHosts string
	// Netrc is a file in the format of ~/.netrc, read when it has changed.
	Netrc string
	// Helper is a git credential helper as in git's credential.helper: a
	// command with arguments, which is asked as "<command> get". A name
	// without a slash means git-credential-<name>.
	Helper string
}

// rules are Rules that were checked.
type rules struct {
	repositories []repositoryRule
	credentials  []*credential
	addresses    addressRules
	mercurial    string // patterns, comma-separated
}

type repositoryRule struct {
	elems []string
	url   string
}

// check reports all mistakes at once, without secrets.
func (r Rules) check(private string) (*rules, error) {
	out := new(rules)
	var mistakes []error
	for _, pattern := range strings.Split(private, ",") {
		host, _, _ := strings.Cut(pattern, "/")
		// A pattern that begins with a bare wildcard names no host.
		if strings.Trim(host, "*?.") != "" {
			out.addresses.named = append(out.addresses.named, strings.ToLower(host))
		}
	}
	name := func(host string) {
		out.addresses.named = append(out.addresses.named, strings.ToLower(host))
	}
	for i, repo := range r.Repositories {
		rule, u, err := repo.check()
		if err != nil {
			mistakes = append(mistakes, wrongRule("repositories", i, fmt.Sprintf(" (match %q)", repo.Match), err))
			continue
		}
		out.repositories = append(out.repositories, rule)
		if !strings.ContainsAny(u.Host, "{}") {
			name(u.Hostname())
		}
	}
	for i, cred := range r.Credentials {
		c, err := cred.check()
		if err != nil {
			mistakes = append(mistakes, wrongRule("credentials", i, fmt.Sprintf(" (match %q)", cred.Match), err))
			continue
		}
		out.credentials = append(out.credentials, c)
		host, _, _ := strings.Cut(c.host, ":")
		name(host)
	}
	for i, n := range r.Networks {
		p, err := parseNetwork(n)
		if err != nil {
			mistakes = append(mistakes, wrongRule("networks", i, "", err))
			continue
		}
		out.addresses.networks = append(out.addresses.networks, p)
	}
	for i, pattern := range r.Mercurial {
		if _, err := path.Match(pattern, "x"); err != nil || strings.Trim(pattern, "*?/") == "" || strings.ContainsAny(pattern, ", ") {
			mistakes = append(mistakes, wrongRule("mercurial", i, "", fmt.Errorf("%q: want the pattern of module paths, such as hg.corp.example/*", pattern)))
		}
	}
	out.mercurial = strings.ToLower(strings.Join(r.Mercurial, ","))
	return out, errors.Join(mistakes...)
}

// parseNetwork understands an address or a range of addresses.
func parseNetwork(n string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(n); err == nil {
		if strings.HasSuffix(n, ".0") {
			return netip.Prefix{}, fmt.Errorf("%q: looks like a range without its size: write %[1]s/8 or %[1]s/24, or %[1]s/32 if this one address is meant", n)
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(n)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q: want an address or a range such as 10.20.0.0/16", n)
	}
	return p.Masked(), nil
}

// mayBeMercurial reports whether a module may come from a Mercurial repository.
func (r *rules) mayBeMercurial(modulePath string) bool {
	return module.MatchPrefixPatterns(r.mercurial, strings.ToLower(modulePath))
}

func (r Repository) check() (repositoryRule, *url.URL, error) {
	rule := repositoryRule{elems: strings.Split(r.Match, "/"), url: r.URL}
	wild := 0
	for i, e := range rule.elems {
		if _, err := path.Match(e, "x"); err != nil || e == "" {
			return rule, nil, inKey("match", errors.New("want the module path of a repository, with * for what varies: git.corp.example/*/*"))
		}
		if strings.ContainsAny(e, "*?[") {
			wild++
			if i == 0 && strings.Trim(e, "*?") == "" {
				return rule, nil, inKey("match", errors.New("must begin with the name of a host"))
			}
		}
	}
	for field := range fields(r.URL) {
		if n, err := strconv.Atoi(field); field != "root" && (err != nil || n < 1 || n > wild) {
			return rule, nil, inKey("url", fmt.Errorf("{%s} in the URL: %d path elements of the match have a wildcard", field, wild))
		}
	}
	u, err := url.Parse(strings.NewReplacer("{", "", "}", "").Replace(r.URL))
	if err != nil {
		return rule, nil, inKey("url", errors.New("the URL is not one"))
	}
	return rule, u, inKey("url", checkRepoURL(u))
}

// fields yields what stands in braces.
func fields(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for {
			_, after, ok := strings.Cut(s, "{")
			if !ok {
				return
			}
			field, rest, _ := strings.Cut(after, "}")
			if !yield(field) {
				return
			}
			s = rest
		}
	}
}

// checkRepoURL says why no repository is fetched from u.
func checkRepoURL(u *url.URL) error {
	_, password := u.User.Password()
	switch {
	case u.Scheme != "https" && u.Scheme != "ssh":
		return fmt.Errorf("want an https or ssh URL, not %q", u.Scheme)
	case password, u.User != nil && u.Scheme == "https":
		return errors.New("a URL must not hold credentials: use credentials for the host")
	case u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-"):
		return errors.New("the URL has no host")
	case u.User != nil && strings.HasPrefix(u.User.Username(), "-"):
		return errors.New("a user must not begin with -")
	case strings.Trim(u.Path, "/") == "":
		return errors.New("the URL has no path")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		return errors.New("want a URL without query and fragment")
	case strings.ContainsFunc(u.Path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\'' || r == '\\' }):
		return errors.New("the path has characters that do not belong there")
	}
	return checkURLPath(u)
}

// checkURLPath says why a server might take the path of u for another one. The
// credentials for a URL follow from its path, so what servers disagree about
// must not be in it: . and .. (also before a semicolon, where some begin
// parameters), and slashes, backslashes and percent signs that are escaped.
func checkURLPath(u *url.URL) error {
	escaped := strings.ToLower(u.EscapedPath())
	if strings.Contains(escaped, "%2f") || strings.Contains(escaped, "%25") || strings.Contains(u.Path, `\`) {
		return errors.New("the path has an escaped slash or percent sign or a backslash")
	}
	for elem := range strings.SplitSeq(u.Path, "/") {
		if elem, _, _ = strings.Cut(elem, ";"); elem == "." || elem == ".." {
			return errors.New("the path has a . or .. element")
		}
	}
	return nil
}

// repository returns the root of the repository that a rule gives modulePath,
// and its URL.
func (r *rules) repository(modulePath string) (root string, u *url.URL, err error) {
	elems := strings.Split(modulePath, "/")
rules:
	for _, rule := range r.repositories {
		if len(elems) < len(rule.elems) {
			continue
		}
		replace := []string{"{root}", strings.Join(elems[:len(rule.elems)], "/")}
		for i, e := range rule.elems {
			if ok, _ := path.Match(e, elems[i]); !ok {
				continue rules
			}
			if strings.ContainsAny(e, "*?[") {
				replace = append(replace, fmt.Sprintf("{%d}", len(replace)/2), elems[i])
			}
		}
		u, err := url.Parse(strings.NewReplacer(replace...).Replace(rule.url))
		if err == nil {
			err = checkRepoURL(u)
		}
		if err != nil {
			return "", nil, troubled(misconfigured, err, "the rule for repositories gives no usable URL: %v", err)
		}
		return replace[1], u, nil
	}
	return "", nil, nil
}

// aboveRepositories reports whether a rule says that there are repositories
// below modulePath, so that it is none itself.
func (r *rules) aboveRepositories(modulePath string) bool {
	elems := strings.Split(modulePath, "/")
rules:
	for _, rule := range r.repositories {
		if len(elems) >= len(rule.elems) {
			continue
		}
		for i, e := range elems {
			if ok, _ := path.Match(rule.elems[i], e); !ok {
				continue rules
			}
		}
		return true
	}
	return false
}

// isPrivate reports whether a module may be fetched from its repository. Case
// does not count, as in policy.
func (d *Direct) isPrivate(modulePath string) bool {
	return module.MatchPrefixPatterns(strings.ToLower(d.cfg.Private), strings.ToLower(modulePath))
}
