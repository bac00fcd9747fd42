package disk

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/modgate/modgate/internal/durable"
)

// keepQuarantined is how many objects wait for a person; older ones go, so that
// a dying disk is not filled with its own debris.
const keepQuarantined = 16

// Quarantine implements cache.Quarantiner. The object is moved, with its
// attributes and the reason, to .modgate/quarantine/<time>-<random>.
func (s *Store) Quarantine(ctx context.Context, name, reason string) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	unlock, err := s.lock.name(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	defer s.meta.forget(name)
	if err := s.quarantine(name, reason); err != nil {
		return fmt.Errorf("quarantine %s: %w", name, err)
	}
	return nil
}

// quarantine is Quarantine under the lock of name. Where nothing can be moved
// (a full disk), the object is removed: it must not be served again.
func (s *Store) quarantine(name, reason string) error {
	if err := s.checkDir(path.Dir(name)); err != nil {
		return absentIsNil(err)
	}
	fi, err := s.root.Lstat(name)
	if err != nil {
		return absentIsNil(err)
	}
	if fi.IsDir() {
		return nil
	}
	dir := fmt.Sprintf("%s/%s-%s", quarantineDir, time.Now().UTC().Format("20060102T150405.000"), rand.Text()[:8])
	s.log.Warn("object put aside", "name", name, "reason", reason, "dir", dir)
	if err := s.moveTo(dir, name); err != nil {
		s.log.Warn("object removed, it cannot be put aside", "name", name, "err", err)
		return s.remove(name)
	}
	note := fmt.Sprintf("%s\n%s\n", name, reason)
	if err := durable.WriteFile(s.root, dir+"/reason.tmp", dir+"/reason", []byte(note), durable.Options{}); err != nil {
		s.log.Warn("cannot note the reason", "dir", dir, "err", err)
	}
	s.trimQuarantine()
	return nil
}

func (s *Store) moveTo(dir, name string) error {
	if err := s.root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := s.root.Rename(name, dir+"/object"); err != nil {
		return err
	}
	err := s.root.Rename(attrName(name), dir+"/attr")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *Store) trimQuarantine() {
	entries, err := fs.ReadDir(s.root.FS(), quarantineDir)
	if err != nil {
		return
	}
	for i := 0; i < len(entries)-keepQuarantined; i++ {
		if err := s.root.RemoveAll(quarantineDir + "/" + entries[i].Name()); err != nil {
			s.log.Warn("cannot empty the quarantine", "err", err)
		}
	}
}
