package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// answer is what came back for one request.
type answer struct {
	url    *url.URL // after redirects
	status int
	text   string // of the status
	kind   string // media type
	body   []byte // the first bytes of it
	size   int64  // all of it
	first  time.Duration
	total  time.Duration
	offset *time.Duration // of the server's clock
	err    error

	patience time.Duration // how long its beginning was waited for
}

// quickPatience is how long the beginning of an answer is waited for that no proxy
// needs long for, so that a silent one is told in less than 10 s.
const quickPatience = 7 * time.Second

// patience returns how long the beginning of an answer is waited for. Of a module
// that was named, info, mod and zip may have to be made first.
func (d *Doctor) patience(ctx context.Context, address string) time.Duration {
	slow := strings.HasSuffix(address, ".info") || strings.HasSuffix(address, ".mod") || strings.HasSuffix(address, ".zip")
	if slow && d.cfg.Module != wellKnown() {
		return d.cfg.Patience
	}
	quick := min(d.cfg.Patience, quickPatience)
	if until, ok := ctx.Deadline(); ok {
		// So that silence is told as that, and not as want of time.
		quick = max(quick/2, min(quick, time.Until(until)-leastLeft)).Round(time.Second / 10)
	}
	return quick
}

// leastLeft is what is left of the time after a silent answer, to tell why.
const leastLeft = 2500 * time.Millisecond

// maxKept is how much of a body is kept.
const maxKept = 1 << 20

// Errors of redirects.
var (
	errLoop  = errors.New("stopped after 10 redirects")
	errPlain = errors.New("redirected from https to plain http")
)

// fetch asks the target for a path, follows redirects as the go command does,
// and reads the body to its end. also, if it is not nil, gets all of it.
func (d *Doctor) fetch(ctx context.Context, path string, also io.Writer) *answer {
	u := *d.target
	u.User = nil
	return d.get(ctx, strings.TrimSuffix(u.String(), "/")+"/"+path, also)
}

func (d *Doctor) get(ctx context.Context, address string, also io.Writer) *answer {
	a := &answer{patience: d.patience(ctx, address)}
	// A body may take longer than its header, but not for ever.
	ctx, cancel := context.WithTimeout(ctx, 2*d.cfg.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		a.err = err
		return a
	}
	a.url = req.URL
	req.Header.Set("User-Agent", agent)
	if user, password, ok := d.credentials(); ok && req.URL.Host == d.target.Host {
		req.SetBasicAuth(user, password)
	}
	maps.Copy(req.Header, d.authHeader(req.URL))
	t := d.transport()
	t.ResponseHeaderTimeout = a.patience
	defer t.CloseIdleConnections()
	client := &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		a.url = r.URL
		if via[0].URL.Scheme == "https" && r.URL.Scheme == "http" {
			return errPlain
		}
		if len(via) >= 10 {
			return errLoop
		}
		return nil
	}}
	now, start := d.cfg.Now(), time.Now()
	resp, err := client.Do(req)
	a.first = since(start)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized && a.url.Host == d.target.Host && d.authorized(ctx, resp) {
		return d.get(ctx, address, also)
	}
	a.status, a.text, a.offset = resp.StatusCode, resp.Status, offsetOf(resp, now)
	a.kind, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	a.read(resp.Body, also)
	a.total = since(start)
	return a
}

// read reads a body, keeps its beginning, and gives all of it to also.
func (a *answer) read(body io.Reader, also io.Writer) {
	if also == nil {
		also = io.Discard
	}
	keep := new(limited)
	a.size, a.err = io.Copy(io.MultiWriter(keep, also), body)
	a.body = keep.data
}

// limited keeps the first maxKept bytes.
type limited struct{ data []byte }

func (l *limited) Write(p []byte) (int, error) {
	l.data = append(l.data, p[:min(len(p), maxKept-len(l.data))]...)
	return len(p), nil
}

// line is the text of the answer that people read.
func (a *answer) line() string {
	if a.kind != "text/plain" {
		return a.text
	}
	if text := oneLine(string(a.body)); text != "" {
		return a.text + ": " + text
	}
	return a.text
}

