package tlsmgr

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// Trial is the answer to a challenge that no CA has asked for, there so that
// somebody can look whether a CA would see it.
type Trial struct {
	// Host is the name that is tried, Token that of the challenge.
	Host, Token string
	// Answer is the key authorization (RFC 8555, 8.1): the content of the file of
	// http-01, and what the certificate of tls-alpn-01 has the digest of.
	Answer string
	// Record and Value are those of the TXT record of dns-01.
	Record, Value string
	// Listening says that no server listens at the address of challenges, so that
	// the trial does.
	Listening bool

	undo []func(context.Context) error // the last first
}

// Close takes everything back. It is called once.
func (t *Trial) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var errs []error
	for len(t.undo) > 0 {
		last := len(t.undo) - 1
		errs = append(errs, t.undo[last](ctx))
		t.undo = t.undo[:last]
	}
	return errors.Join(errs...)
}

// ServerName is by what name a CA asks for the certificate of tls-alpn-01.
func (t *Trial) ServerName() string {
	if ip, err := netip.ParseAddr(t.Host); err == nil {
		return reverseName(ip)
	}
	return t.Host
}

// Try answers a challenge for a name until the Trial is closed. As in an order,
// the running server answers, which finds it in the storage, or we do if none is
// there. It is for a Manager that does not run, in mode ACME. The record of
// dns-01 is made by the provider; the caller waits until it can be seen.
func (m *Manager) Try(ctx context.Context, name string) (t *Trial, err error) {
	s, ok := m.source.(*acmeSource)
	if !ok {
		return nil, fmt.Errorf("mode %s has no challenges", m.cfg.Mode)
	}
	host := strings.TrimPrefix(name, "*.")
	t = &Trial{Host: host, Token: "modgate-doctor-" + rand.Text()}
	t.Answer = t.Token + "." + rand.Text()
	c := acme.Challenge{Type: s.cfg.Challenge, Token: t.Token, KeyAuthorization: t.Answer, Identifier: acme.Identifier{Type: "dns", Value: host}}
	if net.ParseIP(host) != nil {
		c.Identifier.Type = "ip"
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close(ctx))
		}
	}()
	if s.cfg.Challenge == DNS01 {
		t.Record, t.Value = c.DNS01TXTRecordName(), c.DNS01KeyAuthorization()
		if err := s.cfg.DNS.Present(ctx, c); err != nil {
			return t, err
		}
		t.undo = append(t.undo, func(ctx context.Context) error { return s.cfg.DNS.CleanUp(ctx, c) })
		return t, nil
	}
	if err := s.lend(ctx, t, name); err != nil {
		return t, err
	}
	if err := s.storeAnswer(ctx, t, c); err != nil {
		return t, err
	}
	return t, s.listen(ctx, t)
}

// inUse reports whether a server has ever worked with the storage: one that has
// not cannot be running, and nothing should be made there for it.
func (s *acmeSource) inUse(ctx context.Context) (bool, error) {
	for _, dir := range []string{"modgate", "acme"} {
		if _, err := s.storage.List(ctx, dir, false); !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// lend keeps others from ordering for the name as long as t is open, whose
// answer would be taken for theirs. An unused storage is replaced by one in
// memory.
func (s *acmeSource) lend(ctx context.Context, t *Trial, name string) error {
	used, err := s.inUse(ctx)
	if err != nil {
		return fmt.Errorf("the storage of certificates: %w", err)
	}
	if !used {
		s.storage = newScratch()
		s.magic.Storage = s.storage
		return nil
	}
	lock := "issue_cert_" + name
	patience, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := s.storage.Lock(patience, lock); err != nil {
		return fmt.Errorf("the server is at work on an order for %s, or its storage does not answer: %w", name, err)
	}
	t.undo = append(t.undo, func(ctx context.Context) error { return s.storage.Unlock(ctx, lock) })
	return nil
}

// storeAnswer puts the answer where every replica looks for it.
func (s *acmeSource) storeAnswer(ctx context.Context, t *Trial, c acme.Challenge) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	asked := t.Host
	if s.cfg.Challenge == TLSALPN01 {
		asked = t.ServerName() // what the answer is looked for by
	}
	key := path.Join(answersOf(s.issuer), certmagic.StorageKeys.Safe(asked)+".json")
	t.undo = append(t.undo, func(ctx context.Context) error { return s.storage.Delete(ctx, key) })
	return s.storage.Store(ctx, key, data)
}

// answersOf returns where certmagic keeps the answers to the challenges of an
// issuer.
func answersOf(issuer *certmagic.ACMEIssuer) string {
	return path.Join("acme", certmagic.StorageKeys.Safe(issuer.IssuerKey()), "challenge_tokens")
}

// listen answers at the address of challenges, unless somebody does already.
func (s *acmeSource) listen(ctx context.Context, t *Trial) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil
	}
	if err != nil {
		return err
	}
	t.Listening = true
	server := &http.Server{Handler: s.m.HTTPHandler(http.NotFoundHandler()), ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() {
		if s.cfg.Challenge == TLSALPN01 {
			l = tls.NewListener(l, s.m.TLSConfig())
		}
		ended <- server.Serve(l)
	}()
	t.undo = append(t.undo, func(context.Context) error {
		err := server.Close()
		<-ended
		return err
	})
	return nil
}

// InstancePath is where a server with the challenge http-01 says which process
// it is, so that doctor can tell whether port 80 of a name leads to it.
const InstancePath = "/.well-known/acme-challenge/modgate-doctor"

// Instance is what the process answers at InstancePath.
func (m *Manager) Instance() string { return m.instance }

// answerInstance answers at InstancePath and reports whether r was for it.
func (s *acmeSource) answerInstance(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path != InstancePath {
		return false
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, s.m.instance+"\n")
	return true
}
