package access

import (
	"bytes"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// Liner is a slog.Handler that takes a finished line: a line for each request
// is most of what a busy proxy logs, and building it from attributes costs as
// much as answering from memory does. The line is what slog.TextHandler or
// slog.JSONHandler would have written.
type Liner interface {
	slog.Handler
	// AppendLine lets l append one line, JSON or text as the handler writes, and
	// keeps it as one of level. l may append nothing.
	AppendLine(level slog.Level, l Line)
}

// Line is what a Liner takes. It is valid only until AppendLine returns.
type Line interface {
	Append(dst []byte, json bool) []byte
}

// lines writes one line for each request.
type lines struct {
	log   *slog.Logger
	liner Liner // nil: the slow way, by attributes
	last  atomic.Pointer[second]
}

func newLines(log *slog.Logger) *lines {
	if log == nil {
		return nil
	}
	liner, _ := log.Handler().(Liner)
	return &lines{log: log, liner: liner}
}

// second is the text of one second, which many lines have in common.
type second struct {
	unix       int64
	date, zone string
}

// second returns the text of the second of at, in local time.
func (l *lines) second(at time.Time) *second {
	if s := l.last.Load(); s != nil && s.unix == at.Unix() {
		return s
	}
	s := &second{at.Unix(), at.Format("2006-01-02T15:04:05"), at.Format("Z07:00")}
	l.last.Store(s)
	return s
}

// line is one request, and what is said of it.
type line struct {
	Response
	req     *http.Request
	at      time.Time
	elapsed time.Duration

	second  *second
	encoder encoder
}

func (l *lines) write(n *line) {
	ctx, level := n.req.Context(), n.level()
	if !l.log.Enabled(ctx, level) {
		return
	}
	if l.liner != nil {
		n.second = l.second(n.at)
		if l.liner.AppendLine(level, n); !n.encoder.odd {
			return
		}
	}
	var a attrs
	n.fields(&a)
	r := slog.NewRecord(n.at, level, message, 0)
	r.AddAttrs(a...)
	l.log.Handler().Handle(ctx, r)
}

func (n *line) level() slog.Level {
	if n.Outcome == Trouble || n.Outcome == Denied {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// Append implements Line: it writes the line the fast way. It appends nothing, and
// leaves the encoder odd, if a text needs quotes or escapes, for which slog knows
// the rules.
func (n *line) Append(dst []byte, json bool) []byte {
	n.encoder = encoder{dst: dst, json: json}
	n.encoder.begin(n.second, n.at.Nanosecond(), n.level())
	n.fields(&n.encoder)
	if n.encoder.odd {
		return dst
	}
	return n.encoder.end()
}

// message is the text of every line.
const message = "request"

// fields is a receiver of the fields of a line.
type fields interface {
	id(r *Record)
	text(key, value string)
	number(key string, value int64)
	duration(key string, value time.Duration)
}

// fields names all that is said of a request, in order.
func (n *line) fields(f fields) {
	f.id(&n.Record)
	f.text("method", n.req.Method)
	f.text("kind", n.Kind)
	f.text("module", n.Module)
	f.text("version", n.Version)
	f.text("outcome", n.Outcome.String())
	f.number("status", int64(n.Status))
	f.number("bytes", n.Bytes)
	f.duration("duration", n.elapsed)
	f.text("client", n.req.RemoteAddr)
	if n.Caller != "" {
		f.text("caller", n.Caller)
	}
	if n.Decision != "" {
		f.text("decision", n.Decision)
		f.text("rule", n.Rule)
	}
	if n.Module == "" {
		f.text("path", clip(n.req.URL.Path))
	}
	if n.Code != "" {
		f.text("code", n.Code)
	}
	if n.Err != nil {
		f.text("error", clip(n.Err.Error()))
	}
}

// clip bounds what a client or an upstream can write into a log line.
func clip(s string) string {
	const most = 1024
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// attrs gathers fields for slog.
type attrs []slog.Attr

func (a *attrs) id(r *Record)                       { a.text("id", r.ID()) }
func (a *attrs) text(k, v string)                   { *a = append(*a, slog.String(k, v)) }
func (a *attrs) number(k string, v int64)           { *a = append(*a, slog.Int64(k, v)) }
func (a *attrs) duration(k string, v time.Duration) { *a = append(*a, slog.Duration(k, v)) }

// encoder appends fields as slog's own handlers do.
type encoder struct {
	dst  []byte
	json bool
	odd  bool // a text needs more than this encoder can
}

func (e *encoder) begin(s *second, nanos int, level slog.Level) {
	if e.json {
		e.dst = append(append(e.dst, `{"time":"`...), s.date...)
		if nanos > 0 {
			e.fraction(nanos, 9)
			e.dst = bytes.TrimRight(e.dst, "0")
		}
		e.dst = append(append(e.dst, s.zone...), '"')
	} else {
		e.dst = append(append(e.dst, "time="...), s.date...)
		e.fraction(nanos/1e6, 3)
		e.dst = append(e.dst, s.zone...)
	}
	e.text("level", level.String())
	e.text("msg", message)
}

// fraction appends n as digits behind a point.
func (e *encoder) fraction(n, digits int) {
	e.dst = append(e.dst, ".000000000"[:1+digits]...)
	for i := len(e.dst) - 1; n > 0; i-- {
		e.dst[i] += byte(n % 10)
		n /= 10
	}
}

func (e *encoder) end() []byte {
	if e.json {
		e.dst = append(e.dst, '}')
	}
	return append(e.dst, '\n')
}

func (e *encoder) key(k string) {
	if e.json {
		e.dst = append(append(append(e.dst, `,"`...), k...), `":`...)
	} else {
		e.dst = append(append(append(e.dst, ' '), k...), '=')
	}
}

func (e *encoder) id(r *Record) {
	if r.ids == nil {
		e.text("id", "")
		return
	}
	e.key("id")
	if e.json {
		e.dst = append(e.dst, '"')
	}
	if e.dst = r.appendID(e.dst); e.json {
		e.dst = append(e.dst, '"')
	}
}

func (e *encoder) text(k, v string) {
	e.key(k)
	e.odd = e.odd || !plain(v)
	if e.json || v == "" {
		e.dst = append(append(append(e.dst, '"'), v...), '"')
		return
	}
	e.dst = append(e.dst, v...)
}

func (e *encoder) number(k string, v int64) {
	e.key(k)
	e.dst = strconv.AppendInt(e.dst, v, 10)
}

func (e *encoder) duration(k string, v time.Duration) {
	if e.json {
		e.number(k, int64(v))
		return
	}
	e.key(k)
	e.dst = append(e.dst, v.String()...)
}

// plain reports whether s surely needs no quotes in text and no escapes in JSON.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ', c >= 0x7f, c == '"', c == '\\', c == '=', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}
