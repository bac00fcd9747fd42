//go:build linux || darwin

package doctor

import (
	"os"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// volumeOf returns the file system of a directory.
func volumeOf(dir string) (volume, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return volume{}, err
	}
	block := uint64(st.Bsize)
	return volume{size: st.Blocks * block, free: st.Bavail * block, inodes: st.Files, freeInodes: st.Ffree}, nil
}

// writable reports why this user may not write into a directory. Nothing is
// written to find out.
func writable(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

// openFiles returns how many files this process may open at most. Go raises the
// soft limit to that by itself.
func openFiles() (uint64, error) {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return uint64(limit.Max), err
}

// otherOwner returns the name of the user that a directory belongs to, or "" if
// that is us, or root, whose directories all share.
func otherOwner(dir string) string {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil || st.Uid == 0 || int(st.Uid) == os.Geteuid() {
		return ""
	}
	id := strconv.Itoa(int(st.Uid))
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}
