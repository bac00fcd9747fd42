package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modgate/modgate/doctor"
)

// For each defect doctor finds exactly its cause, in less than 10 s, and the go
// command says what the entry of that cause has as its symptom.
func TestDefects(t *testing.T) {
	says := newSayings(t)
	for _, test := range defects() {
		if test.slow || test.waits {
			says.later(test)
		}
	}
	t.Run("each", func(t *testing.T) {
		for _, test := range defects() {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				test.begin(w)
				before := state(t, w.home)
				var r *doctor.Report
				quick(t, func() { r = examine(t, w.config) })
				if after := state(t, w.home); after != before {
					t.Errorf("there was\n%s\nand is\n%s", before, after)
				}
				want := strings.Fields(test.want)
				slices.Sort(want)
				if got := codes(r); !slices.Equal(got, want) {
					t.Errorf("found %q, want %q\n%s", got, want, text(r))
				}
				checkTexts(t, r)
				if test.mute || test.slow || test.waits {
					return
				}
				said := w.goSays(t, test.command...)
				if one := varying()[test.name]; test.vary {
					if len(one) == 0 || !slices.ContainsFunc(one, func(s string) bool { return strings.Contains(said, s) }) {
						t.Errorf("the go command says %s, which is none of %q", said, one)
					}
					return
				}
				if (said == itWorks) != test.works {
					t.Errorf("the go command says %s", said)
				}
				if !test.works {
					checkSymptoms(t, r, said)
				}
				says.add(test.name, said)
			})
		}
	})
	says.behind.Wait()
}

// begin lets the world be as the defect has it.
func (d defect) begin(w *world) {
	if w.config.URL = d.start(w); w.config.URL != "" {
		w.set("GOPROXY", w.config.URL)
	}
}

// varying is what the go command says of each defect of which it says now this, now
// that.
func varying() map[string][]string {
	cut := []string{": EOF\n", ": unexpected EOF\n", "connection reset by peer", "write: broken pipe"}
	client := append([]string{"remote error: tls: certificate required", "remote error: tls: handshake failure", "remote error: tls: bad certificate", "http2: client conn could not be established"}, cut...)
	return map[string][]string{
		"client certificate, TLS 1.3": client, "client certificate, TLS 1.2": client, "closed in the handshake": cut, "reset in the handshake": cut,
		"zip reset":                                         {"connection reset by peer", "unexpected EOF", "stream error", "checksum mismatch", "not a valid zip file"},
		"an HTTP proxy that hangs up":                       cut,
		"http:// for an HTTP proxy that speaks TLS":         append([]string{"malformed HTTP response", "Bad Request"}, cut...),
		"https:// for an HTTP proxy that speaks plain HTTP": append([]string{"first record does not look like a TLS handshake"}, cut...),
		"GOPROXY=file:// without the module":                {"no such file or directory"},
		"GOPROXY in quotes":                                 {"first path segment in URL cannot contain colon"},
		"GOPROXY with a semicolon":                          {"invalid port"},
		"GOPROXY=https//":                                   {`Get "https://https/`},
		"trap: an HTTP proxy that is no URL":                {"proxyconnect tcp: dial tcp: lookup http"},
		"trap: the module proxy as an HTTP proxy":           append([]string{"malformed HTTP response"}, cut...),
		"no such name":                                      {"dial tcp: lookup nowhere.example"},
		"an HTTP proxy without a name":                      {"proxyconnect tcp: dial tcp: lookup proxy.invalid"},
		"checksum database not mirrored and not reached":    {"dial tcp: lookup sum.example"},
		"SSL_CERT_FILE is a directory":                      {"failed to load system roots and no roots provided; read "},
	}
}

// sayings are what the go command says in one test. They are held against the file
// of that test in testdata/go-says once the test has ended, or written to it.
type sayings struct {
	t      *testing.T
	mu     sync.Mutex
	by     map[string]string // by defect
	behind sync.WaitGroup    // go commands that wait
}

// Where the go command says nothing.
const (
	itWorks = "(it works)"
	itWaits = "(nothing in 20 s)"
)

func newSayings(t *testing.T) *sayings {
	s := &sayings{t: t, by: map[string]string{}}
	t.Cleanup(s.check)
	return s
}

func (s *sayings) add(name, said string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[name] = said
}

// later runs the go command beside everything else. Who calls it waits for behind
// before the test ends.
func (s *sayings) later(d defect) {
	w := newWorld(s.t)
	d.begin(w)
	limit := 20 * time.Second
	if d.slow {
		limit = 2 * time.Minute
	}
	dir := s.t.TempDir()
	s.behind.Go(func() {
		said, err := w.runGo(dir, limit, d.command...)
		if d.waits == !errors.Is(err, context.DeadlineExceeded) || err == nil {
			s.t.Errorf("%s: the go command says %s, %v", d.name, said, err)
			return
		}
		if d.waits {
			said = itWaits
		}
		s.add(d.name, said)
	})
}

