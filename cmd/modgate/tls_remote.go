package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/modgate/modgate/tlsmgr"
)

// renewPatience bounds a renewal that somebody waits for.
const renewPatience = 6 * time.Minute

// renewCertificate answers POST /-/tls/renew?name=NAME when the certificate is
// renewed or could not be.
func (a *admin) renewCertificate(w http.ResponseWriter, r *http.Request) {
	if a.certificates == nil {
		plain(w, http.StatusNotFound, "tls.mode is off\n")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), renewPatience)
	defer cancel()
	name := r.FormValue("name")
	switch err := a.certificates.Renew(ctx, name); {
	case errors.Is(err, tlsmgr.ErrUnknownName):
		plain(w, http.StatusNotFound, err.Error()+"\n")
	case err != nil && !a.has(name):
		plain(w, http.StatusBadGateway, "not obtained, and there is no certificate for "+name+": "+err.Error()+"\n")
	case err != nil:
		plain(w, http.StatusBadGateway, "not renewed, the old certificate stays: "+err.Error()+"\n")
	default:
		plain(w, http.StatusOK, "renewed\n")
	}
}

// has reports whether a certificate is served for what the configuration calls
// name.
func (a *admin) has(name string) bool {
	return slices.ContainsFunc(a.certificates.Status(), func(s tlsmgr.Status) bool { return s.Name == name && len(s.Names) > 0 })
}

func tlsCommand(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tls",
		Short: "Look at the certificates of a running server, and renew them",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(tlsStatusCommand(p), tlsRenewCommand(p))
	return cmd
}

// remote is the admin listener of a running server.
type remote struct{ address, caFile, certFile, keyFile string }

// flags gives cmd the flags by which the server is found.
func (r *remote) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.address, "admin", "", "The URL of the admin listener. Default: made from admin.listen.")
	cmd.Flags().StringVar(&r.caFile, "cacert", "", "PEM file of the authority of the admin listener, if the system does not know it.")
	cmd.Flags().StringVar(&r.certFile, "cert", "", "PEM file of the certificate to show, where tls.admin_clients asks for one.")
	cmd.Flags().StringVar(&r.keyFile, "key", "", "PEM file of its key.")
}

// find fills in the address that no flag gave.
func (r *remote) find(s *settings) error {
	if r.address != "" {
		return nil
	}
	if s.Admin.Listen == "" {
		return errors.New("admin.listen is empty: name the server by --admin")
	}
	r.address = localURL(s.Admin.Listen, "/")
	if len(s.TLS.AdminClients) > 0 {
		r.address = "https" + strings.TrimPrefix(r.address, "http")
	}
	return nil
}

// do sends a request and returns the body of a good answer.
func (r *remote) do(ctx context.Context, s *settings, method, path string) ([]byte, error) {
	if err := r.find(s); err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if r.caFile != "" {
		if c.RootCAs, err = trustPool(List{r.caFile}); err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
	}
	if r.certFile != "" {
		cert, err := tls.LoadX509KeyPair(r.certFile, r.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(r.address, "/")+path, nil)
	if err != nil {
		return nil, fmt.Errorf("--admin: %w", err)
	}
	transport := &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: renewPatience + time.Minute}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w\n  → is modgate serve running, and %s its admin listener?", err, r.address)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(body)))
	}
	return body, err
}

func tlsStatusCommand(p *process) *cobra.Command {
	var r remote
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print what the server serves, and what is wrong with it",
		Long: `Status asks the admin listener of a running server for its certificates. It
ends with status 1 if something is wrong with one of them, or nothing is served.`,
		Args: cobra.NoArgs,
	}
	settings := addSettings(cmd, p, "admin.listen", "tls.admin_clients")
	r.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := settings()
		if err != nil {
			return err
		}
		body, err := r.do(cmd.Context(), s, http.MethodGet, "/-/status")
		if err != nil {
			return err
		}
		var st status
		if err := json.Unmarshal(body, &st); err != nil {
			return fmt.Errorf("the answer of %s: %w", r.address, err)
		}
		if st.TLS == nil {
			return errors.New("the server does not speak TLS: tls.mode is off")
		}
		if asJSON {
			err = writeJSON(p.stdout, st.TLS)
		} else {
			err = st.TLS.write(p.stdout)
		}
		for _, c := range st.TLS.Certificates {
			if (c.Alarm != "" || len(c.Names) == 0) && err == nil {
				err = errReported
			}
		}
		return err
	}
	return cmd
}

// write prints the state for people.
func (t *tlsStatus) write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "  %s\t%s\n", name, value)
		}
	}
	at := func(when time.Time) string {
		if when.IsZero() {
			return ""
		}
		return when.UTC().Format("2006-01-02 15:04:05 UTC") + " (" + distanceText(time.Until(when)) + ")"
	}
	for _, c := range t.Certificates {
		fmt.Fprintln(table, c.Name)
		if len(c.Names) == 0 {
			line("served", "nothing: there is no certificate yet, and handshakes for this name fail")
		}
		line("names", strings.Join(c.Names, " "))
		line("issuer", c.Issuer)
		line("serial", c.Serial)
		line("expires", at(c.NotAfter))
		line("last attempt", at(c.LastAttempt))
		line("next attempt", at(c.NextAttempt))
		line("renewal", c.RenewalReason)
		if c.Failures > 0 {
			line("failures", fmt.Sprint(c.Failures))
		}
		line("ALARM", c.Alarm)
		if c.Problem != nil {
			for _, ch := range c.Problem.Challenges {
				line("challenge", strings.TrimSpace(ch.Type+" "+ch.Status+": "+ch.Error))
			}
		}
	}
	if t.Refused.Clients > 0 {
		fmt.Fprintf(table, "clients that refused a certificate\n")
		line("addresses", fmt.Sprint(t.Refused.Clients))
		line("last", fmt.Sprintf("%s, %s: %s", t.Refused.Last, at(t.Refused.At), t.Refused.Error))
	}
	return table.Flush()
}

// distanceText says how far away a moment is.
func distanceText(d time.Duration) string {
	if d < 0 {
		return distanceText(-d)[len("in "):] + " ago"
	}
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("in %d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("in %d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("in %d minutes", d/time.Minute)
	}
	return fmt.Sprintf("in %d seconds", d/time.Second)
}

func tlsRenewCommand(p *process) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use:   "renew NAME",
		Short: "Get a new certificate for one of tls.domains now",
		Long: `Renew lets a running server get a new certificate for the name, and waits for
the outcome. The old one is served until the new one is there. Each renewal counts
against the limits of the CA; while that says "retry after", there is none.`,
		Args: cobra.ExactArgs(1),
	}
	settings := addSettings(cmd, p, "admin.listen", "tls.admin_clients")
	r.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := settings()
		if err != nil {
			return err
		}
		body, err := r.do(cmd.Context(), s, http.MethodPost, "/-/tls/renew?name="+url.QueryEscape(args[0]))
		if err != nil {
			return err
		}
		_, err = p.stdout.Write(body)
		return err
	}
	return cmd
}