// advice is what a modgate that refuses says is to be done (a line "do: …" of its
// text), or "".
func (a *answer) advice() string {
	if a.kind != "text/plain" {
		return ""
	}
	for line := range strings.Lines(string(a.body)) {
		if do, ok := strings.CutPrefix(line, "do: "); ok {
			return oneLine(do)
		}
	}
	return ""
}

// cause is the code that a modgate names in the text of a trouble (a line "cause: …").
// Whoever answers may forge it: it is shown if it is one, and nothing follows from it.
func (a *answer) cause() Code {
	if a.kind != "text/plain" {
		return ""
	}
	for line := range strings.Lines(string(a.body)) {
		rest, ok := strings.CutPrefix(line, "cause: ")
		name, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if ok && slices.ContainsFunc(Table(), func(e Entry) bool { return string(e.Code) == name }) {
			return Code(name)
		}
	}
	return ""
}

// isHTML reports whether a page for people came.
func (a *answer) isHTML() bool {
	return a.kind == "text/html" || strings.HasPrefix(strings.ToLower(strings.TrimSpace(string(a.body[:min(len(a.body), 64)]))), "<!doctype html") || strings.HasPrefix(strings.TrimSpace(string(a.body[:min(len(a.body), 64)])), "<html")
}

// good reports whether an answer is one of a proxy, absence included. If not,
// it notes why.
func (d *Doctor) good(ctx context.Context, s *Step, a *answer) bool {
	host := d.target.Hostname()
	switch {
	case a.err != nil:
		d.failed(ctx, s, a)
	case a.isHTML() && a.status == http.StatusOK, a.status == http.StatusNetworkAuthenticationRequired:
		d.found(s, HTML, a.text+" from "+a.url.Host+", "+a.kind, "value", title(a.body, a.url))
	case a.status == http.StatusOK, a.status == http.StatusNotFound, a.status == http.StatusGone:
		return true
	case a.status == http.StatusUnauthorized:
		d.unauthorized(s, a)
	case a.status == http.StatusForbidden, a.status == http.StatusUnavailableForLegalReasons:
		d.found(s, Forbidden, a.line(), "value", a.line(), "advice", a.advice(), "host", a.url.Hostname())
	case a.status == http.StatusProxyAuthRequired:
		via, _ := d.via(d.target)
		value := host
		if via != nil {
			value = via.Host
		}
		d.found(s, ProxyAuth, a.line(), "value", value)
	case a.status == http.StatusTooManyRequests:
		d.found(s, TooMany, a.line())
	case a.status == http.StatusBadRequest && d.target.Scheme == "http" && d.speaksTLS(ctx):
		d.found(s, HTTPToTLS, a.line())
	case a.status >= 500:
		seen, advice := a.line(), ""
		if code := a.cause(); code != "" {
			seen += "; the server names as the cause: " + string(code)
			advice = "on the server, what mends " + string(code) + ": docs/doctor.md has an entry for it"
		}
		d.found(s, ServerError, seen, "value", a.line(), "host", a.url.Hostname(), "advice", advice)
	default:
		d.found(s, UnexpectedStatus, a.line(), "value", a.text, "host", a.url.Hostname())
	}
	return false
}

// unsent returns what was found in the settings that keeps credentials from being
// sent; "": nothing was.
func (d *Doctor) unsent() Code {
	found := d.report.Codes()
	for _, c := range []Code{NetrcPort, NetrcPlain, NetrcMissing, AuthOff, AuthCommand} {
		if slices.Contains(found, c) {
			return c
		}
	}
	return ""
}

