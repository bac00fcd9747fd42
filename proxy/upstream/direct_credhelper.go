package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"time"
)

// helperTimeout is how long a credential helper may think. It may ask a
// service for a token.
const helperTimeout = 30 * time.Second

// askHelper asks a git credential helper (gitcredentials(7), the protocol of
// git-credential(1)). The answer is kept until the server refuses it, the
// helper says that it expires, or the rules are set anew. Requests for one
// repository share a question.
func (d *Direct) askHelper(ctx context.Context, c *credential, u *url.URL) (login, error) {
	a := c.answerFor(repositoryOf(u))
	if err := a.busy.lock(ctx); err != nil {
		return login{}, err
	}
	defer a.busy.unlock()
	if a.password != "" && (a.expiry.IsZero() || time.Now().Before(a.expiry)) {
		return a.login, nil
	}
	out, err := d.runHelper(ctx, c, "get", u, login{})
	if err != nil {
		return login{}, err
	}
	l := parseHelper(out)
	if l.password == "" {
		return login{}, errors.New("the credential helper gave no password")
	}
	a.helperLogin = l
	return l.login, nil
}

// rejectHelper tells the helper that l was refused.
func (d *Direct) rejectHelper(ctx context.Context, c *credential, u *url.URL, l login) {
	a := c.answerFor(repositoryOf(u))
	if err := a.busy.lock(ctx); err != nil {
		return // the next one to be refused sees to it
	}
	defer a.busy.unlock()
	if a.login != l {
		return // another request was faster
	}
	a.helperLogin = helperLogin{}
	if _, err := d.runHelper(ctx, c, "erase", u, l); err != nil {
		d.cfg.Logger.Debug("credential helper", "action", "erase", "host", u.Host, "error", err)
	}
}

// helperAnswer is what a helper said about one repository.
type helperAnswer struct {
	busy        lock // held while the helper is asked
	helperLogin      // guarded by busy; without a password if there is none
}

func (c *credential) answerFor(repository string) *helperAnswer {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.answers[repository]
	if a == nil {
		if len(c.answers) >= maxRemembered {
			clear(c.answers)
		}
		a = &helperAnswer{busy: newLock()}
		c.answers[repository] = a
	}
	return a
}

// runHelper runs the helper, in a process group of its own: what it started is
// killed with it when nobody waits any more.
func (d *Direct) runHelper(ctx context.Context, c *credential, action string, u *url.URL, l login) ([]byte, error) {
	args := strings.Fields(c.Helper)
	if !strings.ContainsAny(args[0], `/\`) {
		args[0] = "git-credential-" + args[0]
	}
	if path, err := exec.LookPath(args[0]); err != nil {
		// git keeps its own helpers where only git finds them.
		args = append([]string{"git", strings.TrimPrefix(args[0], "git-")}, args[1:]...)
	} else {
		args[0] = path
	}
	ctx, cancel := context.WithTimeoutCause(ctx, helperTimeout, tooSlow("no answer in time"))
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], append(args[1:], action)...)
	cmd.WaitDelay = time.Second
	ownGroup(cmd)
	cmd.Cancel = func() error {
		killGroup(cmd.Process.Pid)
		return nil
	}
	var in bytes.Buffer
	fmt.Fprintf(&in, "protocol=%s\nhost=%s\npath=%s\n", u.Scheme, u.Host, strings.TrimPrefix(repositoryOf(u), u.Host+"/"))
	if l != (login{}) {
		fmt.Fprintf(&in, "username=%s\npassword=%s\n", l.username, l.password)
	}
	in.WriteString("\n")
	cmd.Stdin = &in
	out, err := cmd.Output()
	if ctx.Err() != nil && cmd.Process != nil {
		buryGroup(cmd.Process.Pid)
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("credential helper %s: %w", action, err)
	}
	return out, nil
}

// helperLogin is the answer of a helper.
type helperLogin struct {
	login
	expiry time.Time
}

// repositoryOf returns host and path of the repository that a URL of the git
// protocol is about.
func repositoryOf(u *url.URL) string {
	path := strings.Trim(u.Path, "/")
	for _, end := range []string{"/info/refs", "/git-upload-pack"} {
		path = strings.TrimSuffix(path, end)
	}
	return u.Host + "/" + path
}

// parseHelper understands the answer of a credential helper.
func parseHelper(out []byte) helperLogin {
	var l helperLogin
	for line := range bytes.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), "=")
		switch key {
		case "username":
			l.username = value
		case "password":
			l.password = value
		case "password_expiry_utc":
			var unix int64
			if _, err := fmt.Sscan(value, &unix); err == nil {
				l.expiry = time.Unix(unix, 0)
			}
		}
	}
	return l
}
