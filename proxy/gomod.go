package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"github.com/modgate/modgate/internal/ziphash"
)

// goModIn returns what the .mod of m is by its zip: the go.mod in there, or what
// the go command makes up for a module without one
// (https://go.dev/ref/mod#non-module-compat).
func goModIn(listing *ziphash.Listing, zip io.ReaderAt, m module.Version) ([]byte, error) {
	data, err := listing.ReadFile(zip, m.String()+"/go.mod", modzip.MaxGoMod)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Appendf(nil, "module %s\n", modfile.AutoQuote(m.Path)), nil
	}
	if err != nil {
		return nil, brokenZip(err)
	}
	return data, nil
}

// verifyZip is verify for a zip that has come. A source may have given the .mod
// of one commit and then the zip of another one, between which the tag was moved:
// where nobody knows both but by us, they must fit each other.
func (s *Server) verifyZip(ctx context.Context, r request, got sums) error {
	v, ok := r.from.verifier.(filesVerifier)
	if !ok || got.goMod == nil {
		return s.verify(ctx, r, got.zip)
	}
	mod, err := s.asServed(ctx, r, got.goMod)
	if err != nil {
		return err
	}
	return s.judged(r, v.VerifyFiles(ctx, r.mod, map[string]string{KindZip: got.zip, KindMod: ziphash.Mod(mod)}))
}

// asServed returns the go.mod of a zip as the .mod has it. They may differ in the
// ends of their lines: git writes those of an archive as .gitattributes says
// (eol=crlf), and the .mod has them as they were committed. So where there are
// such, the source is asked.
func (s *Server) asServed(ctx context.Context, r request, goMod []byte) ([]byte, error) {
	if !bytes.Contains(goMod, []byte("\r\n")) {
		return goMod, nil
	}
	o, err := s.open(ctx, request{kind: KindMod, mod: r.mod, from: r.from}, "")
	if err != nil {
		return nil, fmt.Errorf("the .mod to compare the zip with: %w", err)
	}
	defer o.body.Close()
	mod, err := readAll(o.body, modzip.MaxGoMod)
	if err != nil {
		return nil, fmt.Errorf("the .mod to compare the zip with: %w", err)
	}
	if bytes.Equal(unixLines(mod), unixLines(goMod)) {
		return mod, nil
	}
	return goMod, nil
}

func unixLines(text []byte) []byte {
	return bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
}
