package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// goauth is what the commands of GOAUTH give, which are run as the go command runs
// them: before its first request by https, and with the URL where that is refused.
type goauth struct {
	refused sync.Once // the first request that was refused

	mu     sync.Mutex             // guards what follows
	given  map[string]http.Header // by the prefixes of URLs that they are for
	failed bool                   // a command gives nothing that can be used
	hangs  bool                   // it does not end: the go command gets no further
}

// authCommands returns the commands of GOAUTH that are programs, each with its
// arguments, in the order in which they count.
func (d *Doctor) authCommands() [][]string {
	var all [][]string
	for command := range strings.SplitSeq(d.settings.get("GOAUTH").Value, ";") {
		words, _ := splitWords(command)
		if len(words) == 0 || slices.Contains([]string{"off", "netrc", "git"}, words[0]) {
			continue
		}
		if program := d.program(words[0]); program != "" { // else found by checkAuth
			all = append(all, append([]string{program}, words[1:]...))
		}
	}
	return all
}

// authorize runs the commands of GOAUTH, if the target is one for which the go
// command would.
func (d *Doctor) authorize(ctx context.Context) {
	if !d.runsAuth() {
		return
	}
	s := d.step("GOAUTH", "its commands, before the first request")
	d.runAuth(ctx, s, nil)
}

func (d *Doctor) runsAuth() bool {
	return d.target.Scheme == "https" && d.auth != nil && d.cfg.Run != nil && len(d.authCommands()) > 0
}

// authorized reports whether the commands of GOAUTH, now that a request was refused,
// give credentials that it had not.
func (d *Doctor) authorized(ctx context.Context, resp *http.Response) (changed bool) {
	if !d.runsAuth() || d.auth.hangs {
		return false
	}
	d.auth.refused.Do(func() {
		before := d.authHeader(resp.Request.URL)
		d.runAuth(ctx, d.step("GOAUTH", "its commands, with the URL that was refused"), resp)
		changed = fmt.Sprint(before) != fmt.Sprint(d.authHeader(resp.Request.URL))
	})
	return changed
}

// authHeader returns what commands of GOAUTH give for a URL; nil if they give nothing,
// or netrc comes before them and has something.
func (d *Doctor) authHeader(u *url.URL) http.Header {
	if d.auth == nil {
		return nil
	}
	d.auth.mu.Lock()
	defer d.auth.mu.Unlock()
	if _, _, ok := d.credentials(); ok && d.target.User == nil && strings.HasPrefix(strings.TrimSpace(d.settings.get("GOAUTH").Value), "netrc") {
		return nil
	}
	for at := u.Host + u.Path; at != ""; {
		if h := d.auth.given[at]; len(h) > 0 {
			return h
		}
		at = at[:max(strings.LastIndexByte(at, '/'), 0)]
	}
	return nil
}

// runAuth runs each command of GOAUTH. Of what several give for the same URLs, that
// of the first one counts.
func (d *Doctor) runAuth(ctx context.Context, s *Step, refused *http.Response) {
	all := map[string]http.Header{}
	for _, words := range d.authCommands() {
		name := filepath.Base(words[0])
		given, err := d.askAuth(ctx, words, refused)
		if err != nil {
			d.authFailed(s, name, err)
			continue
		}
		s.saw("%s gives credentials for %s", name, counted(len(given), "URL"))
		for prefix, header := range given {
			if all[prefix] == nil {
				all[prefix] = header
			}
			for _, values := range header {
				for _, v := range values {
					d.secrets = append(append(d.secrets, v), strings.Fields(v)...)
				}
			}
		}
	}
	d.auth.mu.Lock()
	defer d.auth.mu.Unlock()
	if d.auth.given == nil {
		d.auth.given = map[string]http.Header{}
	}
	maps.Copy(d.auth.given, all)
}

func (d *Doctor) authFailed(s *Step, name string, err error) {
	where := fails
	if errors.Is(err, context.DeadlineExceeded) {
		where = hangs
	}
	d.auth.mu.Lock()
	d.auth.failed, d.auth.hangs = true, d.auth.hangs || where == hangs
	d.auth.mu.Unlock()
	d.found(s, AuthFails, err.Error(), "value", name, "where", where)
	if where == hangs {
		d.report.blame(AuthFails) // the go command waits for it, whatever the proxy wants
	}
}

// askAuth runs one command, for the answer to a request that was refused if there is
// one, and returns headers by the prefixes of URLs that they are for.
func (d *Doctor) askAuth(ctx context.Context, words []string, refused *http.Response) (map[string]http.Header, error) {
	ctx, cancel := d.within(ctx)
	defer cancel()
	stdin := ""
	if refused != nil {
		stdin = refused.Proto + " " + refused.Status + "\n"
		for name, values := range refused.Header {
			stdin += name + ": " + strings.Join(values, ", ") + "\n"
		}
		stdin += "\n"
		words = append(words[:len(words):len(words)], refused.Request.URL.String())
	}
	out, _, err := d.cfg.Run(ctx, d.cfg.Environ, stdin, words...)
	var file *os.PathError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("it does not end (%w after %v)", context.DeadlineExceeded, d.cfg.Timeout)
	case errors.As(err, &file):
		return nil, file.Err // the name says enough
	case err != nil:
		return nil, err
	}
	given, line := parseAuth(out)
	if line > 0 {
		return nil, fmt.Errorf("it ends well, but line %d of what it prints is not as it must be, or lacks (it may be a secret, and is not shown)", line)
	}
	return given, nil
}

// parseAuth reads what a command of GOAUTH prints, as go help goauth says: URLs, an
// empty line, headers, an empty line, and so on. line is the first that is wrong, or
// lacks; 0 if all is well.
func parseAuth(data string) (given map[string]http.Header, line int) {
	given = map[string]http.Header{}
	next := func() (text string, ok bool) {
		text, data, ok = strings.Cut(data, "\n")
		line++
		return text, ok
	}
	block := func(read func(text string) bool) bool { // up to an empty line
		for {
			text, ok := next()
			if !ok || text == "" {
				return ok
			}
			if !read(text) {
				return false
			}
		}
	}
	for data != "" {
		var prefixes []string
		header := http.Header{}
		if !block(func(text string) bool {
			u, err := url.ParseRequestURI(text)
			if err == nil {
				prefixes = append(prefixes, strings.TrimSuffix(strings.TrimPrefix(u.String(), "https://"), "/"))
			}
			return err == nil
		}) || !block(func(text string) bool {
			name, value, ok := strings.Cut(text, ": ")
			header.Add(name, strings.TrimSpace(value))
			return ok && name != "" && !strings.ContainsAny(name, " \t\r:") && !strings.ContainsAny(value, "\x00\r")
		}) {
			return nil, line
		}
		for _, prefix := range prefixes {
			given[prefix] = header
		}
	}
	return given, 0
}
