package tlsmgr

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger returns a logger for certmagic that writes to log. What certmagic
// calls information is debugging to us: we write our own lines about what
// matters.
func zapLogger(log *slog.Logger) *zap.Logger { return zap.New(&zapCore{log: log}) }

type zapCore struct {
	log  *slog.Logger
	with []zapcore.Field
}

func slogLevel(l zapcore.Level) slog.Level {
	if l >= zapcore.WarnLevel {
		return slog.LevelWarn // errors too: each is either retried or comes back to us
	}
	return slog.LevelDebug
}

// Enabled reports whether lines of the level are written.
func (c *zapCore) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.TODO(), slogLevel(l))
}

// With returns a core that adds fields.
func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{c.log, append(c.with[:len(c.with):len(c.with)], fields...)}
}

// Check adds c to ce if the line is to be written.
func (c *zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write writes a line. Only texts, numbers and errors are taken over: certmagic
// logs its storage as a whole, and with it whatever a storage knows.
func (c *zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	var attrs []slog.Attr
	for _, f := range append(c.with[:len(c.with):len(c.with)], fields...) {
		switch f.Type {
		case zapcore.StringType:
			attrs = append(attrs, slog.String(f.Key, firstLine(f.String)))
		case zapcore.ErrorType:
			if err, ok := f.Interface.(error); ok {
				attrs = append(attrs, slog.String(f.Key, firstLine(withoutContact(err.Error()))))
			}
		case zapcore.Int64Type, zapcore.Int32Type:
			attrs = append(attrs, slog.Int64(f.Key, f.Integer))
		}
	}
	c.log.LogAttrs(context.TODO(), slogLevel(e.Level), "certmagic: "+e.Message, attrs...)
	return nil
}

// Sync has nothing to do.
func (c *zapCore) Sync() error { return nil }
