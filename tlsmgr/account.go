package tlsmgr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// errSpoiltAccount marks a stored account that cannot be used.
var errSpoiltAccount = errors.New("the stored account at the CA is unusable")

// accountLock keeps replicas from putting aside what another has just
// registered.
const accountLock = "modgate_account"

// accountName returns where certmagic keeps the account, without the endings
// .json and .key of its two parts.
func (s *acmeSource) accountName() string {
	email := strings.ToLower(s.cfg.Email)
	if email == "" {
		email = "default"
	}
	user, _, _ := strings.Cut(email, "@")
	safe := certmagic.StorageKeys.Safe
	return path.Join("acme", safe(s.issuer.IssuerKey()), "users", safe(email), safe(user))
}

// account loads the ACME account; fs.ErrNotExist if there is none,
// errSpoiltAccount if what there is cannot be used.
func (s *acmeSource) account(ctx context.Context) (acme.Account, error) {
	var account acme.Account
	base := s.accountName()
	data, err := s.storage.Load(ctx, base+".json")
	if err != nil {
		return account, fmt.Errorf("account: %w", err)
	}
	if err := json.Unmarshal(data, &account); err != nil {
		return account, fmt.Errorf("%w: %s.json: %w", errSpoiltAccount, base, err)
	}
	if data, err = s.storage.Load(ctx, base+".key"); err != nil {
		return account, fmt.Errorf("account: %w", err)
	}
	if account.PrivateKey, err = certmagic.PEMDecodePrivateKey(data); err != nil {
		return account, fmt.Errorf("%w: %s.key: %w", errSpoiltAccount, base, err)
	}
	return account, nil
}

// mendAccount puts a stored account aside that cannot be used: the next order
// registers another. Without that every attempt would fail for ever.
func (s *acmeSource) mendAccount(ctx context.Context) error {
	if _, err := s.account(ctx); !errors.Is(err, errSpoiltAccount) {
		return nil
	}
	if err := s.storage.Lock(ctx, accountLock); err != nil {
		return fmt.Errorf("lock the account: %w", err)
	}
	var err error
	if _, spoilt := s.account(ctx); errors.Is(spoilt, errSpoiltAccount) {
		if err = s.putAside(ctx, "account", s.accountName()+".json", s.accountName()+".key"); err == nil {
			s.m.cfg.Logger.Error("the stored account at the CA cannot be used; it was put aside, and another is registered", "ca", s.cfg.CA, "error", spoilt, "aside", spoiltDir)
		}
	}
	return errors.Join(err, s.storage.Unlock(context.WithoutCancel(ctx), accountLock))
}
