package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/modgate/modgate/internal/access"
)

// What the errors of this package that wrap no other are about, as their method Cause
// tells it to who names causes.
const (
	CauseBusy      = "busy"      // it passes by itself
	CauseUndecided = "undecided" // facts that rules need cannot be had
	CauseContent   = "content"   // a file is not what its name says
)

// passing is a trouble that passes by itself.
type passing string

func (p passing) Error() string { return string(p) }
func (p passing) Cause() string { return CauseBusy }

// errBusy says that too many fetches wait already.
const errBusy = passing("too many fetches are waiting")

// errClosed says that the server is ending.
const errClosed = passing("server is ending")

// errAbsentBefore says that a source has said so a moment ago.
var errAbsentBefore = fmt.Errorf("absent a moment ago: %w", fs.ErrNotExist)

// remembered is an absence that was proven before, in place of what cannot be
// told now because of cause.
type remembered struct {
	what  string // that is in trouble
	cause error
}

func (s *Server) remembered(req request, cause error) error {
	if req.from == s.private {
		return &remembered{"the repository", cause}
	}
	return &remembered{"the upstream", cause}
}

func (e *remembered) Error() string {
	return "absent when it was last asked for: now " + e.cause.Error()
}
func (e *remembered) Is(target error) bool { return target == fs.ErrNotExist }
func (e *remembered) Public() string {
	return "not found (remembered: " + e.what + " cannot be reached now)"
}

// notCached is the error for what a client wants from the cache alone.
type notCached struct{}

func (notCached) Error() string        { return "not in the cache, and the request forbids fetching" }
func (notCached) Is(target error) bool { return target == fs.ErrNotExist }
func (notCached) Public() string {
	return "not in the cache, and Disable-Module-Fetch forbids fetching it"
}

// mismatch is what a Verifier says of bytes that are wrong.
type mismatch interface {
	error
	Mismatch() (want, got string)
}

// isMismatch finds a mismatch in err.
func isMismatch(err error) (mismatch, bool) {
	var m mismatch
	ok := errors.As(err, &m)
	return m, ok
}

// isRefused reports whether a source has refused for good, as far as it knows.
func isRefused(err error) bool {
	var r interface{ Refused() bool }
	return errors.As(err, &r) && r.Refused()
}

// answer is what a failed request gets.
type answer struct {
	status  int
	outcome access.Outcome
	text    string
}

// answerFor is the one table that turns errors into status codes. 404 is for
// proven absence alone: it sends a client whose GOPROXY goes on behind a comma
// to the next entry, and a refusal or an outage must not (measured with go1.26:
// `,` falls through on 404 and 410 only).
func answerFor(err error) answer {
	var (
		denied  *deniedError
		timeout interface{ Timeout() bool }
		notZip  *badContent
		unsure  *unproven
	)
	m, wrong := isMismatch(err)
	switch {
	case errors.As(err, &denied) && denied.unsure():
		return answer{http.StatusServiceUnavailable, access.Trouble, denied.Text}
	case errors.As(err, &denied):
		return answer{http.StatusForbidden, access.Denied, denied.Text}
	case wrong:
		want, got := m.Mismatch()
		return answer{http.StatusForbidden, access.Denied, fmt.Sprintf(
			"checksum mismatch: refused, nothing was stored\nreceived: %s\nexpected: %s\n%s", got, want,
			publicText(err, "The upstream sends other content than the checksum database has recorded."))}
	case errors.As(err, &unsure):
		// Whatever the database's own trouble is: the module may be all right.
		return answer{http.StatusServiceUnavailable, access.Trouble, unsure.Public()}
	case isRefused(err):
		return answer{http.StatusForbidden, access.Denied, publicText(err, "refused by the upstream")}
	case errors.Is(err, fs.ErrNotExist):
		return answer{http.StatusNotFound, access.Absent, publicText(err, "not found")}
	case errors.Is(err, errBusy), errors.Is(err, errClosed):
		return answer{http.StatusServiceUnavailable, access.Trouble, "server busy or restarting: try again"}
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return answer{http.StatusGatewayTimeout, access.Trouble, publicText(err, "the upstream took too long: try again")}
	case errors.As(err, &notZip):
		return answer{http.StatusBadGateway, access.Trouble, notZip.text}
	}
	return answer{http.StatusBadGateway, access.Trouble, publicText(err, "cannot be fetched now: the server's log says why")}
}

