package tlstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Bind is a BIND that has the zone zone.test, in which the holder of a TSIG key
// may make TXT records below _acme-challenge.
type Bind struct {
	Addr         string // host:port
	KeyName, Key string // hmac-sha256
}

// StartBind starts one that ends with the test. records are further lines of the
// zone file.
func StartBind(tb testing.TB, records ...string) *Bind {
	tb.Helper()
	path := os.Getenv("PATH")
	tb.Setenv("PATH", path+":/usr/sbin") // where Debian has it, and users do not look
	Need(tb, "named")
	dir := tb.TempDir()
	port := Port(tb)
	b := &Bind{Addr: Loopback(port), KeyName: "acme-key", Key: "bm90IGEgc2VjcmV0LCBidXQgbG9uZyBlbm91Z2ggZm9yIG9uZQ=="}
	files := map[string]string{
		"zone.db": "$TTL 60\n@ IN SOA ns.zone.test. admin.zone.test. ( 1 60 60 3600 60 )\n  IN NS ns.zone.test.\nns IN A 127.0.0.1\n* IN A 127.0.0.1\n@ IN A 127.0.0.1\n" + strings.Join(records, "\n") + "\n",
		"named.conf": fmt.Sprintf(`key %q { algorithm hmac-sha256; secret %q; };
options {
	directory %q; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	pid-file "named.pid"; session-keyfile "session.key"; managed-keys-directory ".";
	recursion no; allow-query { any; }; dnssec-validation no; notify no;
};
controls { };
zone "zone.test" { type master; file "zone.db"; update-policy {
	grant acme-key name _acme-challenge.app.zone.test. TXT;
	grant acme-key name _acme-challenge.zone.test. TXT;
}; };
`, b.KeyName, b.Key, dir, port),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	p := Start(tb, dir, nil, "named", "-g", "-c", filepath.Join(dir, "named.conf"))
	p.Await(tb, b.Addr)
	return b
}
