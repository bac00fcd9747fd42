package upstream

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
)

// The rules of GOPROXY lists, and that absence is not claimed while one
// upstream could not be asked.
func TestFallThrough(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0")
	for _, c := range []struct {
		first, sep, second string
		want               string
		asked              int // requests to the second
	}{
		{"404", ",", "ok", "ok", 1},
		{"410", ",", "ok", "ok", 1},
		{"403", ",", "ok", "refused", 0},
		{"500", ",", "ok", "trouble", 0},
		{"html", ",", "ok", "trouble", 0},
		{"404", "|", "ok", "ok", 1},
		{"403", "|", "ok", "ok", 1},
		{"500", "|", "ok", "ok", 1},
		{"html", "|", "ok", "ok", 1},
		{"dead", "|", "ok", "ok", 1},
		{"404", ",", "404", "absent", 1},
		{"500", "|", "404", "trouble", 1},
		{"403", "|", "404", "refused", 1},
		{"403", "|", "500", "trouble", 1},
		{"404", ",", "500", "trouble", 1},
		{"500", "|", "403", "trouble", 1},
		{"ok", ",", "ok", "ok", 0},
	} {
		t.Run(c.first+c.sep+c.second, func(t *testing.T) {
			t.Parallel()
			s1, s2 := proxytest.New(t, m), proxytest.New(t, m)
			for s, how := range map[*proxytest.Server]string{s1: c.first, s2: c.second} {
				switch how {
				case "404":
					s.SetFault("*", proxytest.Status(404, ""))
				case "410":
					s.SetFault("*", proxytest.Status(410, ""))
				case "403":
					s.SetFault("*", proxytest.Status(403, ""))
				case "500":
					s.SetFault("*", proxytest.Status(500, ""))
				case "html":
					s.SetFault("*", proxytest.HTML())
				case "dead":
					s.SetFault("*", proxytest.Reset(0))
				}
			}
			cfg := local(s1.URL + c.sep + s2.URL)
			cfg.Retries = -1
			chain := newChain(t, cfg)
			_, err1 := chain.Info(t.Context(), m.Path, "v1.0.0")
			n := len(s2.Requests())
			body, _, err2 := chain.Open(t.Context(), m.Version, "zip")
			if err2 == nil {
				body.Close()
			}
			for _, err := range []error{err1, err2} {
				if got := verdict(err); got != c.want {
					t.Errorf("got %s (%v), want %s", got, err, c.want)
				}
			}
			if n != c.asked {
				t.Errorf("the second was asked %d times, want %d", n, c.asked)
			}
		})
	}
}

func verdict(err error) string {
	var r interface{ Refused() bool }
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, fs.ErrNotExist):
		return "absent"
	case errors.As(err, &r) && r.Refused():
		return "refused"
	}
	return "trouble"
}

func TestOpenAfter(t *testing.T) {
	t.Parallel()
	m := proxytest.Simple(t, "example.com/a", "v1.0.0")
	s1, s2, s3 := proxytest.New(t, m), proxytest.New(t), proxytest.New(t, m)
	c := newChain(t, local(s1.URL+","+s2.URL+","+s3.URL))
	body, _, err := c.Open(t.Context(), m.Version, "mod")
	if err != nil {
		t.Fatal(err)
	}
	origin := body.(interface{ Origin() string }).Origin()
	body.Close()
	if want := strings.TrimPrefix(s1.URL, "http://"); origin != want {
		t.Fatalf("origin %q, want %q", origin, want)
	}
	body, size, err := c.OpenAfter(t.Context(), m.Version, "mod", origin)
	if err != nil || size != int64(len(m.Mod)) {
		t.Fatal(size, err)
	}
	data, err := io.ReadAll(body)
	if err != nil || string(data) != string(m.Mod) {
		t.Errorf("%q, %v", data, err)
	}
	last := body.(interface{ Origin() string }).Origin()
	body.Close()
	if s1.Count(proxytest.Path(t, m.Version, "mod")) != 1 || last == origin {
		t.Error("the first was asked again")
	}
	for _, o := range []string{last, "unknown"} {
		if _, _, err := c.OpenAfter(t.Context(), m.Version, "mod", o); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after %s: %v", o, err)
		}
	}
}

// What cannot be written in the protocol cannot be a module: nobody is asked.
func TestImpossibleNames(t *testing.T) {
	t.Parallel()
	s := proxytest.New(t)
	c := newChain(t, local(s.URL))
	for _, mv := range []module.Version{
		{Path: "../etc", Version: "v1.0.0"}, {Path: "example.com/a", Version: "feature/x"}, {Path: "example.com/a\x00", Version: "v1.0.0"},
		{Path: "example.com//a", Version: "v1.0.0"}, {Path: "", Version: "v1.0.0"}, {Path: "example.com/a", Version: ""}, {Path: "example.com/a", Version: "../../x"},
	} {
		_, err1 := c.Info(t.Context(), mv.Path, mv.Version)
		_, _, err2 := c.Open(t.Context(), mv, "zip")
		if verdict(err1) != "absent" || verdict(err2) != "absent" {
			t.Errorf("%q: %v, %v", mv, err1, err2)
		}
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}
