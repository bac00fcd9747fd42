package tlstest

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// StepCA is a smallstep CA with the PKI as its own: its certificates are signed
// by the intermediate.
type StepCA struct {
	// Address is where it listens. The ACME directory of a provisioner is
	// https://Address/acme/NAME/directory; there are "acme" (24 hours), "short"
	// (five minutes) and "eab" (accounts must be bound).
	Address string
	// HTTPAddr and TLSAddr are where it looks for challenges.
	HTTPAddr, TLSAddr string
}

// StartStepCA starts one that ends with the test and asks dns for names.
func StartStepCA(tb testing.TB, pki *PKI, dns string) *StepCA {
	tb.Helper()
	Need(tb, "step-ca")
	dir := tb.TempDir()
	httpPort, tlsPort := Port(tb), Port(tb)
	s := &StepCA{Address: Loopback(Port(tb)), HTTPAddr: Loopback(httpPort), TLSAddr: Loopback(tlsPort)}
	cert, key := pki.Write(dir, "intermediate", tls.Certificate{Certificate: [][]byte{pki.Intermediate.Cert.Raw}, PrivateKey: pki.Intermediate.Key})
	claims := map[string]string{"minTLSCertDuration": "1m", "maxTLSCertDuration": "1h", "defaultTLSCertDuration": "5m"}
	config := map[string]any{
		"root": pki.WriteRoot(dir), "crt": cert, "key": key, "address": s.Address, "dnsNames": []string{"localhost", "127.0.0.1"},
		"logger": map[string]string{"format": "text"},
		"db":     map[string]string{"type": "badgerv2", "dataSource": filepath.Join(dir, "db")},
		"authority": map[string]any{"provisioners": []map[string]any{
			{"type": "ACME", "name": "acme"}, {"type": "ACME", "name": "short", "claims": claims}, {"type": "ACME", "name": "eab", "requireEAB": true},
		}},
	}
	data, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "ca.json"), data, 0o600)
	}
	if err != nil {
		tb.Fatal(err)
	}
	p := Start(tb, dir, nil, "step-ca", "--insecure", fmt.Sprintf("--acme-http-port=%d", httpPort), fmt.Sprintf("--acme-tls-port=%d", tlsPort), "--resolver", dns, filepath.Join(dir, "ca.json"))
	p.Await(tb, s.Address)
	return s
}

// Directory returns the URL of the ACME directory of a provisioner.
func (s *StepCA) Directory(provisioner string) string {
	return "https://" + s.Address + "/acme/" + provisioner + "/directory"
}
