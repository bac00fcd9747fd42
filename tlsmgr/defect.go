package tlsmgr

import (
	"errors"
	"fmt"
	"io/fs"
)

// Defect is of which kind the trouble with a certificate or its files is. The
// set is closed; "" is none, or one that has a Problem.
type Defect string

// What keeps a pair of files from being served, and then what clients refuse.
const (
	Unreadable    Defect = "unreadable"     // a file is not there, or may not be read
	NoCertificate Defect = "no_certificate" // in its file
	NoKey         Defect = "no_key"         // in its file
	EncryptedKey  Defect = "encrypted_key"
	KeyMismatch   Defect = "key_mismatch" // the key of another certificate
	Malformed     Defect = "malformed"    // a file is cut off, or has something else

	Expired             Defect = "expired"
	NotYetValid         Defect = "not_yet_valid"
	NoNames             Defect = "no_names"
	NotForServers       Defect = "not_for_servers"
	WrongOrder          Defect = "wrong_order" // of the certificates in the file
	SelfSigned          Defect = "self_signed"
	MissingIntermediate Defect = "missing_intermediate"
)

// PairError says why a pair of files cannot be served.
type PairError struct {
	Pair   Pair
	Defect Defect
	Err    error // of who has read them; nil if the defect says it all
}

// Reason says what is wrong, and names the file.
func (e *PairError) Reason() string {
	text := ""
	switch e.Defect {
	case NoCertificate:
		text = e.Pair.Cert + " holds no certificate"
	case NoKey:
		text = e.Pair.Key + " holds no private key"
	case EncryptedKey:
		text = "the key in " + e.Pair.Key + " is encrypted"
	case KeyMismatch:
		text = fmt.Sprintf("the key in %s is not that of the first certificate in %s", e.Pair.Key, e.Pair.Cert)
	case Expired:
		text = "the new certificate in " + e.Pair.Cert
	case Malformed:
		text = e.Pair.String()
	}
	switch {
	case e.Err == nil:
		return text
	case text == "" || errors.Is(e.Err, fs.ErrNotExist) || errors.Is(e.Err, fs.ErrPermission):
		return e.Err.Error() // which names the file
	}
	return text + ": " + e.Err.Error()
}

// Remedy says in a line what to do.
func (e *PairError) Remedy() string {
	switch e.Defect {
	case NoCertificate:
		return "name a PEM file with -----BEGIN CERTIFICATE-----, CERT in front of KEY; DER becomes PEM by: openssl x509 -inform der -in " + e.Pair.Cert
	case NoKey:
		return "name a PEM file with -----BEGIN PRIVATE KEY-----, CERT in front of KEY"
	case EncryptedKey:
		return "store it without a password (openssl pkey -in " + e.Pair.Key + "), readable for this server alone"
	case KeyMismatch:
		return fmt.Sprintf("name the key that the certificate was made for, and put the certificate of the server first in its file; these two print the same then: openssl x509 -in %s -noout -pubkey; openssl pkey -in %s -pubout", e.Pair.Cert, e.Pair.Key)
	case Expired:
		return "put a certificate there that is still good"
	case Malformed:
		return "copy both files anew, whole and in PEM"
	}
	return "name pairs of PEM files that this server may read, CERT:KEY, or directories with tls.crt and tls.key"
}

// Error returns reason and remedy.
func (e *PairError) Error() string { return e.Reason() + " → " + e.Remedy() }

// Unwrap returns Err.
func (e *PairError) Unwrap() error { return e.Err }

func (p Pair) fails(d Defect, err error) error { return &PairError{p, d, err} }

// PairErrors returns all that are in err.
func PairErrors(err error) []*PairError {
	switch e := err.(type) {
	case *PairError:
		return []*PairError{e}
	case interface{ Unwrap() []error }:
		var all []*PairError
		for _, one := range e.Unwrap() {
			all = append(all, PairErrors(one)...)
		}
		return all
	case interface{ Unwrap() error }:
		return PairErrors(e.Unwrap())
	}
	return nil
}
