package tlsmgr

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"time"

	"github.com/caddyserver/certmagic"
)

// Lifetimes of what our own authority signs. Clients trust the root for as long
// as it lives; the intermediate is what signs from day to day, so that the
// root's key is read only once a year.
const (
	rootLife         = 10 * 365 * 24 * time.Hour
	intermediateLife = 2 * 365 * 24 * time.Hour
	leafLife         = 7 * 24 * time.Hour

	// clockSkew is how far the clock of a client may be behind.
	clockSkew = time.Hour
)

// Names in the storage. The root's certificate is written last: as long as it
// is missing, there is no authority.
const (
	rootCertKey         = "pki/root.crt"
	rootKeyKey          = "pki/root.key"
	intermediateCertKey = "pki/intermediate.crt"
	intermediateKeyKey  = "pki/intermediate.key"
	authorityLock       = "modgate_authority"
)

// authority is the part of our own CA that signs: the intermediate. It is
// immutable.
type authority struct {
	root, intermediate *x509.Certificate
	key                crypto.Signer // of the intermediate
}

// RootPEM returns the root certificate that is in storage; fs.ErrNotExist if
// there is no authority yet. It creates nothing.
func RootPEM(ctx context.Context, storage certmagic.Storage) ([]byte, error) {
	data, err := storage.Load(ctx, rootCertKey)
	if err != nil {
		return nil, err
	}
	_, err = parseCert(data, rootCertKey)
	return data, err
}

// openAuthority returns the authority in storage. If there is none it is made,
// and if its intermediate is in the last third of its life that is replaced;
// both under a lock, so that all replicas get the same.
func openAuthority(ctx context.Context, storage certmagic.Storage) (*authority, error) {
	a, err := loadAuthority(ctx, storage)
	if err == nil && !a.old() {
		return a, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := storage.Lock(ctx, authorityLock); err != nil {
		return nil, fmt.Errorf("lock the authority: %w", err)
	}
	a, err = renewAuthority(ctx, storage)
	return a, errors.Join(err, storage.Unlock(context.WithoutCancel(ctx), authorityLock))
}

// old reports whether the intermediate should be replaced.
func (a *authority) old() bool {
	return time.Until(a.intermediate.NotAfter) < intermediateLife/3
}

// loadAuthority returns the authority as it is stored.
func loadAuthority(ctx context.Context, storage certmagic.Storage) (*authority, error) {
	root, _, err := loadSigner(ctx, storage, rootCertKey, "")
	if err != nil {
		return nil, err
	}
	intermediate, key, err := loadSigner(ctx, storage, intermediateCertKey, intermediateKeyKey)
	if err != nil {
		return nil, err
	}
	if err := intermediate.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("%s is not signed by %s: %w; restore them together from a backup, or delete pki/ and let every client trust the new root", intermediateCertKey, rootCertKey, err)
	}
	return &authority{root, intermediate, key}, nil
}

// loadSigner loads a certificate and, unless keyName is empty, its key.
func loadSigner(ctx context.Context, storage certmagic.Storage, certName, keyName string) (*x509.Certificate, crypto.Signer, error) {
	data, err := storage.Load(ctx, certName)
	if err != nil {
		return nil, nil, fmt.Errorf("load %s: %w", certName, err)
	}
	cert, err := parseCert(data, certName)
	if err != nil || keyName == "" {
		return cert, nil, err
	}
	if data, err = storage.Load(ctx, keyName); err != nil {
		return nil, nil, fmt.Errorf("load %s: %w", keyName, err)
	}
	key, err := certmagic.PEMDecodePrivateKey(data)
	if err != nil {
		return nil, nil, fmt.Errorf("stored %s: %w: %s", keyName, err, restore(keyName))
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(cert.PublicKey) {
		return nil, nil, fmt.Errorf("stored %s is not the key of %s: %s", keyName, certName, restore(keyName))
	}
	return cert, key, nil
}

// restore says what to do about what is stored under name and spoilt. It is
// never replaced unasked: another root is one that no client trusts.
func restore(name string) string {
	if name == intermediateCertKey || name == intermediateKeyKey {
		return "restore both parts of the intermediate from a backup, or delete both: the root signs another"
	}
	return "restore both parts of the root from a backup"
}

func parseCert(data []byte, name string) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("stored %s is not PEM: %s", name, restore(name))
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("stored %s: %w: %s", name, err, restore(name))
	}
	return cert, nil
}

