package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	modzip "golang.org/x/mod/zip"

	"github.com/modgate/modgate/internal/ziphash"
)

// receive writes the origin's bytes to the spool and hashes them on the way.
func (s *Server) receive(ctx context.Context, sp *spool, r request, o origin) (got sums, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		front   scan
		hashing sync.WaitGroup
	)
	hashing.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				front.err = fmt.Errorf("reading the zip has panicked: %v", p)
			}
		}()
		front.listing, front.err = ziphash.Stream(&spoolReader{ctx: ctx, s: sp, trust: true})
	})
	sum := sha256.New()
	buf := s.buffers.Get().(*[]byte)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(sp, sum)}, struct{ io.Reader }{io.LimitReader(o.body, modzip.MaxZipFile+1)}, *buf)
	s.buffers.Put(buf)
	s.metrics.fetched.Add(float64(n))
	switch {
	case err != nil:
	case n > modzip.MaxZipFile:
		err = &badContent{fmt.Sprintf("the zip is larger than %d bytes, the limit of the go command", int64(modzip.MaxZipFile)), errRequest}
	case o.size >= 0 && n != o.size && o.adopted:
		err = &badContent{"the cached file is cut off", io.ErrUnexpectedEOF}
	case o.size >= 0 && n != o.size:
		err = fmt.Errorf("%d bytes of %d: %w", n, o.size, io.ErrUnexpectedEOF)
	}
	if err != nil {
		cancel()
		hashing.Wait()
		return sums{}, err
	}
	sp.end()
	hashing.Wait()
	got, err = s.sumZip(ctx, sp, r, front)
	got.digest = hex.EncodeToString(sum.Sum(nil))
	return got, err
}

// sums are what is known of a zip that has come.
type sums struct {
	zip    string // its h1
	digest string // SHA-256 of its bytes, in hexadecimal
	// goMod is what the .mod of the version must be, nil if nobody is asked
	// about that.
	goMod []byte
}

// scan is what came of reading a zip from the front.
type scan struct {
	listing *ziphash.Listing
	err     error
}

// sumZip finishes the hash of a complete zip: the listing that was read from
// the front must agree with the central directory at the end. Few at a time:
// a directory takes memory.
func (s *Server) sumZip(ctx context.Context, sp *spool, r request, front scan) (sums, error) {
	select {
	case s.checks <- struct{}{}:
		defer func() { <-s.checks }()
	case <-ctx.Done():
		return sums{}, context.Cause(ctx)
	}
	listing, err := front.listing, front.err
	switch {
	case err == nil:
		err = listing.Check(sp, sp.size())
	case errors.Is(err, ziphash.ErrNotStreamable):
		listing, err = ziphash.Scan(sp, sp.size())
	}
	if err == nil && !r.from.authority {
		err = listing.CheckModule(r.mod)
	}
	if err != nil {
		return sums{}, brokenZip(err)
	}
	got := sums{zip: listing.H1()}
	if _, ok := r.from.verifier.(filesVerifier); ok {
		got.goMod, err = goModIn(listing, sp, r.mod)
	}
	return got, err
}

func brokenZip(err error) error {
	return &badContent{"the zip that came is broken or not of this module: refused, nothing was stored", err}
}

// verify asks about what has come.
func (s *Server) verify(ctx context.Context, r request, h1 string) error {
	if r.from.verifier == nil {
		return nil
	}
	return s.judged(r, r.from.verifier.Verify(ctx, r.mod, r.kind, h1))
}

// judged says what the answer of a Verifier means for r.
func (s *Server) judged(r request, err error) error {
	if isUnkept(err) {
		return err
	}
	s.metrics.verified(r.kind, err)
	switch _, wrong := isMismatch(err); {
	case err == nil || wrong:
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is not in the checksum database: %w", r.mod, &unlisted{err})
	}
	return &unproven{err: err}
}

// isUnkept reports whether err says that bytes may be served, and must not be
// stored.
func isUnkept(err error) bool {
	var u interface{ Unkept() bool }
	return errors.As(err, &u) && u.Unkept()
}

// allow returns err, the outcome of a proof, unless it forbids only to keep
// what was proven.
func (f *flight) allow(err error) error {
	if isUnkept(err) {
		f.unkept = true
		return nil
	}
	return err
}

// unlisted says that the checksum database does not know a version.
type unlisted struct{ err error }

func (e *unlisted) Error() string { return e.err.Error() }
func (e *unlisted) Unwrap() error { return e.err }
func (*unlisted) Public() string {
	return "the checksum database does not know this version; if the module is private, its path belongs in the server's setting private"
}

// unproven says that nobody could be asked about the bytes.
type unproven struct{ err error }

func (e *unproven) Error() string { return e.err.Error() }
func (e *unproven) Unwrap() error { return e.err }
func (e *unproven) Public() string {
	return publicText(e.err, "the checksum database cannot confirm this file now, and unconfirmed files are not served")
}
