package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/modgate/modgate/auth"
)

func authCommand(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "auth",
		Short: "Make tokens for callers, check the file of tokens",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(authTokenCommand(p), authCheckCommand(p))
	return cmd
}

func authTokenCommand(p *process) *cobra.Command {
	var groups []string
	var expires, address string
	cmd := &cobra.Command{
		Use:   "token NAME",
		Short: "Make a token, and print what server and client need of it",
		Long: `Token makes a random token for the caller NAME, and prints the entry for
auth.file, which has only its hash, and the line for the netrc file of the client.
The token is shown this once and kept nowhere.

  modgate auth token ci --groups build,release --expires 2027-01-31 --url https://modgate.corp.example`,
		Args: cobra.ExactArgs(1),
	}
	settings := addSettings(cmd, p, "listen", "base_path", "tls.mode", "tls.domains", "tls.files")
	cmd.Flags().StringSliceVar(&groups, "groups", nil, "Groups of the caller.")
	cmd.Flags().StringVar(&expires, "expires", "", "The last day that the token counts: 2027-01-31. Default: it does not expire.")
	cmd.Flags().StringVar(&address, "url", "", "The URL under which clients reach the server. Default: made from listen.")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		token := auth.NewToken()
		entry := auth.Token{Name: args[0], SHA256: auth.Sum(token), Groups: groups, Expires: expires}
		if err := checkTokens([]auth.Token{entry}); err != nil {
			return errors.New(strings.ReplaceAll(err.Error(), "tokens[0].", ""))
		}
		if entry.Expired(time.Now()) {
			return fmt.Errorf("--expires: %s is over: the token would never count\n  → write a day that is to come, or leave it out", expires)
		}
		if address == "" {
			s, err := settings()
			if err != nil {
				return err
			}
			certificates, done, err := newCertificates(&s.Config, s.challengeAddress(), nil)
			address = s.clientAddress(s.Listen, certificates)
			if err == nil { // who runs this may not be able to read them
				defer done()
			}
		}
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return errors.New("--url: write https://host, or https://host:port")
		}
		fmt.Fprintf(p.stdout, "# For the server: below tokens: in auth.file.\n%s\n", tokenEntry(entry))
		fmt.Fprintf(p.stdout, "# For the client: one line in ~/.netrc (on Windows _netrc), which nobody else may read.\nmachine %s login %s password %s\n", u.Host, entry.Name, token)
		if u.Scheme == "http" {
			fmt.Fprintf(p.stderr, "modgate: warning: the go command sends no token over plain HTTP: clients need https://, from tls.mode or from a proxy in front; then name it with --url\n")
		}
		return nil
	}
	return cmd
}

// tokenEntry is t as an item of the list in auth.file.
func tokenEntry(t auth.Token) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  - name: %q\n    sha256: %q\n", t.Name, t.SHA256)
	if len(t.Groups) > 0 {
		fmt.Fprintf(&b, "    groups: [%q", t.Groups[0])
		for _, g := range t.Groups[1:] {
			fmt.Fprintf(&b, ", %q", g)
		}
		b.WriteString("]\n")
	}
	if t.Expires != "" {
		fmt.Fprintf(&b, "    expires: %q\n", t.Expires)
	}
	return b.String()
}

func authCheckCommand(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Report mistakes in a file of tokens",
		Long: `Check reads FILE (default: auth.file) as the server would. The status is 1 if
there are mistakes. A token that has expired is none, and a warning.`,
		Args: cobra.MaximumNArgs(1),
	}
	settings := addSettings(cmd, p, "auth.file")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		s, err := settings()
		if err != nil {
			return err
		}
		if len(args) > 0 {
			s.Auth.File = args[0]
		}
		if s.Auth.File == "" {
			return errors.New("there is no file of tokens: name one, or set auth.file")
		}
		n := 0
		var expired []auth.Token
		data, err := readBounded(s.Auth.File, maxConfigFile)
		if err == nil {
			err = readTokens(s.Auth.File, data, func(tokens []auth.Token) error {
				n = len(tokens)
				for _, t := range tokens {
					if t.Expired(time.Now()) {
						expired = append(expired, t)
					}
				}
				return checkTokens(tokens)
			})
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("there is no file %s\n  → name the file of tokens, or leave the name out to check that of auth.file", s.Auth.File)
		}
		if err != nil {
			return err
		}
		for _, t := range expired {
			fmt.Fprintf(p.stderr, "modgate: warning: %s:%d: the token %s has expired (%s)\n  → take its entry out, or make a new one with modgate auth token\n", s.Auth.File, t.Line, t.Name, t.Expires)
		}
		fmt.Fprintf(p.stdout, "%s: %s\n", s.Auth.File, counted(n, "token"))
		return nil
	}
	return cmd
}
