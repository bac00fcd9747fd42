package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"
)

func auditCommand(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Look into access logs",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(auditWhoCommand(p))
	return cmd
}

func auditWhoCommand(p *process) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "who MODULE[@VERSION] ACCESSLOG...",
		Short: "Say who fetched a version, when and from where: for a recall",
		Long: `Who reads access logs (with log.format json; - is standard input) and prints
every answer to a request for the zip of a module, or of one version: when, from
which address, by whom, and how it was answered; and each refusal by a rule, also
of the .info or go.mod file, at which the go command stops. HEAD is left out, and
a refusal that the go command had twice at once, as it does over TLS, is one.

  modgate audit who github.com/corp/tool@v1.2.3 /var/log/modgate/*.json
  journalctl -u modgate -o cat | modgate audit who github.com/corp/tool -`,
		Args: cobra.MinimumNArgs(2),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON lines.")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		path, version, versioned := strings.Cut(args[0], "@")
		if err := checkAsked(path, version, versioned); err != nil {
			return err
		}
		var fetched, refused, lines, requests int
		clients := map[string]bool{}
		again := repeats{}
		for _, name := range args[1:] {
			n, of, err := eachRequest(name, func(r *loggedRequest) {
				if !r.counts() || r.Module != path || versioned && r.Version != version || again.isOne(r) {
					return
				}
				if r.given() {
					fetched++
					clients[cmp.Or(r.Caller, r.host())] = true
				} else {
					refused++
				}
				if asJSON {
					p.stdout.Write(append(r.line, '\n'))
				} else {
					r.print(p.stdout)
				}
			})
			if err != nil {
				return err
			}
			lines, requests = lines+n, requests+of
		}
		if requests == 0 {
			fmt.Fprintf(p.stderr, "modgate: warning: %s read, and none of them is a request\n  → name the access logs of the server, which it writes with log.format json\n", counted(lines, "line"))
		}
		if !asJSON {
			fmt.Fprintf(p.stdout, "%s: fetched %s by %s, not given %s\n", args[0], times(fetched), counted(len(clients), "client"), times(refused))
		}
		return nil
	}
	return cmd
}

// checkAsked reports what no log can hold: 0 times would be the answer to a slip.
func checkAsked(path, version string, versioned bool) error {
	if err := module.CheckPath(path); err != nil {
		return fmt.Errorf("%w\n  → write MODULE or MODULE@VERSION first, then the logs: github.com/corp/tool@v1.2.3", err)
	}
	if versioned && (version == "" || module.CanonicalVersion(version) != version) {
		return fmt.Errorf("%s@%s: malformed version: write it in full, v1.2.3", path, version)
	}
	return nil
}

// repeats finds the second of two equal refusals, which the go command asks for
// over TLS; see type doubles of package proxy.
type repeats map[string]time.Time

const repeatWithin = 2 * time.Second

func (p repeats) isOne(r *loggedRequest) bool {
	if !r.refused() {
		return false
	}
	key := r.Decision + " " + r.Kind + " " + r.Caller + " " + r.host()
	if at, ok := p[key]; ok && r.Time.Sub(at).Abs() < repeatWithin {
		delete(p, key) // the third begins a new pair
		return true
	}
	p[key] = r.Time
	return false
}

func times(n int) string { return counted(n, "time") }

// loggedRequest is a line of the access log in JSON; see package access.
type loggedRequest struct {
	Time     time.Time `json:"time"`
	Msg      string    `json:"msg"`
	Method   string    `json:"method"`
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`
	Module   string    `json:"module"`
	Version  string    `json:"version"`
	Outcome  string    `json:"outcome"`
	Status   int       `json:"status"`
	Client   string    `json:"client"`
	Caller   string    `json:"caller"`
	Rule     string    `json:"rule"`
	Decision string    `json:"decision"`

	line []byte
}

// refused reports whether a rule said no.
func (r *loggedRequest) refused() bool {
	return r.Status == http.StatusForbidden && r.Decision != ""
}

// given reports whether the client has the file: this answer had it, or said that
// what the client has is right (304), or where in the bucket it is (302).
func (r *loggedRequest) given() bool {
	return r.Status < 300 || r.Status == http.StatusNotModified || r.Status == http.StatusFound
}

// counts reports whether the request was for a version: for its zip, or for a
// smaller file, which comes first and was refused.
func (r *loggedRequest) counts() bool {
	if r.Method == http.MethodHead {
		return false
	}
	return r.Kind == "zip" || (r.Kind == "info" || r.Kind == "mod") && r.refused()
}

// host is where the request came from, without the port.
func (r *loggedRequest) host() string {
	if host, _, err := net.SplitHostPort(r.Client); err == nil {
		return host
	}
	return r.Client
}

func (r *loggedRequest) print(w io.Writer) {
	fmt.Fprintf(w, "%s  %s  %s@%s  %d %s", r.Time.UTC().Format(time.RFC3339), cmp.Or(r.Caller, "-")+" "+r.host(), r.Module, r.Version, r.Status, r.Outcome)
	if r.Rule != "" {
		fmt.Fprintf(w, "  rule %s, id %s", r.Rule, r.Decision)
	}
	fmt.Fprintln(w)
}

// maxLogLine bounds a line of a log, in bytes.
const maxLogLine = 1 << 20

// eachRequest calls f for each request in a log, and returns how many lines and
// requests there are. Other lines are passed over;
// a log without any line of JSON is an error.
func eachRequest(name string, f func(*loggedRequest)) (n, requests int, err error) {
	var in io.Reader = os.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return 0, 0, unreadable(err)
		}
		defer file.Close()
		in = file
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLogLine)
	readable := 0
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		n++
		r := loggedRequest{line: line}
		if json.Unmarshal(line, &r) != nil {
			continue
		}
		readable++
		if r.Msg == "request" {
			requests++
			f(&r)
		}
	}
	if err := lines.Err(); err != nil {
		return n, requests, fmt.Errorf("%s: %w", name, err)
	}
	if n > 0 && readable == 0 {
		return n, 0, fmt.Errorf("%s: no line is JSON: the server writes such a log with log.format json", name)
	}
	return n, requests, nil
}