// renewAuthority makes what is missing or old. The caller holds the lock.
func renewAuthority(ctx context.Context, storage certmagic.Storage) (*authority, error) {
	a, err := loadAuthority(ctx, storage)
	if err == nil && !a.old() {
		return a, nil // another replica was faster
	}
	root, rootKey, err := loadSigner(ctx, storage, rootCertKey, rootKeyKey)
	// Only a certificate that is known not to be there is made: Exists would also
	// be false of a storage that does not answer.
	_, rerr := storage.Load(ctx, rootCertKey)
	isNew := errors.Is(err, fs.ErrNotExist) && errors.Is(rerr, fs.ErrNotExist)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !isNew:
		err = fmt.Errorf("%w: %s", errors.Join(err, rerr), restore(rootKeyKey))
	case isNew:
		if root, rootKey, err = newRoot(); err == nil {
			err = storeKey(ctx, storage, rootKeyKey, rootKey)
		}
	case err == nil && time.Until(root.NotAfter) < intermediateLife:
		err = fmt.Errorf("the root expires on %s: delete pki/ and let every client trust the new one", root.NotAfter.Format(time.DateOnly))
	}
	if err != nil {
		return nil, err
	}
	intermediate, key, err := newIntermediate(root, rootKey)
	if err != nil {
		return nil, err
	}
	// A crash between the two leaves a pair that does not fit: the certificate
	// goes first, because without its key it is made anew.
	if err := storage.Delete(ctx, intermediateKeyKey); err != nil {
		return nil, err
	}
	if err := storeCert(ctx, storage, intermediateCertKey, intermediate); err != nil {
		return nil, err
	}
	if err := storeKey(ctx, storage, intermediateKeyKey, key); err != nil {
		return nil, err
	}
	if isNew {
		err = storeCert(ctx, storage, rootCertKey, root)
	}
	return &authority{root, intermediate, key}, err
}

func storeCert(ctx context.Context, storage certmagic.Storage, name string, cert *x509.Certificate) error {
	return storage.Store(ctx, name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

func storeKey(ctx context.Context, storage certmagic.Storage, name string, key crypto.Signer) error {
	data, err := certmagic.PEMEncodePrivateKey(key)
	if err != nil {
		return err
	}
	return storage.Store(ctx, name, data)
}

func newRoot() (*x509.Certificate, crypto.Signer, error) {
	return newSigner(&x509.Certificate{
		Subject: pkix.Name{CommonName: "modgate root"}, NotAfter: time.Now().Add(rootLife), MaxPathLen: 1,
	}, nil, nil)
}

func newIntermediate(root *x509.Certificate, rootKey crypto.Signer) (*x509.Certificate, crypto.Signer, error) {
	return newSigner(&x509.Certificate{
		Subject: pkix.Name{CommonName: "modgate intermediate"}, NotAfter: time.Now().Add(intermediateLife), MaxPathLenZero: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root, rootKey)
}

// newSigner completes t to a certificate that may sign others, with a new key.
// parent signs it; nil: itself. Part of the serial number goes into the name, so
// that the roots of two servers can be told apart in a client's store.
func newSigner(t, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, crypto.Signer, error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	if t.SerialNumber, err = newSerial(); err != nil {
		return nil, nil, err
	}
	t.Subject.CommonName += fmt.Sprintf(" %x", t.SerialNumber.Bytes()[:4])
	t.NotBefore = time.Now().Add(-clockSkew)
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	if parent == nil {
		parent, parentKey = t, key
	}
	cert, err := sign(t, parent, key.Public(), parentKey)
	return cert, key, err
}

// issue makes a certificate for a server with the names, with its key and the
// intermediate.
func (a *authority) issue(names []string) (*tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]},
		NotBefore: time.Now().Add(-clockSkew), NotAfter: time.Now().Add(leafLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	leaf, err := sign(t, a.intermediate, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, a.intermediate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func sign(t, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// newSerial returns a number of 128 bits, of which the first is set so that all
// have the same length.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return n.SetBit(n, 126, 1), nil
}
