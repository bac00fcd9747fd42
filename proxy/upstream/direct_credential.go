package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
)

// credential is a Credential that was checked.
type credential struct {
	Credential
	host, path string // path without slashes at its ends

	mu      sync.Mutex
	answers map[string]*helperAnswer // of the helper, by host and path
}

// login is what an HTTPS server is shown.
type login struct{ username, password string }

func (c Credential) check() (*credential, error) {
	match := strings.Trim(strings.TrimPrefix(c.Match, "https://"), "/")
	host, path, _ := strings.Cut(match, "/")
	ways := 0
	for _, set := range []bool{c.Password != "", c.SSHKey != "", c.Netrc != "", c.Helper != ""} {
		if set {
			ways++
		}
	}
	switch {
	case host == "" || strings.ContainsAny(match, "@ *?") || strings.Contains(match, "://"):
		return nil, errors.New("want a host and, where needed, the beginning of a path: git.corp.example/team")
	case ways != 1:
		return nil, errors.New("want exactly one of password, ssh key, netrc and helper")
	case strings.HasPrefix(c.Helper, "!") || c.Helper != "" && strings.TrimSpace(c.Helper) == "":
		return nil, inKey("helper", errors.New("want a command with its arguments: no shell runs it"))
	case c.SSHKey != "" && c.KnownHosts == "":
		return nil, errors.New("an ssh key needs known hosts: the file with the host's own key (ssh-keyscan writes one)")
	case c.KnownHosts != "" && c.SSHKey == "":
		return nil, errors.New("known hosts without an ssh key")
	case c.Username != "" && c.SSHKey != "":
		return nil, errors.New("a user name goes with a password; the user of ssh stands in the URL of the repository: ssh://git@git.corp.example/{1}")
	case c.Username != "" && c.Password == "":
		return nil, errors.New("a user name goes with a password")
	}
	return &credential{Credential: c, host: strings.ToLower(host), path: path, answers: make(map[string]*helperAnswer)}, nil
}

// matches reports whether u lies below what the credential is for.
func (c *credential) matches(u *url.URL) bool {
	host := strings.ToLower(u.Host)
	if c.host != host && c.host != host+":"+defaultPort(u) && c.host+":"+defaultPort(u) != host {
		return false
	}
	rest, ok := strings.CutPrefix(strings.Trim(u.Path, "/"), c.path)
	rest = strings.TrimPrefix(rest, ".git") // whether a URL has it is the host's whim
	return ok && (c.path == "" || rest == "" || rest[0] == '/')
}

func defaultPort(u *url.URL) string {
	if u.Scheme == "ssh" {
		return "22"
	}
	return "443"
}

// credentialFor returns the credential for u with the longest prefix among
// those that fit its scheme, nil if there is none.
func (r *rules) credentialFor(u *url.URL) *credential {
	var best *credential
	for _, c := range r.credentials {
		if (c.SSHKey != "") == (u.Scheme == "ssh") && c.matches(u) && (best == nil || len(c.path) > len(best.path)) {
			best = c
		}
	}
	return best
}

// secret resolves a reference to a file or a variable of the environment.
func (d *Direct) secret(value string) (string, error) {
	if name, ok := strings.CutPrefix(value, "file:"); ok {
		data, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		return strings.TrimRight(string(data), "\r\n"), nil
	}
	if name, ok := strings.CutPrefix(value, "env:"); ok {
		v, ok := d.cfg.LookupEnv(name)
		if !ok {
			return "", fmt.Errorf("environment variable %s is not set", name)
		}
		return v, nil
	}
	return value, nil
}

// authorizer adds credentials to a request. done tells where they come from
// what the server thought of them.
type authorizer func(ctx context.Context, req *http.Request) (done func(status int), err error)

// anonymous is an authorizer that shows nothing.
func anonymous(context.Context, *http.Request) (func(int), error) { return func(int) {}, nil }

// authorize adds what is configured for the request's own URL, and nothing
// that was configured for another.
func (d *Direct) authorize(ctx context.Context, req *http.Request) (done func(status int), err error) {
	done = func(int) {}
	c := d.current().credentialFor(req.URL)
	if c == nil {
		return done, nil
	}
	var l login
	switch {
	case c.Helper != "":
		if l, err = d.askHelper(ctx, c, req.URL); err == nil {
			done = func(status int) {
				if status == http.StatusUnauthorized {
					d.rejectHelper(ctx, c, req.URL, l)
				}
			}
		}
	case c.Netrc != "":
		var data []byte
		if data, err = os.ReadFile(c.Netrc); err == nil {
			l = parseNetrc(data).login(req.URL)
		}
	default:
		if l.username, err = d.secret(c.Username); err == nil {
			l.password, err = d.secret(c.Password)
		}
	}
	if ctx.Err() != nil {
		return done, context.Cause(ctx)
	}
	if err != nil {
		return done, troubled(misconfigured, err, "the credentials configured for %s cannot be read", c.Match)
	}
	if l == (login{}) {
		return done, nil
	}
	if l.username == "" {
		l.username = "git"
	}
	req.SetBasicAuth(l.username, l.password)
	return done, nil
}

// netrc is what a netrc file says, in order.
type netrc []struct {
	machine string
	login
}

// parseNetrc understands the format of ftp(1): words that come in pairs. A
// macro goes to the next empty line. The entry "default" is left out, because
// it would show a password to every host.
func parseNetrc(data []byte) netrc {
	var n netrc
	macro, skipped := false, false
	for line := range bytes.Lines(data) {
		words := bytes.Fields(line)
		if macro = macro && len(words) > 0; macro {
			continue
		}
		for i := 0; i < len(words); i++ {
			word := string(words[i])
			if strings.HasPrefix(word, "#") {
				break
			}
			if word == "default" {
				skipped = true
				continue
			}
			if i+1 >= len(words) {
				break
			}
			i++
			value := string(words[i])
			switch {
			case word == "macdef":
				macro = true
			case word == "machine":
				skipped = false
				n = append(n, netrc{{machine: strings.ToLower(value)}}...)
			case len(n) == 0 || skipped:
			case word == "login":
				n[len(n)-1].username = value
			case word == "password":
				n[len(n)-1].password = value
			}
		}
	}
	return n
}

// login returns what the file has for u: for its host and port, else for its
// host.
func (n netrc) login(u *url.URL) login {
	for _, name := range []string{u.Host, u.Hostname()} {
		for _, e := range n {
			if e.machine == strings.ToLower(name) {
				return e.login
			}
		}
	}
	return login{}
}
