package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/certmagic"

	"github.com/modgate/modgate/tlsmgr/redis"
)

// certDir returns the directory in which certificates and keys are kept, if
// they are kept in one.
func (c *Config) certDir() string {
	if c.TLS.Storage != "" {
		return c.TLS.Storage
	}
	return filepath.Join(c.Cache.Dir, ".modgate", "tls")
}

// storesCertificates reports whether the mode keeps any.
func (t *TLS) storesCertificates() bool { return t.Mode == "acme" || t.Mode == "internal" }

// openCertStorage returns where certificates and keys are kept, or nil if the
// mode keeps none, and how it is closed. It neither connects nor writes.
func (c *Config) openCertStorage(log *slog.Logger) (certmagic.Storage, func() error, error) {
	nothing := func() error { return nil }
	if !c.TLS.storesCertificates() {
		return nil, nothing, nil
	}
	if !redis.IsURL(c.TLS.Storage) {
		return &certmagic.FileStorage{Path: c.certDir()}, nothing, nil
	}
	r, err := redis.ParseURL(c.TLS.Storage)
	if err != nil {
		return nil, nil, fmt.Errorf("tls.storage: %w", err)
	}
	r.Secret, r.Logger = []byte(c.TLS.StorageKey), log
	if r.Trust, err = trustPool(c.TLS.Trust); err != nil {
		return nil, nil, err
	}
	s, err := redis.New(r)
	if err != nil {
		return nil, nil, fmt.Errorf("tls.storage: %w", err)
	}
	return s, s.Close, nil
}

// makeCertDir makes the directory of the storage, for us alone, and tries
// whether it can be written. A Redis is left alone: it may come later.
func (c *Config) makeCertDir() error {
	if !c.TLS.storesCertificates() || redis.IsURL(c.TLS.Storage) {
		return nil
	}
	dir := c.certDir()
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, ".try-*"); err == nil {
			err = errors.Join(f.Close(), os.Remove(f.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf("tls.storage: %w\n  → name a directory that the server may write, and that is kept when the cache is cleared", err)
	}
	return nil
}

// checkTLSStorage looks at tls.storage, and makes a directory absolute.
func (s *settings) checkTLSStorage() error {
	if err := s.onlyFor(s.TLS.Storage != "", "acme", "internal"); err != nil || s.TLS.Storage == "" {
		return err
	}
	if s.TLS.Storage == "file" {
		s.TLS.Storage = ""
		return nil
	}
	if redis.IsURL(s.TLS.Storage) {
		if _, err := redis.ParseURL(s.TLS.Storage); err != nil {
			return remedied("is not a Redis: "+err.Error(), "write redis://USER:PASSWORD@HOST:PORT/DB, or the path of a directory")
		}
		return nil
	}
	if scheme, _, _ := strings.Cut(s.TLS.Storage, ":"); scheme == "redis" || scheme == "rediss" || strings.Contains(s.TLS.Storage, "://") {
		return remedied("is neither a directory nor a Redis", "write the path of a directory, or redis://USER:PASSWORD@HOST:PORT/DB")
	}
	dir, err := filepath.Abs(s.TLS.Storage)
	s.TLS.Storage = dir
	return err
}

// checkStorageKey looks at tls.storage_key.
func (s *settings) checkStorageKey() error {
	inRedis := s.TLS.storesCertificates() && redis.IsURL(s.TLS.Storage)
	switch {
	case inRedis && len(s.TLS.StorageKey) < 32:
		return remedied("has less than 32 characters, and encrypts the private keys in Redis", "make one with openssl rand -hex 32, the same for all replicas, and refer to it as file:PATH")
	case !inRedis && s.TLS.StorageKey != "":
		return remedied("has no meaning while tls.storage is no Redis", "set tls.storage, or remove this")
	}
	return nil
}
