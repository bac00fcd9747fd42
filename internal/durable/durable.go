// Package durable publishes files: what appears under a name is whole, and
// where that is asked for it survives a power failure.
//
// The order of system calls is always
//
//	openat(tmp, O_CREAT|O_EXCL)  by the caller of Publish, or by WriteFile
//	write(tmp) …
//	fsync(tmp)                   if Options.Sync
//	renameat(tmp, name)          or linkat + unlinkat if Options.NoReplace
//	fsync(directory of name)     if Options.Sync
//
// where tmp lies on the file system of name. A process that is killed at any
// moment leaves either the old file, or the new one, and perhaps tmp.
package durable

// BUG: a drive that acknowledges a flush it has not made, and a network file
// system whose rename is not atomic, break what is promised here. Nothing is
// promised about the order in which two files published without Sync survive
// a power failure: only their own digests can tell.

import (
	"io/fs"
	"os"
	"path"
)

// Options say what a published file must survive. The zero value is a plain
// atomic replacement.
type Options struct {
	// Sync flushes the file before, and its directory after, it gets its name.
	Sync bool
	// NoReplace refuses, with fs.ErrExist, a name that is taken.
	NoReplace bool
	// Perm of a file that WriteFile creates, before the umask. Default 0644.
	Perm fs.FileMode
}

// WriteFile publishes data under name. It creates, and on failure removes, tmp.
// Both are slash-separated paths below root and their directories exist.
func WriteFile(root *os.Root, tmp, name string, data []byte, o Options) error {
	f, err := Create(root, tmp, data, o)
	if err != nil {
		return err
	}
	err = Publish(root, f, tmp, name, o)
	if err != nil {
		_ = root.Remove(tmp)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// Create writes data into the new file tmp, ready for Publish. On failure
// there is no tmp. The caller closes the file.
func Create(root *os.Root, tmp string, data []byte, o Options) (*os.File, error) {
	perm := o.Perm
	if perm == 0 {
		perm = 0o644
	}
	f, err := root.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Close()
		_ = root.Remove(tmp)
		return nil, err
	}
	return f, nil
}

// Publish gives the finished file tmp, open as f, the name name. f is the
// descriptor that wrote it, because only that one is sure to hear of an error
// in writing back; it stays open. A failed fsync is final: the pages are clean
// afterwards and a second one would succeed without the bytes being on disk.
// On failure tmp is left to the caller, who removes it.
func Publish(root *os.Root, f *os.File, tmp, name string, o Options) error {
	return Move(f, o, func() error { return move(root, tmp, name, o.NoReplace) }, func() error { return SyncDir(root, path.Dir(name)) })
}

// Move is Publish for who has a shorter way to the file and its directory than
// by their paths: move gives f its name, and syncDir flushes the directory.
func Move(f *os.File, o Options, move, syncDir func() error) error {
	if o.Sync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := move(); err != nil || !o.Sync {
		return err
	}
	return syncDir()
}

func move(root *os.Root, tmp, name string, noReplace bool) error {
	if !noReplace {
		return root.Rename(tmp, name)
	}
	if err := root.Link(tmp, name); err != nil {
		return err
	}
	return root.Remove(tmp)
}

// SyncDir flushes the entries of a directory.
func SyncDir(root *os.Root, dir string) error {
	d, err := root.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// MkdirAll creates dir and its parents. If o.Sync is set and any were missing,
// the whole chain is flushed, so that a file published in it cannot be lost
// with its directory.
func MkdirAll(root *os.Root, dir string, o Options) error {
	if dir == "." {
		return nil
	}
	perm := o.Perm
	if perm == 0 {
		perm = 0o755
	}
	missing := false
	if o.Sync {
		_, err := root.Stat(dir)
		missing = err != nil
	}
	if err := root.MkdirAll(dir, perm); err != nil || !missing {
		return err
	}
	for d := path.Dir(dir); ; d = path.Dir(d) {
		if err := SyncDir(root, d); err != nil || d == "." {
			return err
		}
	}
}