// publicText returns what the error has to say to a client, or else.
func publicText(err error, otherwise string) string {
	var p interface{ Public() string }
	if errors.As(err, &p) && p.Public() != "" {
		return p.Public()
	}
	return otherwise
}

// badContent says that an upstream's file is not what its name says, whatever
// its hash.
type badContent struct {
	text string
	err  error
}

func (e *badContent) Error() string { return e.text + ": " + e.err.Error() }
func (e *badContent) Unwrap() error { return e.err }
func (e *badContent) Cause() string { return CauseContent }

// fail answers a request that has failed, and notes why. The zero req is for
// what is not about a module.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, req request, err error) {
	rec := access.From(w)
	rec.Err = err
	if r.Context().Err() != nil {
		// A client that has closed its half of the connection still reads. To
		// return without an answer would be a 200 with an empty body.
		rec.Outcome = access.Gone
		panic(http.ErrAbortHandler)
	}
	a := answerFor(err)
	rec.Outcome = a.outcome
	h := w.Header()
	switch {
	case a.status == http.StatusNotFound && req.from != nil && !errors.As(err, &notCached{}):
		if h.Get("Cache-Control") == "" { // it may be for who shows a token alone
			h.Set("Cache-Control", req.from.maxAge(req.from.negative))
		}
	case a.status >= 500:
		h.Set("Retry-After", "5")
		h.Set("Cache-Control", "no-store")
	default:
		h.Set("Cache-Control", "no-store")
	}
	text, tail := a.text, ""
	if a.outcome == access.Trouble {
		rec.Trouble(a.outcome, err)
	}
	denied := (*deniedError)(nil)
	verdict := errors.As(err, &denied) // whose text is complete
	if what := req.what(); what != "" && !verdict && !strings.HasPrefix(text, what+": ") {
		text = what + ": " + text
	}
	if line := rec.CodeLine(); line != "" && !(verdict && !denied.unsure()) { // a rule has not said no because of that
		tail = "\n" + line
	}
	if id := rec.ID(); id != "" && a.status != http.StatusNotFound && !verdict {
		tail += "\nrequest " + id
	}
	refuse(w, r, a.status, withTail(text, tail))
}

// withTail puts tail behind text, which is cut so that all of tail is shown.
func withTail(text, tail string) string {
	if tail == "" {
		return text
	}
	lines := strings.SplitN(clientText(text), "\n", maxLines+1)
	lines = lines[:min(len(lines), maxLines-strings.Count(tail, "\n"))]
	text = strings.TrimRight(strings.Join(lines, "\n"), "\n")
	return text[:min(len(text), maxText-1-len(tail))] + tail
}

// refuse writes a failure as the go command can show it: text/plain, at most
// eight lines and 648 bytes, no blank line, nothing but printable ASCII
// (cmd/go/internal/web; measured in its go1.26).
func refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	h := w.Header()
	h.Del("ETag")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	text = clientText(text)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		io.WriteString(w, text)
	}
}

// Limits of what the go command prints of an error.
const (
	maxLines = 8
	maxText  = 640
)

// clientText cuts text down to what the go command prints.
func clientText(text string) string {
	var b strings.Builder
	lines := 0
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(strings.Map(printable, line))
		if line == "" {
			continue
		}
		room := maxText - 1 - b.Len()
		if lines++; lines > maxLines || room <= 0 {
			break
		}
		line = strings.TrimSpace(line[:min(room, len(line))])
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// printable keeps ASCII and replaces what a terminal might act upon.
func printable(r rune) rune {
	if r == '\t' || r == '\r' {
		return ' '
	}
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}

// seconds formats d for Cache-Control and Age.
func seconds(d time.Duration) string { return strconv.FormatInt(int64(max(d, 0)/time.Second), 10) }
