package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// TestNoCertificateYet starts where the CA cannot be reached: no client gets
// through, and whoever asks is told so.
func TestNoCertificateYet(t *testing.T) {
	t.Parallel()
	flags := []string{"--tls-mode=acme", "--tls-domains=go.corp.test", "--tls-ca=https://" + nobody(t) + "/directory"}
	comes := newWorld(t).start(t, flags...)
	comes.await(t, "no certificate obtained")
	if code, text := get(t, comes.admin+"/readyz"); code != 200 || !strings.Contains(text, "ready for the CA; no certificate yet") {
		t.Errorf("/readyz where the CA has to come: %d %q", code, text)
	}
	i := newWorld(t).start(t, append(flags, "--tls-challenge=dns-01", "--tls-dns-provider=exec", "--tls-dns-settings=command=/bin/true")...)
	i.await(t, "no certificate obtained")
	if code, text := get(t, i.admin+"/readyz"); code != 503 || !strings.Contains(text, "no certificate yet") {
		t.Errorf("/readyz: %d %q", code, text)
	}
	if code, _ := get(t, i.admin+"/healthz"); code != 200 {
		t.Errorf("/healthz: %d", code)
	}
	if m := metrics(t, i); m["modgate_ready"] != 0 {
		t.Error("modgate_ready is not 0")
	}
	if _, body := get(t, i.admin+"/-/status"); !strings.Contains(body, `"ready":false`) && !strings.Contains(body, `"ready": false`) {
		t.Error(body)
	}
	if out := i.command(t, "tls", "status", "--admin="+i.admin); !strings.Contains(out, "there is no certificate yet, and handshakes for this name fail") {
		t.Error(out)
	}
	out := i.command(t, "tls", "renew", "--admin="+i.admin, "go.corp.test")
	if strings.Contains(out, "old certificate") || !strings.Contains(out, "there is no certificate for go.corp.test") {
		t.Error(out)
	}
	for line := range strings.Lines(i.log()) {
		if strings.Contains(line, "account []") || strings.Count(line, "check tls.ca") > 1 {
			t.Error(line)
		}
	}
}

// A certificate for one of the names is enough to be ready.
func TestReadyWithOneCertificate(t *testing.T) {
	t.Parallel()
	pki := tlstest.New(t)
	p := tlstest.StartPebble(t, pki, tlstest.PebbleConfig{})
	i := newWorld(t).start(t, "--tls-mode=acme", "--tls-domains=go.corp.test,no.address.invalid", "--tls-profile=default",
		"--tls-ca="+p.Directory, "--listen="+p.TLSAddr, "--tls-ca-roots="+pki.WriteRoot(t.TempDir()))
	i.await(t, "certificate obtained.* name=go.corp.test ")
	if code, text := get(t, i.admin+"/readyz"); code != 200 {
		t.Errorf("/readyz: %d %q", code, text)
	}
}

// TestStatusBeforeTheFirstCertificate: who waits for a server until tls status ends
// well does not go on before there is a certificate, also while nothing has failed.
func TestStatusBeforeTheFirstCertificate(t *testing.T) {
	for names, well := range map[string]bool{"[]": false, `["go.corp.test"]`: true} {
		admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"tls": {"mode": "acme", "certificates": [{"name": "go.corp.test", "names": `+names+`}]}}`)
		}))
		defer admin.Close()
		err := run(t.Context(), []string{"tls", "status", "--config=off", "--admin=" + admin.URL}, nil, io.Discard, io.Discard)
		if (err == nil) != well {
			t.Errorf("with the names %s: %v", names, err)
		}
	}
}
