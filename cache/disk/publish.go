package disk

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/modgate/modgate/internal/durable"
)

// publish makes the attributes and then the bytes visible; see the package
// comment for what is found between the two.
func (s *Store) publish(name string, sp spooled, recs []record) error {
	t := s.target(name, recs[0].durability())
	defer t.close()
	if err := s.publishAttr(&t, name, recs); err != nil {
		return err
	}
	return t.give(sp, path.Base(name))
}

// writeAttr replaces the attribute file of name.
func (s *Store) writeAttr(name string, recs []record, o durable.Options) error {
	t := s.target(name, o)
	defer t.close()
	return s.publishAttr(&t, name, recs)
}

func (s *Store) publishAttr(t *target, name string, recs []record) error {
	data, err := encodeRecords(recs)
	if err != nil {
		return err
	}
	f, tmp, err := s.createSpool()
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = f.Write(data); err == nil {
		err = s.overEmptyDir(attrName(name), func() error {
			return t.give(spooled{f, tmp}, path.Base(attrName(name)))
		})
	}
	if err != nil {
		_ = s.unspool(tmp)
	}
	return err
}

// rename is how a file of the spool gets its name: both paths, and the open
// directories that they lead to.
type rename struct {
	from *os.File
	tmp  string
	to   *os.File
	name string
}

// target is the directory that files of the spool are given their names in. It
// is open from the first of them on, reached without a symbolic link.
type target struct {
	s   *Store
	dir string
	o   durable.Options
	at  *os.File // nil: not open
}

func (s *Store) target(name string, o durable.Options) target {
	return target{s: s, dir: path.Dir(name), o: o}
}

// give publishes a file as base, making the directory when it is missing: it
// may also be pruned by a Delete in the meantime.
func (t *target) give(sp spooled, base string) error {
	for try := range sweptAttempts {
		err := t.open()
		if err == nil {
			err = durable.Move(sp.f, t.o, func() error { return t.s.move(sp.tmp, t.at, t.dir, base) }, t.at.Sync)
		}
		if !errors.Is(err, fs.ErrNotExist) || try == sweptAttempts-1 {
			return err
		}
		t.close()
		if err := durable.MkdirAll(t.s.root, t.dir, t.o); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errBusy
}

func (t *target) open() (err error) {
	if t.at == nil {
		t.at, err = t.s.openDir(t.dir)
	}
	return err
}

func (t *target) close() {
	if t.at != nil {
		_ = t.at.Close()
		t.at = nil
	}
}

// overEmptyDir runs publish again if an empty directory was in the way.
func (s *Store) overEmptyDir(target string, publish func() error) error {
	err := publish()
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if fi, lerr := s.root.Lstat(target); lerr != nil || !fi.IsDir() || s.root.Remove(target) != nil {
		return err
	}
	return publish()
}

// clear makes way where Get found no object: an empty directory goes, a file
// that no reader would take for an object is put aside.
func (s *Store) clear(name string) error {
	if s.missing(name) {
		return nil
	}
	fi, err := s.root.Lstat(name)
	switch {
	case err != nil:
		return absentIsNil(err)
	case fi.IsDir():
		return s.root.Remove(name)
	}
	return s.quarantine(name, "a file without attributes")
}
