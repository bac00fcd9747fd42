package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// dir is a directory in the layout of a GOPROXY, such as
// GOMODCACHE/cache/download or another proxy's store: a file URL in the list.
type dir struct {
	label string
	path  string
}

func (d *dir) name() string { return d.label }

func (d *dir) get(ctx context.Context, f file) ([]byte, error) {
	r, _, err := d.open(ctx, f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, f.max))
	if err != nil {
		return nil, d.error(f, err)
	}
	if err := checkStart(f, data[:min(len(data), sniff)]); err != nil {
		return nil, invalid(d.label, f.path, err)
	}
	return data, nil
}

func (d *dir) open(ctx context.Context, f file) (io.ReadCloser, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, d.error(f, err)
	}
	// Opened anew each time: the directory may be a mount that comes and goes.
	root, err := os.OpenRoot(d.path)
	if err != nil {
		// The directory itself is missing: that says nothing about modules.
		return nil, 0, d.error(f, opaque{err})
	}
	defer root.Close()
	name := filepath.FromSlash(strings.TrimPrefix(f.path, "/"))
	info, err := root.Stat(name)
	if err != nil {
		return nil, 0, d.error(f, err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, d.error(f, fmt.Errorf("%s is not a regular file", name))
	}
	if info.Size() > f.max {
		return nil, 0, tooLarge(d.label, f)
	}
	r, err := root.Open(name)
	if err != nil {
		return nil, 0, d.error(f, err)
	}
	return &fileBody{ctx, d, f, r, info.Size()}, info.Size(), nil
}

func (d *dir) error(f file, err error) *Error {
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{Upstream: d.label, Path: f.path, kind: absentNow, text: "not found"}
	}
	e := failed(d.label, f.path, err)
	e.text = "the directory of modules cannot be read"
	return e
}

// fileBody is a file of a dir that ends after the size it was opened with.
type fileBody struct {
	ctx  context.Context
	dir  *dir
	file file
	r    *os.File
	left int64
}

// Origin names the upstream that the bytes come from.
func (b *fileBody) Origin() string { return b.dir.label }

// Read reads the file. A file that shrinks meanwhile gives an error.
func (b *fileBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, b.dir.error(b.file, err)
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		err = b.dir.error(b.file, err)
	}
	return n, err
}

// Close closes the file.
func (b *fileBody) Close() error { return b.r.Close() }