func (s *sayings) file() string {
	return filepath.Join(goSaid, s.t.Name()+".golden")
}

const goSaid = "testdata/go-says"

func (s *sayings) check() {
	if s.t.Failed() {
		return
	}
	if *update {
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(s.by)) {
			fmt.Fprintf(&b, "%s\n\t%s\n", name, strings.ReplaceAll(strings.TrimSpace(s.by[name]), "\n", "\n\t"))
		}
		golden(s.t, s.file(), b.String())
		return
	}
	recorded := readSayings(s.t, s.file())
	for name, said := range s.by {
		if said = strings.TrimSpace(said); said != recorded[name] {
			s.t.Errorf("%s: the go command says something new (go test ./doctor -update records it): %s\nand not: %s", name, said, recorded[name])
		}
	}
}

// readSayings returns what a file says, by defect.
func readSayings(t *testing.T, file string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	said, about := map[string]string{}, ""
	for line := range strings.Lines(string(data)) {
		if text, more := strings.CutPrefix(line, "\t"); more {
			said[about] += text
		} else {
			about = strings.TrimSpace(line)
		}
	}
	for about, text := range said {
		said[about] = strings.TrimSpace(text)
	}
	return said
}

var noise = []struct{ pattern, by string }{
	{`(127\.0\.0\.\d):\d{2,5}`, "$1:PORT"}, {`localhost:\d{2,5}`, "localhost:PORT"}, {`\.(corp|test):\d{2,5}`, ".$1:PORT"}, {`\ba\d+\.test`, "NAME.test"},
	{`current time \S+`, "current time NOW"}, {`(after|before) \d{4}-\S+`, "$1 THEN"},
	{`read tcp \S+->`, "read tcp CLIENT->"}, {`write tcp \S+->`, "write tcp CLIENT->"},
}

// runGo runs the go command on this machine in an empty directory and returns its
// message, without what changes from run to run. It downloads the module, unless args
// are given. The error is that of the command, and of the context if it took longer
// than limit.
func (w *world) runGo(dir string, limit time.Duration, args ...string) (string, error) {
	if len(args) == 0 {
		args = []string{"mod", "download", asked.String()}
	} else if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module m\n\ngo 1.26\n"), 0o644); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	if w.named {
		script := `mount --bind "$0" /etc/hosts && exec go "$@"`
		if w.config.Root != "" { // nor are there authorities
			script = "mount -t tmpfs tmpfs /etc/ssl && " + script
		}
		cmd = exec.CommandContext(ctx, "unshare", append([]string{"-r", "-m", "sh", "-c", script, w.hostsFile()}, args...)...)
	}
	cmd.Dir, cmd.Env = dir, append(slices.Clone(w.config.Environ), "GOMODCACHE="+filepath.Join(dir, "mod"))
	out, err := cmd.CombinedOutput()
	said := string(out)
	for _, n := range noise {
		said = regexp.MustCompile(n.pattern).ReplaceAllString(said, n.by)
	}
	if err != nil {
		err = errors.Join(err, ctx.Err())
	}
	return said, err
}

// hostsFile makes the file in which the names of the world are.
func (w *world) hostsFile() string {
	w.program("unshare")
	var b strings.Builder
	for name, addresses := range w.names {
		for address := range strings.FieldsSeq(addresses) {
			fmt.Fprintf(&b, "%s %s\n", address, name)
		}
	}
	return w.write(w.t.TempDir(), "hosts", b.String())
}

// goSays returns what the go command says on this machine.
func (w *world) goSays(t *testing.T, args ...string) string {
	t.Helper()
	said, err := w.runGo(t.TempDir(), time.Minute, args...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return itWorks
	case !errors.As(err, &exit) || errors.Is(err, context.DeadlineExceeded):
		t.Fatalf("the go command did not end: %v\n%s", err, said)
	}
	return said
}

// checkSymptoms compares what go says with the symptom of what was found.
func checkSymptoms(t *testing.T, r *doctor.Report, said string) {
	t.Helper()
	var all []string
	for _, f := range r.Findings {
		for _, e := range doctor.Table() {
			if e.Code == f.Code && e.Severity == doctor.Fail && e.Symptom != "" {
				for symptom := range strings.SplitSeq(e.Symptom, "\n") {
					pattern := regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(symptom), ".*")
					if regexp.MustCompile(pattern).MatchString(said) {
						return
					}
					all = append(all, symptom)
				}
			}
		}
	}
	if len(all) > 0 {
		t.Errorf("go says %s\nwhich is none of the symptoms %q", said, all)
	}
}

func text(r *doctor.Report) string {
	var b strings.Builder
	r.WriteText(&b, false)
	return b.String()
}
