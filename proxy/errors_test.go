package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
)

type publicError struct{ text string }

func (e publicError) Error() string  { return "internal detail" }
func (e publicError) Public() string { return e.text }

type refusedError struct{ yes bool }

func (e refusedError) Error() string { return "internal detail" }
func (e refusedError) Refused() bool { return e.yes }

type wrongError struct{}

func (wrongError) Error() string                { return "internal detail" }
func (wrongError) Mismatch() (want, got string) { return "h1:WANT=", "h1:GOT=" }

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		err     error
		status  int
		outcome access.Outcome
		text    string // contained in the answer
	}{
		{"policy", &deniedError{policy.Verdict{Deny: true, Text: "no GPL here"}}, 403, access.Denied, "no GPL here"},
		{"mismatch", wrongError{}, 403, access.Denied, "expected: h1:WANT="},
		{"mismatch, received", wrongError{}, 403, access.Denied, "received: h1:GOT="},
		{"refused", refusedError{true}, 403, access.Denied, "refused by the upstream"},
		{"not refused", refusedError{false}, 502, access.Trouble, "cannot be fetched now"},
		{"absent", fs.ErrNotExist, 404, access.Absent, "not found"},
		{"absent, with a text", errors.Join(publicError{"no such tag"}, fs.ErrNotExist), 404, access.Absent, "no such tag"},
		{"cache only", notCached{}, 404, access.Absent, "Disable-Module-Fetch"},
		{"not in the checksum database", &unlisted{fs.ErrNotExist}, 404, access.Absent, "checksum database does not know"},
		{"checksum database down", &unproven{errors.New("x")}, 503, access.Trouble, "cannot confirm"},
		{"checksum database slow", &unproven{context.DeadlineExceeded}, 503, access.Trouble, "cannot confirm"},
		{"checksum database refuses: not our denial", &unproven{refusedError{true}}, 503, access.Trouble, "cannot confirm"},
		{"busy", errBusy, 503, access.Trouble, "try again"},
		{"ending", errors.Join(context.Canceled, errClosed), 503, access.Trouble, "try again"},
		{"slow", context.DeadlineExceeded, 504, access.Trouble, "too long"},
		{"slow on the socket", os.ErrDeadlineExceeded, 504, access.Trouble, "too long"},
		{"cancelled elsewhere", context.Canceled, 504, access.Trouble, "too long"},
		{"bad content", &badContent{"that is no zip", io.EOF}, 502, access.Trouble, "that is no zip"},
		{"anything else", errors.New("secret detail"), 502, access.Trouble, "server's log"},
		{"anything else with a text", publicError{"reset by peer"}, 502, access.Trouble, "reset by peer"},
		{"an empty text", publicError{""}, 502, access.Trouble, "server's log"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err), errors.Join(c.err, errors.New("more"))} {
				a := answerFor(err)
				if a.status != c.status || a.outcome != c.outcome || !strings.Contains(a.text, c.text) {
					t.Errorf("%v: %+v", err, a)
				}
				if strings.Contains(a.text, "detail") {
					t.Errorf("internals leak: %q", a.text)
				}
				checkText(t, clientText(a.text))
			}
		})
	}
}

// A failed write to a spool is never absence, whatever the system calls it.
func TestMissingDirectoryIsNotAbsence(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/missing")
	gone := func() (*os.File, error) { return nil, &fs.PathError{Op: "open", Path: "spool", Err: fs.ErrNotExist} }
	sp := newSpool(gone, nil, -1)
	_, err := sp.Write(make([]byte, inMemory+1))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	if a := answerFor(err); a.status != 502 {
		t.Errorf("answered %d", a.status)
	}
	sp.release()
}

// checkText fails if the go command would not print all of text
// (cmd/go/internal/web: at most 8 lines, 648 bytes, up to the first blank line).
func checkText(t interface {
	Helper()
	Errorf(string, ...any)
}, text string) {
	t.Helper()
	if text == "" {
		return
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > 8 || len(text) > 648 || !strings.HasSuffix(text, "\n") {
		t.Errorf("%d lines, %d bytes: %q", len(lines), len(text), text)
	}
	for _, line := range lines {
		if strings.TrimSpace(line) == "" {
			t.Errorf("blank line: %q", text)
		}
	}
	for _, c := range []byte(text) {
		if c != '\n' && (c < ' ' || c > '~') {
			t.Errorf("byte %#x: %q", c, text)
		}
	}
}

func TestClientText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                  "",
		"a":                                 "a\n",
		"a\n\n \n\nb\n":                     "a\nb\n",
		"a\r\nb":                            "a\nb\n",
		"\x1b[31mred\a":                     "?[31mred?\n",
		"tab\there":                         "tab here\n",
		"\u202e\xff":                        "??\n",
		strings.Repeat("x\n", 20):           strings.Repeat("x\n", 8),
		strings.Repeat("y", 2000):           strings.Repeat("y", maxText-1) + "\n",
		strings.Repeat("z", 638) + "\nmore": strings.Repeat("z", 638) + "\n",
		strings.Repeat("z", 637) + "\nmore": strings.Repeat("z", 637) + "\nm\n",
	} {
		if got := clientText(in); got != want {
			t.Errorf("clientText(%q) = %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.OneOf(rapid.String(), rapid.Just("\n"), rapid.Just(" \n"), rapid.StringOfN(rapid.Rune(), 0, 700, -1))).Draw(t, "text")
		checkText(t, clientText(strings.Join(parts, "")))
	})
}

// Every failure leaves in a form that the go command prints, whatever an
// upstream or a rule has written into it.
func TestFailuresArePlainText(t *testing.T) {
	t.Parallel()
	s := &Server{}
	req := request{mod: module.Version{Path: "example.com/a", Version: "v1.0.0"}, from: newSupply(nil, nil, 0, 0, "public")}
	hostile := strings.Repeat("\x1b[2J<script>\r\n\n\u202eä", 99)
	for _, err := range []error{&deniedError{policy.Verdict{Deny: true, Text: hostile}}, publicError{hostile}, &badContent{hostile, io.EOF}, errors.Join(publicError{hostile}, fs.ErrNotExist), wrongError{}} {
		for _, method := range []string{"GET", "HEAD"} {
			rec := httptest.NewRecorder()
			w := &access.Response{ResponseWriter: rec}
			w.Header().Set("ETag", `"of what was meant to be sent"`)
			s.fail(w, httptest.NewRequest(method, "/x", nil), req, err)
			h := rec.Result().Header
			if h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("ETag") != "" || h.Get("Cache-Control") == "" {
				t.Errorf("header %v", h)
			}
			if method == http.MethodHead && rec.Body.Len() > 0 {
				t.Errorf("HEAD has a body")
			}
			if rec.Code >= 500 != (h.Get("Retry-After") != "") {
				t.Errorf("%d with Retry-After %q", rec.Code, h.Get("Retry-After"))
			}
			checkText(t, rec.Body.String())
			if w.Err != err {
				t.Errorf("the record has %v", w.Err)
			}
		}
	}
}
