package tlsmgr

import (
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/caddyserver/certmagic"
)

// errSpoilt marks a stored certificate that cannot be used.
var errSpoilt = errors.New("the stored certificate is unusable")

// obtained is a certificate as it came from the CA.
type obtained struct {
	chain    []byte // PEM
	key      crypto.Signer
	metadata any
}

// record is what is remembered of the attempts for a name. It is in the
// storage, so that neither a restart nor another replica tries more often than
// the backoff allows.
type record struct {
	Failures    int       `json:"failures,omitempty"`    // in a row
	LastAttempt time.Time `json:"last_attempt,omitzero"` // begun
	NextAttempt time.Time `json:"next_attempt,omitzero"` // not before
	NotBefore   time.Time `json:"retry_after,omitzero"`  // as the CA demands: not even by hand
	Rest        time.Time `json:"rest,omitzero"`         // a certificate that is there is not replaced before, but by hand
	Problem     *Problem  `json:"problem,omitempty"`     // of the last attempt
	// When attempts began, and when they were successful; see remember.
	Tried  []time.Time `json:"tried,omitempty"`
	Issued []time.Time `json:"issued,omitempty"`
}

// Names in the storage. Certificates lie where certmagic has them, so that what
// another program that uses it has obtained is found.

func (n *managed) certName() string {
	return certmagic.StorageKeys.SiteCert(n.issuer.IssuerKey(), n.name)
}
func (n *managed) keyName() string {
	return certmagic.StorageKeys.SitePrivateKey(n.issuer.IssuerKey(), n.name)
}
func (n *managed) metaName() string {
	return certmagic.StorageKeys.SiteMeta(n.issuer.IssuerKey(), n.name)
}

// ownName names what we add to it.
func (n *managed) ownName(kind string) string {
	safe := certmagic.StorageKeys.Safe
	return path.Join("modgate", kind, safe(n.issuer.IssuerKey()), safe(n.name)+".json")
}

// lockName is as certmagic's.
func (n *managed) lockName() string { return "issue_cert_" + n.name }

// loadStored returns the stored certificate; fs.ErrNotExist if there is none,
// errSpoilt if what there is cannot be used.
func (n *managed) loadStored(ctx context.Context) (*tls.Certificate, error) {
	chain, err := n.storage.Load(ctx, n.certName())
	if err != nil {
		return nil, err
	}
	key, err := n.storage.Load(ctx, n.keyName())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSpoilt, err)
	}
	if err := cert.Leaf.VerifyHostname(probe(n.name)); err != nil {
		return nil, fmt.Errorf("%w: %w", errSpoilt, err)
	}
	return &cert, nil
}

// probe returns a host that a certificate for name must be good for.
func probe(name string) string {
	if len(name) > 2 && name[:2] == "*." {
		return "probe" + name[1:]
	}
	return name
}

// store stores o. The certificate itself comes last: without it nothing is
// there.
func (n *managed) store(ctx context.Context, o *obtained) error {
	issuerData, err := json.Marshal(o.metadata)
	if err != nil {
		return err
	}
	meta, err := json.MarshalIndent(certmagic.CertificateResource{SANs: []string{n.name}, IssuerData: issuerData}, "", "\t")
	if err != nil {
		return err
	}
	key, err := certmagic.PEMEncodePrivateKey(o.key)
	if err != nil {
		return err
	}
	return errors.Join(n.storage.Store(ctx, n.keyName(), key), n.storage.Store(ctx, n.metaName(), meta), n.storage.Store(ctx, n.certName(), o.chain))
}

// spoiltDir is where what cannot be used is moved to.
const spoiltDir = "modgate/spoilt"

// putAside moves what is stored under names out of the way, to where a person
// can look at it. The caller holds the lock of what it is: without it, another
// replica might be in the middle of storing.
func (s *acmeSource) putAside(ctx context.Context, what string, names ...string) error {
	aside := path.Join(spoiltDir, certmagic.StorageKeys.Safe(what), time.Now().UTC().Format("20060102T150405"))
	var errs []error
	for _, name := range names {
		data, err := s.storage.Load(ctx, name)
		if err == nil {
			err = s.storage.Store(ctx, path.Join(aside, path.Base(name)), data)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, s.storage.Delete(ctx, name))
	}
	return errors.Join(errs...)
}

// loadRecord returns the record of the name; an empty one if there is none or
// if it cannot be read as one.
func (n *managed) loadRecord(ctx context.Context) (record, error) {
	var r record
	data, err := n.storage.Load(ctx, n.ownName("attempts"))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if json.Unmarshal(data, &r) != nil {
		r = record{}
	}
	return r, nil
}

func (n *managed) storeRecord(ctx context.Context, r record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return n.storage.Store(ctx, n.ownName("attempts"), data)
}
