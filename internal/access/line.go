package access

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// Liner is a slog.Handler that takes a finished line: a line for each request
// is most of what a busy proxy logs, and building it from attributes costs as
// much as answering from memory does. The line is what slog.TextHandler or
// slog.JSONHandler would have written.
type Liner interface {
	slog.Handler
	// AppendLine lets build append one line, JSON or text as the handler
	// writes, and keeps it as one of level. build may append nothing.
	AppendLine(level slog.Level, build func(dst []byte, json bool) []byte)
}

// lines writes one line for each request.
type lines struct {
	log   *slog.Logger
	liner Liner // nil: the slow way, by attributes
}

func newLines(log *slog.Logger) *lines {
	if log == nil {
		return nil
	}
	liner, _ := log.Handler().(Liner)
	return &lines{log, liner}
}

// line is what is said of one request.
type line struct {
	*Response
	req     *http.Request
	at      time.Time
	elapsed time.Duration
}

func (l *lines) write(n line) {
	level := slog.LevelInfo
	if n.Outcome == Trouble || n.Outcome == Denied {
		level = slog.LevelWarn
	}
	ctx := n.req.Context()
	if !l.log.Enabled(ctx, level) || l.liner != nil && n.appendTo(l.liner, level) {
		return
	}
	var a attrs
	n.fields(&a)
	r := slog.NewRecord(n.at, level, message, 0)
	r.AddAttrs(a...)
	l.log.Handler().Handle(ctx, r)
}

// appendTo writes the line the fast way. It reports false, and writes nothing,
// if a text needs quotes or escapes, for which slog knows the rules.
func (n line) appendTo(l Liner, level slog.Level) bool {
	odd := false
	l.AppendLine(level, func(dst []byte, json bool) []byte {
		e := encoder{dst: dst, json: json}
		e.begin(n.at, level)
		n.fields(&e)
		if odd = e.odd; odd {
			return dst
		}
		return e.end()
	})
	return !odd
}

// message is the text of every line.
const message = "request"

// fields is a receiver of the fields of a line.
type fields interface {
	text(key, value string)
	number(key string, value int64)
	duration(key string, value time.Duration)
}

// fields names all that is said of a request, in order.
func (n line) fields(f fields) {
	f.text("id", n.ID())
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

func (a *attrs) text(k, v string)                   { *a = append(*a, slog.String(k, v)) }
func (a *attrs) number(k string, v int64)           { *a = append(*a, slog.Int64(k, v)) }
func (a *attrs) duration(k string, v time.Duration) { *a = append(*a, slog.Duration(k, v)) }

// encoder appends fields as slog's own handlers do.
type encoder struct {
	dst  []byte
	json bool
	odd  bool // a text needs more than this encoder can
}

func (e *encoder) begin(at time.Time, level slog.Level) {
	if e.json {
		e.dst = append(e.dst, `{"time":"`...)
		e.dst = at.AppendFormat(e.dst, time.RFC3339Nano)
		e.dst = append(e.dst, '"')
	} else {
		e.dst = append(e.dst, "time="...)
		e.dst = at.AppendFormat(e.dst, "2006-01-02T15:04:05.000Z07:00")
	}
	e.text("level", level.String())
	e.text("msg", message)
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
