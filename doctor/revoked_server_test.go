package doctor_test

import (
	"strings"
	"testing"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/tlsmgr"
)

// A server asks whether its own certificate was taken back, where it names who
// knows.
func TestServerRevocation(t *testing.T) {
	for _, test := range []struct {
		name string
		r    revocations
		want string
		says string
	}{
		{"by the list", revocations{list: true, revoked: true}, "tls-revoked", "the key is known to others"},
		{"by the responder", revocations{responder: true, revoked: true}, "tls-revoked", "The certificate of localhost was revoked"},
		{"not, says the list", revocations{list: true}, "", "not revoked, says the list"},
		{"nobody knows", revocations{}, "", "it names no list and no responder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, c := serverWorld(t)
			cert, key := w.pki.Write(t.TempDir(), "server", w.published(test.r))
			m, err := tlsmgr.New(tlsmgr.Config{Mode: tlsmgr.Files, Files: []tlsmgr.Pair{{Cert: cert, Key: key}}, Roots: w.pki.Pool()})
			w.check(err)
			c.Keeper = m
			s, err := doctor.NewServer(*c)
			w.check(err)
			r := s.Examine(t.Context())
			if got := strings.Join(codes(r), " "); got != test.want {
				t.Errorf("found %q, want %q\n%s", got, test.want, text(r))
			}
			says(t, r, test.says)
		})
	}
}
