package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/proxy/upstream"
	"github.com/modgate/modgate/tlsmgr/redis"
)

// examineServer examines the machine of a server.
func examineServer(ctx context.Context, p *process, s *settings, mistakes error, r *remote, rehearsal rehearsal, args []string) (report *doctor.Report, err error) {
	if len(args) > 1 {
		return nil, errors.New("--server takes one private module at most\n  → modgate doctor --server git.corp.example/team/repo")
	}
	if err := rehearsal.check(s, mistakes); err != nil {
		return nil, err
	}
	module, _, _ := strings.Cut(strings.Join(args, ""), "@")
	c := s.serverDoctor(p, mistakes, rehearsal, module)
	c.Ask = func(ctx context.Context, c *doctor.ServerConfig) {
		running, err := r.status(ctx, s)
		c.Running, c.Certificates, c.Down = running.Findings, running.TLS.Certificates, err
		if c.ACME != nil {
			c.ACME.Instance = running.TLS.Instance
		}
	}
	if mistakes == nil && s.TLS.on() {
		keeper, done, kerr := newCertificates(&s.Config, s.challengeAddress(), nil)
		if c.KeeperFails = kerr; kerr == nil {
			c.Keeper = keeper
			defer func() { err = errors.Join(err, done()) }()
		}
	}
	d, err := doctor.NewServer(c)
	if err != nil {
		return nil, err
	}
	rehearsal.announce(p.stderr)
	return d.Examine(ctx), nil
}

// serverDoctor says what the doctor has to know of a server with the settings s.
// mistakes is what is wrong with them, or nil. module is a private module to try.
func (s *settings) serverDoctor(p *process, mistakes error, rehearsal rehearsal, module string) doctor.ServerConfig {
	c := doctor.ServerConfig{
		Machine: doctorConfig(p), Subject: s.file, Mistakes: mistakes, SumDB: s.SumDB, Private: s.Private.String(),
		Trust: s.TLS.Trust, Module: module,
		Upstreams: strings.FieldsFunc(s.Upstream, func(r rune) bool { return r == ',' || r == '|' || r == ' ' }),
		Dirs:      s.dirs(),
	}
	if c.Subject == "" {
		c.Subject = "without a configuration file"
	}
	rules, err := s.directRules()
	if err != nil && mistakes == nil {
		c.Mistakes = fmt.Errorf("direct.file: %w", err)
	}
	if mistakes == nil {
		c.Unusable = s.unusable()
	}
	c.Files = s.filesRead(rules, err != nil || holdsSecrets(rules))
	c.Hosts = privateHosts(s.Private, rules)
	if len(s.Private) > 0 && s.Direct.Go != "off" {
		c.Git = upstream.GitVersion
		c.Fetch = func(ctx context.Context, path string) (versions []string, err error) {
			err = s.withDirect(ctx, rules, func(ctx context.Context, d *upstream.Direct) error {
				versions, err = d.List(ctx, path)
				return err
			})
			return versions, err
		}
		if mistakes == nil && err == nil {
			c.Credentials = s.credentials(rules)
		}
	}
	if mistakes == nil {
		c.Shared = s.shared()
	}
	if s.TLS.Mode == "acme" {
		c.ACME = s.doctorACME(rehearsal)
	}
	return c
}

// dirs returns what a server with these settings writes.
func (s *settings) dirs() []doctor.Dir {
	dirs := []doctor.Dir{{Key: "cache.dir", Path: s.Cache.Dir, Max: int64(s.Cache.MaxSize)}}
	if s.TLS.storesCertificates() && !redis.IsURL(s.TLS.Storage) {
		dirs = append(dirs, doctor.Dir{Key: "tls.storage", Path: s.certDir()})
	}
	return dirs
}

// directRules returns the rules of direct.file; none if there is no file.
func (s *settings) directRules() (upstream.Rules, error) {
	if s.Direct.File == "" {
		return upstream.Rules{}, nil
	}
	data, err := readBounded(s.Direct.File, maxConfigFile)
	if err != nil {
		return upstream.Rules{}, nil // told among the files
	}
	return parseDirectFile(s.Direct.File, data)
}

// holdsSecrets reports whether direct.file holds what nobody else may read, and
// not only says where that is.
func holdsSecrets(rules upstream.Rules) bool {
	password := slices.ContainsFunc(rules.Credentials, func(c upstream.Credential) bool {
		return c.Password != "" && !strings.HasPrefix(c.Password, "file:") && !strings.HasPrefix(c.Password, "env:") || c.Helper != ""
	})
	return password || slices.ContainsFunc(rules.Repositories, func(repo upstream.Repository) bool {
		u, err := url.Parse(repo.URL)
		if err != nil || u.User == nil {
			return err != nil
		}
		_, has := u.User.Password()
		return has
	})
}

// filesRead returns the files that a server with these settings reads. rules are
// those of direct.file, and secret whether that holds a secret itself.
func (s *settings) filesRead(rules upstream.Rules, secret bool) []doctor.File {
	var files []doctor.File
	add := func(key string, secret bool, paths ...string) {
		for _, path := range paths {
			path = strings.TrimPrefix(path, "file:") // how direct.file names files of secrets
			if path != "" && !strings.HasPrefix(path, "env:") {
				files = append(files, doctor.File{Key: key, Path: path, Secret: secret})
			}
		}
	}
	add("--config", false, s.file)
	add("policy.file", false, s.Policy.File)
	add("auth.file", false, s.Auth.File)
	add("direct.file", secret, s.Direct.File)
	for _, c := range rules.Credentials {
		add("ssh_key in direct.file", true, c.SSHKey)
		add("netrc in direct.file", true, c.Netrc)
		add("known_hosts in direct.file", false, c.KnownHosts)
	}
	if pairs, err := s.TLS.pairs(); err == nil {
		for _, pair := range pairs {
			add("tls.files", false, pair.Cert)
			add("tls.files", true, pair.Key)
		}
	}
	add("tls.storage", true, s.storedKeys()...)
	add("tls.trust", false, s.TLS.Trust...)
	add("tls.ca_roots", false, s.TLS.CARoots...)
	add("tls.admin_clients", false, s.TLS.AdminClients...)
	return files
}

// unusable returns the files of rules and of tokens that have mistakes. Only the
// first line of a mistake is told: the next ones may show what stands there.
func (s *settings) unusable() []doctor.Unused {
	var all []doctor.Unused
	for _, f := range []struct {
		key, path string
		check     func(*Config) error
	}{{"policy.file", s.Policy.File, checkRuleFile}, {"auth.file", s.Auth.File, checkAuthFile}} {
		err := f.check(&s.Config)
		var unreadable *fs.PathError // told among the files
		if err == nil || errors.As(err, &unreadable) {
			continue
		}
		line, _, _ := strings.Cut(err.Error(), "\n")
		all = append(all, doctor.Unused{Key: f.key, Path: f.path, Text: hideUserinfo(line)})
	}
	return all
}

// storedKeys returns the files of private keys in the directory of certificates.
func (s *settings) storedKeys() []string {
	if !s.TLS.storesCertificates() || redis.IsURL(s.TLS.Storage) {
		return nil
	}
	var keys []string
	_ = filepath.WalkDir(s.certDir(), func(name string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, ".key") && d.Type().IsRegular() {
			keys = append(keys, name)
		}
		return nil // what cannot be read is told of the directory
	})
	return keys
}
