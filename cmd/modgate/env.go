package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

func envCommand(p *process) *cobra.Command {
	var address string
	var shell bool
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the lines that make the go command use this server",
		Long: `Env prints what a developer pastes once to use this server for all modules.
The lines follow from the configuration of the server: run it with the same
flags, environment and file.`,
		Args: cobra.NoArgs,
	}
	settings := addAllSettings(cmd, p, "listen", "base_path", "private", "direct.go", "sumdb", "auth.file", "tls.mode", "tls.domains", "tls.files")
	cmd.Flags().StringVar(&address, "url", "", "The URL under which developers reach the server. Default: made from listen.")
	cmd.Flags().BoolVar(&shell, "shell", false, "Print export lines for a shell or a CI job, which change nothing that lasts.")
	cmd.RunE = func(*cobra.Command, []string) error {
		s, err := settings()
		if err != nil {
			return err
		}
		if address == "" {
			certificates, done, err := newCertificates(&s.Config, s.challengeAddress(), nil)
			address = s.clientAddress(s.Listen, certificates)
			if err == nil { // who runs this may not be able to read them
				defer done()
			}
		}
		if u, err := url.Parse(address); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return errors.New("--url: write http://host:port or https://host")
		}
		if s.TLS.on() && !s.certifies(address) {
			fmt.Fprintf(p.stderr, "modgate: warning: clients will refuse the certificate at %s: its name is not in tls.domains (%s)\n", address, strings.Join(s.TLS.domains(), ", "))
		}
		lines, err := clientLines(&s.Config, address)
		if err != nil {
			return err
		}
		lines = append(lines, trustLines(&s.Config)...)
		for _, l := range append(lines, tokenLines(&s.Config, address)...) {
			fmt.Fprint(p.stdout, l.format(shell))
		}
		return nil
	}
	return cmd
}

// clientLine is one setting of the go command and why it is as it is.
type clientLine struct {
	why, name, value string // no value: back to the default
}

// clientLines returns what the go command must be told to use a server with
// the configuration c at address.
func clientLines(c *Config, address string) ([]clientLine, error) {
	db, err := parseSumDB(c.SumDB)
	if err != nil {
		return nil, err
	}
	lines := []clientLine{{"All modules come from this server, and from nowhere else.", "GOPROXY", strings.TrimSuffix(address, "/")}}
	switch {
	case len(c.Private) == 0:
	case c.Direct.Go == "off":
		lines = append(lines,
			clientLine{"Private modules come from their repositories: this server does not fetch them, and tells nobody their names.", "GOPRIVATE", c.Private.String()})
	default:
		lines = append(lines,
			clientLine{"Private modules come from this server too, whatever GOPRIVATE says.", "GONOPROXY", "none"},
			clientLine{"No public database knows private modules: this server remembers what they were at first.", "GONOSUMDB", c.Private.String()})
	}
	switch {
	case db == nil:
		lines = append(lines, clientLine{why: "This server has no checksum database (sumdb: off): the go command asks the one of its GOSUMDB by itself."})
	case db.Name != "sum.golang.org":
		lines = append(lines, clientLine{"The checksum database that this server mirrors and checks against.", "GOSUMDB", db.Key})
	default:
		lines = append(lines, clientLine{why: "GOSUMDB keeps its default: this server mirrors " + db.Name + "."})
	}
	return lines, nil
}

// tokenLines returns what a client needs where callers show tokens.
func tokenLines(c *Config, address string) []clientLine {
	u, err := url.Parse(address)
	if c.Auth.File == "" || err != nil {
		return nil
	}
	lines := []clientLine{
		{why: "This server asks for a token, which who runs it makes (modgate auth token NAME). One line in ~/.netrc (on Windows _netrc), which nobody else may read:"},
		{why: "  machine " + u.Host + " login NAME password TOKEN"},
	}
	if u.Scheme != "https" {
		lines = append(lines, clientLine{why: "The go command sends it to https:// addresses alone: name the one that clients use with --url."})
	}
	return lines
}

// clientSettings returns the settings of clientLines but for GOPROXY, which the
// front page knows better: it sees the address that the client has used.
func clientSettings(c *Config) []string {
	lines, err := clientLines(c, "")
	if err != nil {
		return nil // the configuration is checked elsewhere
	}
	var settings []string
	for _, l := range lines[1:] {
		if l.value != "" {
			settings = append(settings, quote(l.name+"="+l.value))
		}
	}
	return settings
}

// format returns the line as a command that lasts, or as one for this shell.
func (l clientLine) format(shell bool) string {
	command := ""
	switch {
	case l.name == "":
	case shell && l.value == "":
		command = "export " + l.name + "=\n"
	case shell:
		command = "export " + l.name + "=" + quote(l.value) + "\n"
	case l.value == "":
		command = "go env -u " + l.name + "\n"
	default:
		command = "go env -w " + quote(l.name+"="+l.value) + "\n"
	}
	return "# " + l.why + "\n" + command
}

// quote protects s from a POSIX shell where that is needed.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=+./:,@%", r)
	}
	if strings.TrimFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// localURL returns the URL of a server that listens on address, as seen from
// the same host.
func localURL(address, basePath string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + strings.TrimSuffix(basePath, "/")
}
