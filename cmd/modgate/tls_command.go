package main

import (
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/modgate/modgate/tlsmgr"
)

func caCommand(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Show our own authority (tls.mode: internal)",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root := &cobra.Command{
		Use:   "root",
		Short: "Print the root certificate that clients have to trust",
		Long: `Root prints the root certificate of our own authority as PEM, and its
fingerprint on standard error. Run it where the server runs, with the same
flags, environment and file: it reads what the server has stored. The key of the
root stays where it is.`,
		Args: cobra.NoArgs,
	}
	settings := addAllSettings(root, p, "cache.dir", "tls.mode", "tls.storage", "tls.storage_key")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := settings()
		if err != nil {
			return err
		}
		mode := s.TLS.Mode
		s.TLS.Mode = "internal" // whatever the server is told to do today, its root is what is stored
		storage, done, err := s.openCertStorage(nil)
		if err != nil {
			return err
		}
		defer done()
		data, err := tlsmgr.RootPEM(cmd.Context(), storage)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no authority of our own in the storage: cache.dir is %s, tls.storage %q, tls.mode %s\n  → run this with the flags, environment and file of the server; the first start of modgate serve with tls.mode internal makes it", s.Cache.Dir, s.TLS.Storage, mode)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "SHA-256 fingerprint: %s\n", fingerprint(data))
		_, err = p.stdout.Write(data)
		return err
	}
	cmd.AddCommand(root)
	return cmd
}

// fingerprint returns the SHA-256 fingerprint of the first certificate in data
// as openssl and keychains show it, or "".
func fingerprint(data []byte) string {
	block, _ := pem.Decode(data)
	if block == nil {
		return ""
	}
	var b strings.Builder
	for i, x := range sha256.Sum256(block.Bytes) {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", x)
	}
	return b.String()
}

// trustLines say how a developer's machine learns to trust our own authority.
func trustLines(c *Config) []clientLine {
	switch c.TLS.Mode {
	case "internal":
	case "acme":
		if c.TLS.CA == "letsencrypt" || c.TLS.CA == "zerossl" {
			return nil // every system knows them
		}
		fallthrough
	case "files":
		return []clientLine{{why: "If no public authority has signed the certificate of this server, each machine has to trust the one that has: in its system, or on Linux by SSL_CERT_FILE."}}
	default:
		return nil
	}
	how := []string{
		"The certificate of this server is from its own authority, which each machine has to trust, once.",
		"The file modgate-root.pem is what \"modgate ca root\" prints on the server.",
		"  Debian, Ubuntu:  sudo cp modgate-root.pem /usr/local/share/ca-certificates/modgate-root.crt && sudo update-ca-certificates",
		"  Fedora, RHEL:    sudo cp modgate-root.pem /etc/pki/ca-trust/source/anchors/ && sudo update-ca-trust",
		"  macOS:           sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain modgate-root.pem",
		"  Windows:         certutil -addstore -f Root modgate-root.pem   (as administrator)",
		"On Linux an environment variable does it too, in a CI job say; the go command knows it by no other way.",
		"  export SSL_CERT_FILE=/path/modgate-root.pem",
	}
	return []clientLine{{why: strings.Join(how, "\n# ")}}
}
