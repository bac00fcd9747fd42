package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// checkFiles looks at what the server reads.
func (s *Server) checkFiles() {
	step := s.base.step("files", "what the server reads, and who else may")
	for _, f := range s.cfg.Files {
		info, err := os.Stat(s.base.cfg.file(f.Path))
		if err == nil && !info.IsDir() {
			var in *os.File
			if in, err = os.Open(s.base.cfg.file(f.Path)); err == nil {
				in.Close()
			}
		}
		switch {
		case err != nil:
			s.base.found(step, FileUnreadable, err.Error(), "file", f.Path, "variable", f.Key)
		case f.Secret && s.base.cfg.OS != "windows" && info.Mode().Perm()&0o004 != 0:
			s.base.found(step, SecretReadable, fmt.Sprintf("mode %#o", info.Mode().Perm()), "file", f.Path, "variable", f.Key)
		default:
			step.saw("%s: %s, mode %#o", f.Key, f.Path, info.Mode().Perm())
		}
	}
}

// checkDirs looks at what the server writes.
func (s *Server) checkDirs() {
	step := s.base.step("directories", "what the server writes, and the space there")
	for _, d := range s.cfg.Dirs {
		if d.Lost != nil {
			s.base.found(step, DirLost, d.Lost.Error(), "file", d.Path, "variable", d.Key)
			continue
		}
		dir, err := existing(s.base.cfg.file(d.Path))
		if err == nil {
			err = writable(dir)
		}
		if user := otherOwner(dir); user != "" && s.foreign == "" {
			s.foreign = user
			s.base.found(step, OtherUser, dir+" belongs to "+user, "file", d.Path, "variable", d.Key, "value", user)
		}
		if err != nil {
			s.base.found(step, DirUnwritable, dir+": "+err.Error(), "file", d.Path, "variable", d.Key)
			continue
		}
		v, err := volumeOf(dir)
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		} else if err != nil {
			step.saw("%s: %s: %v", d.Key, d.Path, err)
			continue
		}
		step.saw("%s: %s, %s free of %s", d.Key, d.Path, bytesText(v.free), bytesText(v.size))
		s.judgeVolume(step, d, v)
	}
}

// existing returns dir, or the nearest one above it that is there.
func existing(dir string) (string, error) {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && info.IsDir():
			return dir, nil
		case err == nil:
			return dir, errors.New("is no directory")
		case !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir:
			return dir, err
		}
		dir = filepath.Dir(dir)
	}
}

// volume is the file system of a directory. Sizes are bytes; without inodes
// (btrfs, ZFS), both counts are 0.
type volume struct {
	size, free         uint64
	inodes, freeInodes uint64
}

func (s *Server) judgeVolume(step *Step, d Dir, v volume) {
	words := []string{"file", d.Path, "variable", d.Key}
	if v.free < v.size/20 && v.free < 20<<30 || v.free < 256<<20 {
		text := bytesText(v.free) + " free of " + bytesText(v.size)
		s.base.found(step, DiskLow, text, append(words, "value", text)...)
	}
	if v.inodes > 0 && v.freeInodes < v.inodes/20 {
		text := fmt.Sprintf("%d free of %d", v.freeInodes, v.inodes)
		s.base.found(step, InodesLow, text, append(words, "value", text)...)
	}
	if d.Max > 0 && uint64(d.Max) > v.size {
		s.base.found(step, CacheTooBig, bytesText(v.size)+" in all", append(words, "value", bytesText(uint64(d.Max)))...)
	}
}

// bytesText prints a size for people.
func bytesText(n uint64) string {
	for _, u := range []struct {
		name string
		size uint64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// fewFiles is how many open files are too few for a server.
const fewFiles = 4096

func (s *Server) checkLimits() {
	step := s.base.step("open files", "how many files this process may open")
	n, err := openFiles()
	if err != nil {
		step.Verdict = Skip
		return
	}
	step.saw("%d", n)
	if n < fewFiles {
		s.base.found(step, FewFiles, fmt.Sprintf("the hard limit is %d", n), "value", fmt.Sprint(n))
	}
}
