package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/caddyserver/certmagic"
)

// certDir returns the directory in which certificates and keys are kept.
func (c *Config) certDir() string {
	if c.TLS.Storage != "" {
		return c.TLS.Storage
	}
	return filepath.Join(c.Cache.Dir, ".modgate", "tls")
}

// certStorage returns where certificates and keys are kept, or nil if the mode
// keeps none.
func (c *Config) certStorage() certmagic.Storage {
	if c.TLS.Mode == "off" || c.TLS.Mode == "files" {
		return nil
	}
	return &certmagic.FileStorage{Path: c.certDir()}
}

// makeCertDir makes the directory of the storage, for us alone, and tries
// whether it can be written.
func (c *Config) makeCertDir() error {
	if c.certStorage() == nil {
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