// unauthorized notes that credentials are wanted, or that those that were sent are
// not accepted.
func (d *Doctor) unauthorized(s *Step, a *answer) {
	file, _ := d.netrcFile()
	words := []string{"where", d.target.Scheme, "file", file}
	_, _, sent := d.credentials()
	byCommand := d.authHeader(a.url) != nil
	switch {
	case d.applies(OnServer):
		words = nil // the server reads no netrc
	case d.runsAuth() && d.auth.failed && !byCommand:
		d.report.blame(AuthFails)
		s.Verdict, s.Codes = Fail, append(s.Codes, AuthFails)
		return
	case !sent && a.url.Host == d.target.Host && d.unsent() != "":
		d.report.blame(d.unsent())
		s.Verdict, s.Codes = Fail, append(s.Codes, d.unsent())
		return
	case byCommand && a.url.Host == d.target.Host:
		words[1] = sentByAuth
	case a.url.Host != d.target.Host:
		words = append(words, "host", a.url.Hostname())
	case sent && d.target.User != nil:
		words[1] = sentByURL
	case sent:
		words[1] = sentByNetrc
	case d.target.User == nil && d.withheld(s):
		s.saw("%s%s", a.line(), d.sent())
		return
	case d.runsAuth():
		words[1] = authSilent
	}
	d.found(s, Unauthorized, a.line()+d.sent(), words...)
}

// withheld reports whether a setting keeps the go command from sending credentials
// that are there, and makes that the cause.
func (d *Doctor) withheld(s *Step) bool {
	i := slices.IndexFunc(d.report.Findings, func(f Finding) bool {
		return slices.Contains([]Code{AuthOff, AuthCommand, NetrcPort, NetrcMissing, NetrcPlain}, f.Code)
	})
	if i < 0 {
		return false
	}
	code := d.report.Findings[i].Code
	d.report.blame(code)
	s.mark(d.report.Findings[i])
	return true
}

// sent says whether credentials were sent, not which.
func (d *Doctor) sent() string {
	if d.authHeader(d.target) != nil {
		return "; what the command of GOAUTH gives was sent"
	}
	if _, _, ok := d.credentials(); ok {
		return "; a user and a password were sent"
	}
	if d.netrcDefault {
		return "; none were sent: the go command passes over \"default\" in netrc, which curl takes"
	}
	if d.target.Scheme == "http" && (d.target.User != nil || len(d.netrc) > 0) {
		return "; none were sent, because the URL begins with http://"
	}
	return "; none were sent"
}

// failed finds out why there is no answer, or not all of one.
func (d *Doctor) failed(ctx context.Context, s *Step, a *answer) {
	err := a.err
	seen := hidePasswords(err.Error())
	moved := a.url != nil && a.url.Host != d.target.Host
	var op *net.OpError
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errLoop):
		d.found(s, RedirectLoop, seen)
	case errors.Is(err, errPlain):
		d.found(s, RedirectPlain, seen, "value", plainURL(a.url))
	case moved && errors.As(err, &certificate):
		d.found(s, RedirectTrust, seen, "value", a.url.Host)
	case moved:
		d.found(s, RedirectBlocked, seen, "value", a.url.Host)
	case strings.Contains(seen, "Proxy Authentication Required"):
		d.found(s, ProxyAuth, seen, "value", "of this machine")
	case d.target.Scheme == "http" && d.speaksTLS(ctx):
		d.found(s, HTTPToTLS, seen)
	case isTimeout(err) || strings.Contains(seen, "timeout awaiting response headers"):
		d.found(s, AnswerSilent, seen, "value", a.patience.String())
	case errors.As(err, &dns), errors.As(err, &op) && op.Op == "dial":
		d.connectFailed(s, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), strings.Contains(seen, "stream error"), strings.Contains(seen, "server sent GOAWAY"):
		d.found(s, AnswerCut, fmt.Sprintf("after %d bytes: %s", a.size, seen))
	default:
		d.found(s, BadAnswer, seen, "value", shortError(err))
	}
}

// speaksTLS reports whether the port answers a handshake, which is quick where it
// answers at all.
func (d *Doctor) speaksTLS(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	via, err := d.via(d.target)
	return err == nil && via == nil && d.shake(ctx, shake{}).err == nil
}

// plainURL is a URL without user, password and query.
func plainURL(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// title returns the title of a page, or where it is.
func title(body []byte, u *url.URL) string {
	text := string(body)
	lower := strings.ToLower(text)
	from := strings.Index(lower, "<title>")
	to := strings.Index(lower, "</title>")
	if from < 0 || to < from+7 || len(lower) != len(text) {
		return "from " + u.Host
	}
	return "“" + oneLine(text[from+7:to]) + "”, from " + u.Host
}
