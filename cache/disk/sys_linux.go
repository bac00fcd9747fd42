package disk

import (
	"errors"
	"fmt"
	"os"
	"path"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/durable"
)

const checksModes = true

// handle opens files below a directory with one system call. os.Root makes two
// for each element of the path, which is four times slower, and follows links.
type handle struct {
	dir *os.File
	// old is set where the kernel has no openat2, or a sandbox forbids it.
	old atomic.Bool
}

func (h *handle) open(root *os.Root) (err error) {
	h.dir, err = root.Open(".")
	return err
}

func (h *handle) close() error {
	if h.dir == nil {
		return nil
	}
	return h.dir.Close()
}

// openFile opens without following any link, and without waiting for the other
// end of a pipe.
func (h *handle) openFile(root *os.Root, name string) (descriptor, error) {
	return h.openat2(root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
}

func (h *handle) openDir(root *os.Root, name string) (*os.File, error) {
	fd, err := h.openat2(root, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), h.dir.Name()+"/"+name), nil
}

func (h *handle) openat2(root *os.Root, name string, flags int) (descriptor, error) {
	if h.old.Load() {
		return openOld(root, name, flags)
	}
	f, err := h.open2(name, unix.OpenHow{Flags: uint64(flags)})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		h.old.Store(true)
		return openOld(root, name, flags)
	}
	return f, err
}

// open2 makes the system call. It follows no link and does not leave the
// directory.
func (h *handle) open2(name string, how unix.OpenHow) (descriptor, error) {
	how.Flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	how.Resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	for {
		fd, err := unix.Openat2(int(h.dir.Fd()), name, &how)
		switch err {
		case nil:
			return descriptor(fd), nil
		case unix.EINTR, unix.EAGAIN:
			continue
		}
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
}

// create creates a file for reading and writing.
func (h *handle) create(root *os.Root, name string) (*os.File, error) {
	if !h.old.Load() {
		fd, err := h.open2(name, unix.OpenHow{Flags: unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, Mode: 0o644})
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), h.dir.Name()+"/"+name), nil
		case !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM):
			return nil, err
		}
	}
	return durable.Create(root, name, nil, durable.Options{})
}

// move renames. The directories are open, so that no path is walked and no link
// followed.
func (h *handle) move(_ *os.Root, r rename) error {
	for {
		err := unix.Renameat(int(r.from.Fd()), path.Base(r.tmp), int(r.to.Fd()), path.Base(r.name))
		switch err {
		case nil:
			return nil
		case unix.EINTR:
			continue
		}
		return &os.LinkError{Op: "rename", Old: r.tmp, New: r.name, Err: err}
	}
}

// missing reports whether there is nothing at name for sure.
func (s *Store) missing(name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(int(s.top.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT
}

// openOld looks at the last element only.
func openOld(root *os.Root, name string, flags int) (descriptor, error) {
	fi, err := root.Lstat(name)
	if err != nil {
		return -1, err
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		return -1, &os.PathError{Op: "open", Path: name, Err: unix.ELOOP}
	}
	f, err := root.OpenFile(name, flags, 0)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return descriptor(fd), nil
}

// descriptor is an open file of which nobody else knows.
type descriptor int

func (d descriptor) readAt(p []byte, off int64) (int, error) {
	for {
		n, err := unix.Pread(int(d), p, off)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

func (d descriptor) sendfile(socket uintptr, off int64, n int) (int, error) {
	sent, err := unix.Sendfile(int(socket), int(d), &off, n)
	if err == unix.EINVAL || err == unix.EPERM { // a file system, or a sandbox, that does not do it
		err = errors.ErrUnsupported
	}
	return max(sent, 0), err
}

func (d descriptor) close() error { return unix.Close(int(d)) }

// What an open file is.
const (
	plain = iota
	directory
	nameless // deleted or replaced since it was opened
	foreign  // of another type, or with a second name
)

func (d descriptor) stat() (identity, int, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(d), &st); err != nil {
		return identity{}, 0, err
	}
	id := identity{ino: st.Ino, size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return id, directory, nil
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1:
		return id, foreign, nil
	case st.Nlink == 0:
		return id, nameless, nil
	}
	return id, plain, nil
}

// leadsTo reports whether name still is the file id.
func (s *Store) leadsTo(name string, id identity) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(s.top.dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Ino == id.ino
}

// Space implements the function that cache.LimitConfig.Space wants.
func (s *Store) Space() (cache.Space, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(s.top.dir.Fd()), &st); err != nil {
		return cache.Space{}, fmt.Errorf("cache directory %s: free space: %w", s.dir, err)
	}
	size := int64(st.Bsize)
	return cache.Space{
		Free: int64(st.Bavail) * size, Total: int64(st.Blocks) * size,
		FreeFiles: int64(st.Ffree), TotalFiles: int64(st.Files),
	}, nil
}

// lockRange takes, without waiting, or releases byte i of a file for this
// descriptor.
func lockRange(f *os.File, i int64, kind int16) (bool, error) {
	lk := unix.Flock_t{Type: kind, Start: i, Len: 1}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lk)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

const (
	lockWrite   = unix.F_WRLCK
	lockRelease = unix.F_UNLCK
)
