package doctor_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modgate/modgate/doctor"
)

// Whatever a request has met is told in whole sentences: no word that stands for
// something is left over, also where nobody knows which host it was.
func TestLiveFindingsAreFilled(t *testing.T) {
	placeholder := regexp.MustCompile(`\b(HOST|PORT|URL|MACHINE|FILE|KEY|VALUE|VARIABLE|SETTING|ADVICE|COMMAND)\b`)
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 8443}, Err: syscall.ECONNREFUSED}
	for _, e := range doctor.Table() {
		if slices.Contains([]string{"env", "trust", "server", "acme"}, strings.Split(string(e.Code), "-")[0]) && e.Code != doctor.PrivateFails && e.Code != doctor.DirUnwritable && e.Code != doctor.DiskLow {
			continue // not met by requests
		}
		written := e.Title
		for _, m := range e.Mend {
			written += " " + m.Do
		}
		for _, err := range []error{errors.New("no more is known"), fmt.Errorf("git.corp cannot be reached: %w", refused), x509.HostnameError{Certificate: &x509.Certificate{}, Host: "git.corp"}, &fs.PathError{Op: "write", Path: "/cache/x", Err: fs.ErrPermission}} {
			for _, module := range []string{"", "git.corp/team/repo"} {
				live := doctor.Live{
					Troubles: []doctor.Trouble{{Code: e.Code, Module: module, Err: err, Count: 1, Last: time.Now()}},
					Dirs:     []doctor.Dir{{Key: "cache.dir", Path: t.TempDir()}},
				}
				f := live.Findings(doctor.Config{OS: "linux", Now: time.Now, Root: t.TempDir()})[0]
				for _, text := range append([]string{f.Title}, f.Mend...) {
					if word := placeholder.FindString(text); word != "" && !strings.Contains(written, word) {
						t.Errorf("%s: %s", e.Code, text)
					}
				}
			}
		}
	}
}

// A host of git that refuses is named with its port, and what is to be done is
// about that host: the listener of modgate has nothing to do with it.
func TestLiveRefusedByGitHost(t *testing.T) {
	err := fmt.Errorf("git.corp/team/repo@v1.0.0: git.corp cannot be reached: %w", &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 8443}, Err: syscall.ECONNREFUSED})
	live := doctor.Live{Troubles: []doctor.Trouble{{Code: doctor.TCPRefused, Module: "git.corp/team/repo", Err: err, Count: 1, Last: time.Now()}}}
	f := live.Findings(doctor.Config{OS: "linux", Now: time.Now, Root: t.TempDir()})[0]
	mend := strings.Join(f.Mend, "\n")
	if f.Title != "10.0.0.1 refuses connections on port 8443: nothing listens there" || strings.Contains(mend, "modgate config") || !strings.HasPrefix(mend, "on 10.0.0.1: ") {
		t.Errorf("%s\n%s", f.Title, mend)
	}
}

// What a running server has found is in the report, once, and decides the status.
func TestRunningServerIsBelieved(t *testing.T) {
	_, c := serverWorld(t)
	c.Module = "example.com/public"
	own := examineServer(t, c).Findings[0]
	if want := "add example.com/* to private "; !strings.HasPrefix(own.Mend[0], want) || len(own.Mend) != 1 {
		t.Errorf("%q, want %q", own.Mend, want)
	}
	_, c = serverWorld(t)
	c.Running = []doctor.Finding{
		{Code: doctor.TCPRefused, Severity: doctor.Fail, Title: "git.corp refuses", Seen: "3 times", Mend: []string{"start it"}},
		{Code: doctor.TCPRefused, Severity: doctor.Fail, Title: "git.corp refuses", Seen: "3 times", Mend: []string{"start it"}},
		{Code: "of-tomorrow", Severity: "terrible", Title: "a word of a later release", Mend: []string{}},
	}
	r := examineServer(t, c)
	if r.ExitStatus() != 2 || len(r.Findings) != 2 || r.Findings[0].Title != "git.corp refuses" || r.Findings[1].Severity != doctor.Warn || strings.Contains(text(r), "All is well") {
		t.Errorf("status %d\n%s", r.ExitStatus(), text(r))
	}
	_, c = serverWorld(t)
	c.Down = errors.New("connection refused")
	if r := examineServer(t, c); r.ExitStatus() != 0 || strings.Contains(text(r), "All is well") || !strings.Contains(text(r), "The running server was not asked: none answers.") {
		t.Errorf("status %d\n%s", r.ExitStatus(), text(r))
	}
	_, c = serverWorld(t)
	if r := examineServer(t, c); !strings.Contains(text(r), "All is well") || !strings.Contains(text(r), "nothing is wrong, it says") {
		t.Error(text(r))
	}
}
