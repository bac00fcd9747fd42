package disk

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// locks serialise changes of a name, in this process by a mutex and between
// processes by a lock on one byte of a file. They are held while files are
// renamed, never while bytes come from a network. A name's mutex is taken
// before its byte; nobody holds two names.
type locks struct {
	mu   [lockShards]sync.Mutex
	file *os.File
	log  *slog.Logger
	warn sync.Once
}

const (
	lockShards = 256
	// lockPatience is how long another process may hold a name. It needs
	// milliseconds, unless it was stopped in the middle.
	lockPatience = 10 * time.Second
)

var errLocked = errors.New("another process that shares the cache directory holds the name")

func (l *locks) open(root *os.Root, log *slog.Logger) (err error) {
	l.log = log
	l.file, err = root.OpenFile(locksFile, os.O_RDWR|os.O_CREATE, 0o600)
	return err
}

func (l *locks) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// name locks name until unlock is called.
func (l *locks) name(ctx context.Context, name string) (unlock func(), err error) {
	i := hashName(name) % lockShards
	l.mu[i].Lock()
	if err := l.share(ctx, int64(i)); err != nil {
		l.mu[i].Unlock()
		return nil, err
	}
	return func() {
		_, _ = lockRange(l.file, int64(i), lockRelease)
		l.mu[i].Unlock()
	}, nil
}

func (l *locks) share(ctx context.Context, i int64) error {
	wait := time.Millisecond
	for end := time.Now().Add(lockPatience); ; {
		ok, err := lockRange(l.file, i, lockWrite)
		if err != nil {
			l.warn.Do(func() {
				l.log.Warn("no locks between processes here: only one modgate may use this cache directory", "err", err)
			})
			return nil
		}
		if ok {
			return nil
		}
		if time.Now().After(end) {
			return errLocked
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		wait = min(2*wait, 50*time.Millisecond)
	}
}
