package redis

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
)

// sealed values begin with their version.
var sealedPrefix = []byte("modgate1")

// newSealer returns AES-256-GCM with a key derived from secret (RFC 5869).
func newSealer(secret []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "modgate certificate storage", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// overhead is how much longer a sealed value is.
func overhead(a cipher.AEAD) int64 { return int64(len(sealedPrefix) + a.NonceSize() + a.Overhead()) }

// seal encrypts value. It opens under the same name alone. With fewer than 2³²
// values under one key a random nonce does not come twice (NIST SP 800-38D, 8.3).
func seal(a cipher.AEAD, name string, value []byte) []byte {
	out := make([]byte, len(sealedPrefix)+a.NonceSize(), int(overhead(a))+len(value))
	copy(out, sealedPrefix)
	nonce := out[len(sealedPrefix):]
	rand.Read(nonce) // never fails
	return a.Seal(out, nonce, value, []byte(name))
}

var errSealed = errors.New("the value cannot be decrypted: it was stored with another secret (tls.storage_key), under another name, or has been tampered with → give all replicas the tls.storage_key that it was stored with; with another namespace in tls.storage all is obtained anew")

func unseal(a cipher.AEAD, name string, sealed []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, sealedPrefix)
	if !ok || len(rest) < a.NonceSize() {
		return nil, errSealed
	}
	value, err := a.Open(nil, rest[:a.NonceSize()], rest[a.NonceSize():], []byte(name))
	if err != nil {
		return nil, errSealed
	}
	return value, nil
}
