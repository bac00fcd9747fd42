package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// usage is the space that a directory takes.
type usage struct {
	Files     int
	Apparent  int64 // bytes in its files
	Allocated int64 // bytes of its disk blocks, directories included
}

// diskUsage adds up the files below dir. Files that vanish meanwhile are
// passed over.
func diskUsage(dir string) (u usage, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return ignoreAbsent(err)
		}
		st, err := e.Info()
		if err != nil {
			return ignoreAbsent(err)
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			u.Allocated += sys.Blocks * 512
		}
		if st.Mode().IsRegular() {
			u.Files++
			u.Apparent += st.Size()
		}
		return nil
	})
	return u, err
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// peakRSS returns the largest resident memory that process pid has had, in
// bytes. It works where /proc does.
func peakRSS(pid int) (int64, error) {
	return statusField(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:")
}

// statusField reads a number of kB from a file of "Name: 123 kB" lines and
// returns it in bytes.
func statusField(file, field string) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		rest, ok := strings.CutPrefix(s.Text(), field)
		if !ok {
			continue
		}
		kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
		return kb << 10, err
	}
	return 0, errors.Join(fmt.Errorf("%s: no %s", file, field), s.Err())
}

// machine describes where the numbers were taken, in one line.
func machine(ctx context.Context, goCmd string) string {
	parts := []string{fmt.Sprintf("%d cores", runtime.NumCPU())}
	if model := cpuModel("/proc/cpuinfo"); model != "" {
		parts[0] += " (" + model + ")"
	}
	if mem, err := statusField("/proc/meminfo", "MemTotal:"); err == nil {
		parts = append(parts, fmt.Sprintf("%.0f GiB", float64(mem)/(1<<30)))
	}
	if v, err := exec.CommandContext(ctx, goCmd, "version").Output(); err == nil {
		parts = append(parts, strings.TrimPrefix(strings.TrimSpace(string(v)), "go version "))
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		parts = append(parts, "load at the start "+strings.Join(strings.Fields(string(load))[:1], ""))
	}
	return strings.Join(parts, ", ")
}

func cpuModel(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// scratchRoot is where caches are made that a measurement fills and forgets:
// in memory if there is room, because a disk shared with others, or one that
// must release the blocks of the caches before, takes several times the time
// that is to be measured, and not twice the same. Otherwise it is other.
func scratchRoot(other string) string {
	const shm, room = "/dev/shm", 8 << 30
	var st syscall.Statfs_t
	if fileSystem(shm) != "tmpfs" || syscall.Statfs(shm, &st) != nil || int64(st.Bavail)*int64(st.Bsize) < room {
		return other
	}
	if available, err := statusField("/proc/meminfo", "MemAvailable:"); err != nil || available < room {
		return other
	}
	return shm
}

// fileSystem names the kind of file system that dir is on.
func fileSystem(dir string) string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return "an unknown file system"
	}
	switch uint32(st.Type) { // statfs(2)
	case 0x01021994:
		return "tmpfs"
	case 0xef53:
		return "ext4"
	case 0x58465342:
		return "xfs"
	case 0x9123683e:
		return "btrfs"
	case 0x794c7630:
		return "overlayfs"
	}
	return fmt.Sprintf("file system %#x", uint32(st.Type))
}

// cacheRoot is where modbench keeps what is worth keeping between runs.
func cacheRoot() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "modbench"), nil
}
