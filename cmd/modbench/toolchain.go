package main

import (
	"archive/zip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"
)

// The zip that is multiplied: a whole Go distribution, 64 MB in 14,000 files.
const (
	toolchainPath    = "golang.org/toolchain"
	toolchainVersion = "v0.0.1-go1.25.0.linux-amd64"
)

// toolchains is an upstream with several versions of one large zip and a
// checksum database of its own that vouches for them. So sixteen of them cost
// the public mirror one download.
type toolchains struct {
	Handler http.Handler
	SumDB   string   // GOSUMDB: name+key
	Paths   []string // of the zips
	Size    int64    // of each, within some bytes
}

// makeToolchains makes n versions of the zip called source in dir.
func makeToolchains(ctx context.Context, source, dir string, n int) (*toolchains, error) {
	zr, err := zip.OpenReader(source)
	if err != nil {
		return nil, err
	}
	defer zr.Close()
	files, err := hashFiles(zr.File, toolchainPath+"@"+toolchainVersion+"/")
	if err != nil {
		return nil, err
	}
	versions := filepath.Join(dir, toolchainPath, "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		return nil, err
	}
	t := &toolchains{}
	sums := make(map[string]string) // go.sum lines by path@version
	mod := "module " + toolchainPath + "\n"
	for i := range n {
		version := fmt.Sprintf("v0.0.1-go1.25.%d.linux-amd64", 100+i)
		prefix := toolchainPath + "@" + version
		base := filepath.Join(versions, version)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if t.Size, err = relabel(base+".zip", files, prefix+"/"); err != nil {
			return nil, err
		}
		info := fmt.Sprintf("{\"Version\":%q,\"Time\":\"2025-08-12T00:00:00Z\"}\n", version)
		if err := errors.Join(os.WriteFile(base+".mod", []byte(mod), 0o644), os.WriteFile(base+".info", []byte(info), 0o644)); err != nil {
			return nil, err
		}
		sums[prefix] = fmt.Sprintf("%s %s %s\n%s %s/go.mod %s\n", toolchainPath, version, sumOf(files, prefix+"/"),
			toolchainPath, version, h1([]string{line(sha256.Sum256([]byte(mod)), "go.mod")}))
		t.Paths = append(t.Paths, "/"+toolchainPath+"/@v/"+version+".zip")
	}
	name := "log.modbench.example"
	signer, key, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, err
	}
	log := sumdb.NewServer(sumdb.NewTestServer(signer, func(path, version string) ([]byte, error) {
		if s := sums[path+"@"+version]; s != "" {
			return []byte(s), nil
		}
		return nil, os.ErrNotExist
	}))
	mux := http.NewServeMux()
	mux.HandleFunc("/sumdb/"+name+"/supported", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/sumdb/"+name+"/", http.StripPrefix("/sumdb/"+name, log))
	mux.Handle("/", http.FileServer(http.Dir(dir)))
	t.Handler, t.SumDB = mux, key
	return t, nil
}

// hashed is a file of a zip, its name without the prefix of its module.
type hashed struct {
	*zip.File
	name string
	sum  [sha256.Size]byte
}

func hashFiles(in []*zip.File, prefix string) ([]hashed, error) {
	out := make([]hashed, len(in))
	for i, f := range in {
		name, ok := strings.CutPrefix(f.Name, prefix)
		if !ok {
			return nil, fmt.Errorf("zip: %q is not below %s", f.Name, prefix)
		}
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		h := sha256.New()
		_, err = io.Copy(h, r)
		if err = errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
		out[i] = hashed{File: f, name: name, sum: [sha256.Size]byte(h.Sum(nil))}
	}
	return out, nil
}

// relabel writes a zip of the files below another prefix, without compressing
// them anew, and returns its size.
func relabel(name string, files []hashed, prefix string) (int64, error) {
	out, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	zw := zip.NewWriter(out)
	for _, f := range files {
		head := f.FileHeader
		head.Name = prefix + f.name
		w, err := zw.CreateRaw(&head)
		if err != nil {
			return 0, err
		}
		raw, err := f.OpenRaw()
		if err != nil {
			return 0, err
		}
		if _, err := io.Copy(w, raw); err != nil {
			return 0, err
		}
	}
	if err := zw.Close(); err != nil {
		return 0, err
	}
	st, err := out.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), out.Close()
}

// sumOf is the h1 hash of a zip with the files below prefix, as in go.sum.
func sumOf(files []hashed, prefix string) string {
	lines := make([]string, len(files))
	sorted := slices.SortedFunc(slices.Values(files), func(a, b hashed) int { return strings.Compare(a.name, b.name) })
	for i, f := range sorted {
		lines[i] = line(f.sum, prefix+f.name)
	}
	return h1(lines)
}

func line(sum [sha256.Size]byte, name string) string { return fmt.Sprintf("%x  %s\n", sum, name) }

// h1 is the hash of golang.org/x/mod/sumdb/dirhash over its lines.
func h1(lines []string) string {
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return "h1:" + base64.StdEncoding.EncodeToString(sum[:])
}
