package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/tlsmgr"
)

// rehearsal says what doctor does on request alone, because it is seen outside.
type rehearsal struct {
	probe   bool
	staging string // a name of directories, a URL, or byName; "": no
}

// byName stands for --staging without a value.
const byName = "auto"

func (r *rehearsal) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.probe, "probe", false, "With --server and tls.mode acme: answer a made-up challenge for a moment (a file, a certificate or a DNS record, which is taken back) and look whether it can be seen.")
	cmd.Flags().StringVar(&r.staging, "staging", "", "With --server and tls.mode acme: order a certificate for each name from a CA for trials, and throw it away. Without a value that of Let's Encrypt; of another CA, the URL of the directory.")
	cmd.Flags().Lookup("staging").NoOptDefVal = byName
}

// check reports that what is asked for cannot be done, and replaces the name of
// a CA by its URL.
func (r *rehearsal) check(s *settings, mistakes error) error {
	if !r.probe && r.staging == "" {
		return nil
	}
	switch {
	case mistakes != nil:
		return nil // told by the report, which then has no rehearsal
	case s.TLS.Mode != "acme":
		return fmt.Errorf("--probe and --staging need tls.mode acme, and it is %s\n  → leave them out: the rest is examined without them", s.TLS.Mode)
	case r.staging == "":
		return nil
	}
	if r.staging == byName {
		if s.TLS.CA != "letsencrypt" && s.TLS.CA != "letsencrypt-staging" {
			return errors.New("only Let's Encrypt has a CA for trials that is known here\n  → name the directory of one: --staging=https://ca.corp.example/acme/trial/directory")
		}
		r.staging = "letsencrypt-staging"
	}
	trial := TLS{CA: r.staging}
	if r.staging = trial.directory(); !strings.HasPrefix(r.staging, "https://") {
		return fmt.Errorf("--staging=%s is neither the name of a CA nor an https:// URL of an ACME directory\n  → --staging alone takes that of Let's Encrypt", r.staging)
	}
	return nil
}

// announce says what will be done beyond looking.
func (r *rehearsal) announce(w io.Writer) {
	if r.probe {
		fmt.Fprintln(w, "doctor: --probe answers a made-up challenge for each name for a moment, and takes it back")
	}
	if r.staging != "" {
		fmt.Fprintf(w, "doctor: --staging registers an account at %s, orders a certificate for each name there, and throws both away\n", r.staging)
	}
}

// doctorACME says what the doctor has to know of certificates by ACME.
func (s *settings) doctorACME(r rehearsal) *doctor.ACME {
	a := &doctor.ACME{
		Directory: s.TLS.directory(), Roots: s.TLS.CARoots, Challenge: s.TLS.Challenge, Resolvers: s.TLS.DNSResolvers,
		Probe: r.probe, Staging: r.staging,
	}
	for _, word := range s.TLS.Domains {
		if name, err := tlsmgr.ParseDomain(word); err == nil {
			a.Names = append(a.Names, name)
		}
	}
	switch s.TLS.Challenge {
	case tlsmgr.HTTP01:
		a.Port = "80"
	case tlsmgr.TLSALPN01:
		a.Port = "443"
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return a // nothing is known to be here; that is a note, no finding
	}
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil {
			a.Local = append(a.Local, prefix.Addr().Unmap())
		}
	}
	return a
}

// status asks the running server what it says of itself. TLS of what it returns
// is never nil.
func (r *remote) status(ctx context.Context, s *settings) (status, error) {
	st := status{TLS: &tlsStatus{}}
	body, err := r.do(ctx, s, http.MethodGet, "/-/status")
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return status{TLS: &tlsStatus{}}, fmt.Errorf("%s is no admin listener of modgate: %w", r.address, err)
	}
	if st.TLS == nil {
		st.TLS = &tlsStatus{}
	}
	if st.Version == "" {
		return st, fmt.Errorf("%s is no admin listener of modgate: its status names no version", r.address)
	}
	return st, nil
}
