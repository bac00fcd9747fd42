package doctor_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/tlsmgr"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// acmeWorld is the machine of a server that gets its certificate from a real
// CA.
type acmeWorld struct {
	*world
	ca      *tlstest.Pebble
	signer  *tlstest.Pebble // which signs instead of it; nil: it does
	keeper  tlsmgr.Config   // of the server
	dir     string          // of the storage
	name    string          // for which it has certificates
	server  *doctor.ServerConfig
	watched bool            // what is sent to the CA is remembered
	mute    bool            // where the CA looks for challenges, nobody listens
	run     *tlsmgr.Manager // nil: the server does not run
	stop    func()
	shut    func() // closes port 80
	https   string // where the server is
	signed  []byte // the root that signs its certificates, in PEM
}

// newACMEWorld makes one for one name. The server does not run.
func newACMEWorld(t *testing.T, challenge string) *acmeWorld {
	w, c := serverWorld(t)
	a := &acmeWorld{world: w, ca: tlstest.StartPebble(t, w.pki, tlstest.PebbleConfig{}), dir: filepath.Join(t.TempDir(), "tls"), server: c, stop: func() {}}
	// Of its own: certmagic knows the challenges of a process by their names.
	a.name = "a" + portOfURL(a.ca.HTTPAddr) + ".test"
	w.names[a.name] = "127.0.0.1"
	a.keeper = tlsmgr.Config{
		Mode: tlsmgr.ACME, Domains: []string{a.name}, Storage: &certmagic.FileStorage{Path: a.dir}, Roots: w.pki.Pool(),
		ACME: tlsmgr.ACMEConfig{CA: a.ca.Directory, Challenge: challenge, Listen: a.ca.HTTPAddr, Profile: "default", Roots: w.pki.Pool(), Patience: 10 * time.Second},
	}
	c.ACME = &doctor.ACME{
		Directory: a.ca.Directory, Roots: []string{w.trusted}, Names: a.keeper.Domains, Challenge: challenge,
		Local: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Resolvers: []string{a.ca.DNSAddr},
	}
	switch challenge {
	case tlsmgr.TLSALPN01:
		a.keeper.ACME.Listen = a.ca.TLSAddr
		fallthrough
	case tlsmgr.HTTP01:
		c.ACME.Port = portOfURL(a.keeper.ACME.Listen)
	}
	return a
}

// called gives the server another name. It does not run yet.
func (a *acmeWorld) called(name string) {
	a.name = name
	a.keeper.Domains, a.server.ACME.Names = []string{name}, []string{name}
}

// start starts the server, and waits until it has all its certificates.
func (a *acmeWorld) start() {
	a.t.Helper()
	if a.mute { // it would listen there itself as long as it waits for a CA
		a.keeper.ACME.Listen = tlstest.Loopback(tlstest.Port(a.t))
	}
	a.signed = slices.Concat(cmp.Or(a.signer, a.ca).RootPEM(a.t), certPEM(a.pki.Root.Cert.Raw))
	m, err := tlsmgr.New(a.keeper)
	a.check(err)
	a.run = m
	ctx, cancel := context.WithCancel(a.t.Context())
	quiet := log.New(io.Discard, "", 0)
	servers := []*http.Server{
		{Handler: m.HTTPHandler(tlsmgr.Redirect("443")), ErrorLog: quiet},
		{Handler: a.modules(), ErrorLog: quiet, TLSConfig: m.TLSConfig()},
	}
	ended := make(chan struct{}, 3)
	for i, address := range []string{a.ca.HTTPAddr, a.ca.TLSAddr} {
		if a.mute {
			address = "127.0.0.1:0"
		}
		l, err := net.Listen("tcp", address)
		a.check(err)
		if i == 1 {
			a.https = "https://" + net.JoinHostPort(a.name, portOf(l))
			l = tls.NewListener(l, m.TLSConfig())
		}
		go func() { servers[i].Serve(l); ended <- struct{}{} }()
	}
	m.Load(ctx)
	go func() { m.Run(ctx); ended <- struct{}{} }()
	a.shut = func() { servers[0].Close() }
	stopped := false
	a.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for _, s := range servers {
			s.Close()
		}
		for range 3 {
			<-ended
		}
	}
	a.t.Cleanup(func() { a.stop() })
	for range 2400 {
		ready, failed := true, true
		for _, s := range m.Status() {
			failed = failed && (s.Problem != nil || strings.Contains(s.Alarm, "storage"))
			ready = ready && (s.Problem != nil || s.Serial != "" && !s.NextAttempt.IsZero() && s.Failures == 0)
		}
		// Stored, too, and the CA has said when it wants to be asked again, if it does: of
		// a certificate that lives for seconds it is not asked.
		if renewal := a.keeper.ACME.Profile == "tiny" || a.keeper.Storage.Exists(ctx, "modgate/renewal") || !a.watched && a.keeper.ACME.CA != a.ca.Directory; ready && renewal || failed {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	a.t.Fatalf("no certificate: %+v", m.Status())
}

// modules serves the modules and says, as modgate does, which certificates it has.
func (a *acmeWorld) modules() http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.URL.Path != doctor.FingerprintPath {
			a.mods.Config.Handler.ServeHTTP(out, r)
			return
		}
		var f doctor.Fingerprint
		for _, s := range a.run.Status() {
			f.Certificates = append(f.Certificates, doctor.Identity{Issuer: s.Issuer, Serial: s.Serial})
		}
		json.NewEncoder(out).Encode(f)
	})
}

// examine examines the server as cmd does.
func (a *acmeWorld) examine() *doctor.Report {
	a.t.Helper()
	m, err := tlsmgr.New(a.keeper)
	a.check(err)
	a.server.Keeper = m
	if a.run != nil {
		a.server.Certificates, a.server.ACME.Instance = a.run.Status(), a.run.Instance()
	}
	s, err := doctor.NewServer(*a.server)
	a.check(err)
	r := s.Examine(a.t.Context())
	checkTexts(a.t, r)
	return r
}

// want compares what is found, notes left out.
func (a *acmeWorld) want(want string) *doctor.Report {
	a.t.Helper()
	var r *doctor.Report
	quick(a.t, func() { r = a.examine() })
	if got := strings.Join(codes(r), " "); got != want {
		a.t.Errorf("found %q, want %q\n%s", got, want, text(r))
	}
	return r
}

// says checks that the report has a text.
func says(t *testing.T, r *doctor.Report, want string) {
	t.Helper()
	if !strings.Contains(text(r), want) {
		t.Errorf("%q is not in\n%s", want, text(r))
	}
}
