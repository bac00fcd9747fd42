package sumdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/modgate/modgate/internal/access"
	"golang.org/x/mod/module"
)

// fail answers a lookup of mod, or a request for a tile or a head where mod is
// empty, that failed with err. Only proven absence is 404: upon anything else
// the go command stops, with the text for its user.
func (m *Mirror) fail(w http.ResponseWriter, r *http.Request, d *DB, mod module.Version, err error) {
	rec := access.From(w)
	rec.Trouble(access.Trouble, err)
	var timeout interface{ Timeout() bool }
	switch {
	case r.Context().Err() != nil:
		rec.Outcome, rec.Code = access.Gone, ""
		refuse(w, r, http.StatusServiceUnavailable, "the request was cancelled")
	case errors.Is(err, ErrClosed):
		refuse(w, r, http.StatusServiceUnavailable, "server restarting: try again")
	case errors.Is(err, fs.ErrNotExist) && mod.Path == "":
		rec.Outcome, rec.Code = access.Absent, ""
		refuse(w, r, http.StatusNotFound, "no such tile")
	case errors.Is(err, fs.ErrNotExist):
		m.negative.add(d.name, mod)
		rec.Outcome, rec.Code = access.Absent, ""
		refuse(w, r, http.StatusNotFound, fmt.Sprintf("%s: not found in %s", mod, d.name))
	case errors.Is(err, ErrUntrusted):
		refuse(w, r, http.StatusServiceUnavailable, d.alarmText(err))
	case errors.Is(err, ErrForged):
		refuse(w, r, http.StatusBadGateway, d.alarmText(err))
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		refuse(w, r, http.StatusGatewayTimeout, fmt.Sprintf("%s took too long to answer; please try again", d.name))
	default:
		refuse(w, r, http.StatusBadGateway, fmt.Sprintf("%s cannot be reached at present; please try again", d.name))
	}
}

// privateText tells a developer how to stop asking for private modules.
func (m *Mirror) privateText(d *DB, path string) string {
	setting := quote("GONOSUMDB=" + m.private)
	if m.private == "" || len(setting) > 260 {
		setting = quote("GONOSUMDB=" + path)
	}
	return fmt.Sprintf("%.120s is private here: its name is not told to %s.\n"+
		"Keep the go command from asking for it:\n"+
		"\tgo env -w %s\n"+
		"(if you have set GOPRIVATE or GONOSUMDB, add it there)", path, d.name, setting)
}

// quote protects s from a shell that would expand the patterns in it.
func quote(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool {
		return !strings.ContainsRune("-_=+./:,@%", c) && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Bounds of what the go command shows of a text
// (cmd/go/internal/web: maxErrorDetailLines, maxErrorDetailBytes), with the
// line that names the request.
const (
	maxTextLines = 8
	maxTextBytes = 648
)

// refuse answers with a plain text that the go command shows to its user. Its
// last line, but of a 404, names the request as the log does.
func refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if status >= 500 {
		h.Set("Retry-After", "5")
	}
	last := access.From(w).CodeLine()
	if id := access.From(w).ID(); id != "" && status != http.StatusNotFound {
		if last != "" {
			last += "\n"
		}
		last += "request " + id
	}
	text = clean(text, last)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, text)
	}
}

// clean makes text one that the go command shows: one that is too long, has
// control characters or is not UTF-8 it would drop. last, which is clean, has
// the lines that stay whatever else must go; it may be empty.
func clean(text, last string) string {
	text = strings.Map(func(c rune) rune {
		if c == utf8.RuneError || c != '\n' && c != '\t' && (c < ' ' || c >= 0x7f) {
			return '?'
		}
		return c
	}, text)
	maxLines, maxBytes := maxTextLines, maxTextBytes-1
	if last != "" {
		maxLines, maxBytes, last = maxLines-1-strings.Count(last, "\n"), maxBytes-len(last)-1, last+"\n"
	}
	lines := strings.Split(text, "\n")
	text = strings.Join(lines[:min(len(lines), maxLines)], "\n")
	return strings.TrimRight(text[:min(len(text), maxBytes)], "\n") + "\n" + last
}

// negative remembers for a moment what a database did not know, because
// clients ask twice (over TLS each 4xx: the go command tries other
// credentials).
type negative struct {
	mu    sync.Mutex
	until map[string]time.Time
}

const (
	negativeFor = 10 * time.Second
	maxNegative = 4096
)

func newNegative() *negative { return &negative{until: make(map[string]time.Time)} }

func (n *negative) has(database string, m module.Version) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().Before(n.until[database+" "+m.String()])
}

func (n *negative) add(database string, m module.Version) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.until) >= maxNegative {
		clear(n.until)
	}
	n.until[database+" "+m.String()] = time.Now().Add(negativeFor)
}
