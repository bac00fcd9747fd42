package tlsmgr

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"strings"

	"github.com/caddyserver/certmagic"
)

// DryRun orders a certificate for name from another CA, one for trying things,
// by the configured challenge, and throws it away. The account that is
// registered there, its key and the certificate are in memory alone. As with
// Try, the running server answers the challenge, or we do; the storage has the
// answer meanwhile, and nobody else orders for the name. It is for a Manager in
// mode ACME that does not run. The error may be a *Problem.
func (m *Manager) DryRun(ctx context.Context, ca, name string) (chain []*x509.Certificate, err error) {
	name, err = ParseDomain(name)
	if err != nil {
		return nil, err
	}
	cfg := m.cfg
	cfg.Domains, cfg.Storage = []string{name}, newScratch()
	if !sameHost(ca, cfg.ACME.CA) { // an account that the one CA knows is none of the other's
		cfg.ACME.AccountKeyID, cfg.ACME.AccountMAC = "", ""
	}
	cfg.ACME.CA = ca
	dry, err := New(cfg)
	if err != nil {
		return nil, err
	}
	real, other := m.source.(*acmeSource), dry.source.(*acmeSource)
	t := new(Trial)
	defer func() {
		if cerr := t.Close(ctx); err == nil {
			err = cerr
		}
	}()
	if err := real.lend(ctx, t, name); err != nil {
		return nil, err
	}
	other.storage = &borrowed{Storage: cfg.Storage, real: real.storage, from: answersOf(other.issuer), to: answersOf(real.issuer)}
	other.magic.Storage = other.storage
	n := other.names[0]
	o, err := n.order(ctx)
	if err != nil {
		return nil, n.explain(ctx, err)
	}
	for rest := o.chain; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return chain, nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
}

func sameHost(a, b string) bool {
	u, err := url.Parse(a)
	v, verr := url.Parse(b)
	return err == nil && verr == nil && u.Host == v.Host
}

// borrowed is a storage that puts the answers to challenges, and nothing else,
// also into the real one, where the running server looks for them.
type borrowed struct {
	certmagic.Storage
	real     certmagic.Storage
	from, to string // where answers are in the one and in the other
}

// Store also stores an answer where the running server looks.
func (b *borrowed) Store(ctx context.Context, key string, value []byte) error {
	if rest, ok := strings.CutPrefix(key, b.from+"/"); ok {
		if err := b.real.Store(ctx, b.to+"/"+rest, value); err != nil {
			return err
		}
	}
	return b.Storage.Store(ctx, key, value)
}

// Delete also takes the answer back.
func (b *borrowed) Delete(ctx context.Context, key string) error {
	if rest, ok := strings.CutPrefix(key, b.from+"/"); ok {
		if err := b.real.Delete(context.WithoutCancel(ctx), b.to+"/"+rest); err != nil {
			return err
		}
	}
	return b.Storage.Delete(ctx, key)
}
