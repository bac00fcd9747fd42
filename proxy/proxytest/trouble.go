package proxytest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"testing"
	"time"
)

// TestTrouble checks what proxy.Source promises about failures, for a source
// that asks a Server over HTTP. open makes one whose patience with a silent
// upstream is a few seconds, with a dribble that brings 20 bytes per second
// no more.
func TestTrouble(t *testing.T, open func(t *testing.T, s *Server) Source) {
	t.Helper()
	big := Big(t, "example.com/big", "v1.0.0", 1<<20)
	zip := Path(t, big.Version, "zip")
	refuses := func(err error) bool {
		var r interface{ Refused() bool }
		return errors.As(err, &r) && r.Refused()
	}
	late := func(err error) bool {
		var t interface{ Timeout() bool }
		return errors.As(err, &t) && t.Timeout()
	}
	for _, c := range []struct {
		name                     string
		fault                    Fault
		absent, refused, tooLate bool
	}{
		{"404 is absence", Status(404, "no"), true, false, false},
		{"410 is absence", Status(410, "no"), true, false, false},
		{"403 is a refusal", Status(403, "no"), false, true, false},
		{"451 is a refusal", Status(451, "no"), false, true, false},
		{"401 is trouble", Status(401, "no"), false, false, false},
		{"429 is trouble", Status(429, "no"), false, false, false},
		{"500 is trouble", Status(500, "no"), false, false, false},
		{"503 is trouble", Status(503, "no"), false, false, false},
		{"a web page is trouble", HTML(), false, false, false},
		{"an empty body is trouble", Bytes("application/zip", nil), false, false, false},
		{"no answer is trouble that took too long", Stall(-1), false, false, true},
		{"no body is trouble that took too long", Stall(0), false, false, true},
		{"a broken connection is trouble", Reset(0), false, false, false},
		{"a redirect in a circle is trouble", Redirect(http.StatusFound, zip), false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := New(t, big)
			s.SetFault("*", c.fault)
			src := open(t, s)
			body, _, err1 := src.Open(t.Context(), big.Version, "zip")
			if err1 == nil {
				_, err1 = io.Copy(io.Discard, body)
				body.Close()
			}
			_, err2 := src.Info(t.Context(), big.Path, big.Version.Version)
			for _, err := range []error{err1, err2} {
				if err == nil || errors.Is(err, fs.ErrNotExist) != c.absent || refuses(err) != c.refused || late(err) != c.tooLate {
					t.Errorf("%v: absent %v, refused %v, too late %v", err, errors.Is(err, fs.ErrNotExist), refuses(err), late(err))
				}
			}
		})
	}
	testCutOff(t, big, open)
}

// testCutOff: a body that ends with io.EOF is whole, one that ends early
// returns another error, whichever way it was cut off.
func testCutOff(t *testing.T, big *Module, open func(t *testing.T, s *Server) Source) {
	half := int64(len(big.Zip) / 2)
	for _, c := range []struct {
		name  string
		fault Fault
	}{
		{"an early end", Reset(half)},
		{"a stall", Stall(half)},
		{"a dribble", func(x Exchange) { x.W.Header().Set("Content-Length", "99999"); Dribble(50 * time.Millisecond)(x) }},
	} {
		t.Run(c.name+" is not the end of a body", func(t *testing.T) {
			t.Parallel()
			s := New(t, big)
			s.SetFault("*", func(x Exchange) { x.R.Header.Del("Range"); c.fault(x) })
			body, _, err := open(t, s).Open(t.Context(), big.Version, "zip")
			if err != nil {
				return // told even earlier
			}
			defer body.Close()
			got, err := io.ReadAll(body)
			if err == nil || errors.Is(err, fs.ErrNotExist) || !bytes.HasPrefix(big.Zip, got) {
				t.Errorf("read %d bytes, then %v", len(got), err)
			}
		})
	}
	t.Run("an early end may be mended", func(t *testing.T) {
		t.Parallel()
		s := New(t, big)
		s.SetFault(Path(t, big.Version, "zip"), FirstN(1, Reset(half)))
		wantFile(t, open(t, s), big.Version, "zip", big.Zip)
	})
}
