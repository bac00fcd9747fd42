package ziphash

import (
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// CheckModule reports why the go command would not unpack these entries as
// module m. A hash that a checksum database confirms makes it needless; it is
// for what no database knows: private modules and files of another program.
// The rules are those of golang.org/x/mod/zip.CheckZip, which wants a file and
// holds ten times as much memory. An error wraps ErrFormat or ErrLimit.
func (l *Listing) CheckModule(m module.Version) error {
	if err := module.Check(m.Path, m.Version); err != nil {
		return fmt.Errorf("ziphash: %w: %w", ErrFormat, err)
	}
	if v := module.CanonicalVersion(m.Version); v != m.Version {
		return fmt.Errorf("ziphash: %w: version %q is not canonical", ErrFormat, m.Version)
	}
	root := m.Path + "@" + m.Version + "/"
	folded := make(map[string]spelling, l.n)
	for i := range l.n {
		prefix, rest := l.name(i)
		name := prefix + string(rest)
		inside, ok := strings.CutPrefix(name, root)
		if !ok {
			return fmt.Errorf("ziphash: %w: %.200q is outside of %q", ErrFormat, name, root)
		}
		if inside == "" {
			continue // the directory of the module itself
		}
		err := checkName(inside, folded)
		if err == nil {
			err = checkSize(inside, int64(l.at(i).unpacked))
		}
		if err != nil {
			return fmt.Errorf("ziphash: entry %.200q: %w", name, err)
		}
	}
	return nil
}

// ReadFile returns the content of the file with this name, at most limit bytes
// of it, from the archive in r that Check has passed on. If there is none the
// error is fs.ErrNotExist, and one that is larger is ErrLimit.
func (l *Listing) ReadFile(r io.ReaderAt, name string, limit int64) ([]byte, error) {
	for i := range l.n {
		prefix, rest := l.name(i)
		if len(prefix)+len(rest) != len(name) || prefix+string(rest) != name {
			continue
		}
		data, err := l.at(i).read(r, limit)
		if err != nil {
			return nil, fmt.Errorf("ziphash: entry %.200q: %w", name, err)
		}
		return data, nil
	}
	return nil, fmt.Errorf("ziphash: entry %.200q: %w", name, fs.ErrNotExist)
}

func (e *entry) read(r io.ReaderAt, limit int64) ([]byte, error) {
	if int64(e.unpacked) > limit {
		return nil, fmt.Errorf("%w: %d bytes", ErrLimit, e.unpacked)
	}
	var head [localLen]byte
	if _, err := r.ReadAt(head[:], int64(e.offset)); err != nil {
		return nil, err
	}
	h := parseLocal(head[:])
	packed := io.NewSectionReader(r, int64(e.offset)+localLen+int64(h.name+h.extra), int64(e.packed))
	data := make([]byte, e.unpacked)
	var from io.Reader = packed
	if e.method == methodDeflate {
		from = flate.NewReader(packed)
	}
	_, err := io.ReadFull(from, data)
	return data, err
}

// spelling is how a path was first written, and whether it is a directory.
type spelling struct {
	path string
	dir  bool
}

// checkName judges the name of a file, or of a directory that ends in "/", with
// regard to those in folded, and adds it there.
func checkName(name string, folded map[string]spelling) error {
	file, dir := strings.CutSuffix(name, "/")
	if err := module.CheckFilePath(file); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := collide(spelling{file, dir}, folded); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if !dir && strings.EqualFold(path.Base(file), "go.mod") && file != "go.mod" {
		return fmt.Errorf("%w: go.mod below the root or not in lower case", ErrFormat)
	}
	return nil
}

// collide reports whether p or a directory above it is in folded already, as
// something else or spelled in other cases, and adds them. That no name is
// there twice is known.
func collide(p spelling, folded map[string]spelling) error {
	for {
		key := fold(p.path)
		if old, ok := folded[key]; ok {
			switch {
			case old.path != p.path:
				return fmt.Errorf("differs only in case from %.200q", old.path)
			case old.dir != p.dir:
				return errors.New("both a file and a directory")
			}
			return nil // and so are the directories above it
		}
		folded[key] = p
		parent := path.Dir(p.path)
		if parent == "." {
			return nil
		}
		p = spelling{parent, true}
	}
}

// checkSize judges the size of the two files that the go command reads whole.
func checkSize(name string, size int64) error {
	if name == "go.mod" && size > modzip.MaxGoMod || name == "LICENSE" && size > modzip.MaxLICENSE {
		return fmt.Errorf("%w: %d bytes", ErrLimit, size)
	}
	return nil
}

// fold maps strings to the same one if strings.EqualFold holds for them.
func fold(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			return strings.Map(foldRune, s)
		}
	}
	return s
}

// foldRune returns the least of the runes that are r but for case, and of
// letters of ASCII the small one.
func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	if 'A' <= least && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}
