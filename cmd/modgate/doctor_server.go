package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/proxy/upstream"
	"github.com/modgate/modgate/tlsmgr"
	"github.com/modgate/modgate/tlsmgr/redis"
)

// examineServer examines the machine of a server.
func examineServer(ctx context.Context, p *process, s *settings, mistakes error, r *remote, args []string) (*doctor.Report, error) {
	if len(args) > 1 {
		return nil, errors.New("--server takes one private module at most")
	}
	module, _, _ := strings.Cut(strings.Join(args, ""), "@")
	d, err := doctor.NewServer(s.serverDoctor(ctx, p, mistakes, r, module))
	if err != nil {
		return nil, err
	}
	return d.Examine(ctx), nil
}

// serverDoctor says what the doctor has to know of a server with the settings s.
// mistakes is what is wrong with them, or nil. module is a private module to try.
func (s *settings) serverDoctor(ctx context.Context, p *process, mistakes error, r *remote, module string) doctor.ServerConfig {
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
	c.Files = s.filesRead(rules)
	c.Hosts = append(privateHosts(s.Private, rules), s.sharedHosts()...)
	if len(s.Private) > 0 && s.Direct.Go != "off" {
		c.Git = upstream.GitVersion
		c.Fetch = func(ctx context.Context, path string) ([]string, error) { return s.tryPrivate(ctx, rules, path) }
	}
	if s.TLS.Mode == "acme" {
		c.ACME = s.doctorACME()
	}
	c.Certificates, c.Down = r.certificates(ctx, s)
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

// filesRead returns the files that a server with these settings reads.
func (s *settings) filesRead(rules upstream.Rules) []doctor.File {
	var files []doctor.File
	add := func(key string, secret bool, paths ...string) {
		for _, path := range paths {
			if path != "" {
				files = append(files, doctor.File{Key: key, Path: path, Secret: secret})
			}
		}
	}
	add("--config", false, s.file)
	add("policy.file", false, s.Policy.File)
	add("direct.file", true, s.Direct.File)
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
	add("tls.trust", false, s.TLS.Trust...)
	add("tls.ca_roots", false, s.TLS.CARoots...)
	add("tls.admin_clients", false, s.TLS.AdminClients...)
	return files
}

// privateHosts returns URLs of the hosts that private modules come from: those
// of the repositories that are named, else the hosts in the patterns.
func privateHosts(patterns []string, rules upstream.Rules) []string {
	var hosts []string
	add := func(address string) {
		if !slices.Contains(hosts, address) {
			hosts = append(hosts, address)
		}
	}
	named := map[string]bool{}
	for _, repo := range rules.Repositories {
		u, err := url.Parse(repo.URL)
		if err != nil || u.Host == "" || strings.ContainsAny(u.Host, "{*?") {
			continue
		}
		host, _, _ := strings.Cut(repo.Match, "/")
		named[host] = true
		add((&url.URL{Scheme: u.Scheme, Host: u.Host}).String())
	}
	for _, pattern := range patterns {
		host, _, _ := strings.Cut(pattern, "/")
		if !named[host] && !strings.ContainsAny(host, "*?[") && strings.Contains(host, ".") {
			add("https://" + host)
		}
	}
	return hosts
}

// sharedHosts returns URLs of the bucket and of Redis.
func (s *settings) sharedHosts() []string {
	var hosts []string
	if s.Cache.S3.Endpoint != "" {
		hosts = append(hosts, s.Cache.S3.Endpoint)
	}
	for _, address := range s.Cache.Redis.Addr {
		hosts = append(hosts, "redis://"+address)
	}
	if u, err := url.Parse(s.TLS.Storage); err == nil && redis.IsURL(s.TLS.Storage) && u.Host != "" {
		hosts = append(hosts, u.Scheme+"://"+u.Host)
	}
	return hosts
}

// tryPrivate lists the versions of a private module as the server would, in a
// directory that is removed again.
func (s *settings) tryPrivate(ctx context.Context, rules upstream.Rules, path string) (versions []string, err error) {
	dir, err := os.MkdirTemp("", "modgate-doctor-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	trust, err := trustPool(s.TLS.Trust)
	if err != nil {
		return nil, err
	}
	direct, err := upstream.NewDirect(upstream.DirectConfig{
		Dir: filepath.Join(dir, "direct"), Private: s.Private.String(), Self: self, Go: s.Direct.Go,
		Timeout: s.Direct.Timeout.std(), Trust: trust, LookupEnv: os.LookupEnv, Rules: rules,
	})
	if err != nil {
		return nil, err
	}
	return direct.List(ctx, path)
}

func (s *settings) doctorACME() *doctor.ACME {
	a := &doctor.ACME{Directory: s.TLS.directory(), Roots: s.TLS.CARoots}
	for _, name := range s.TLS.Domains {
		if !strings.HasPrefix(name, "*.") {
			a.Names = append(a.Names, name)
		}
	}
	switch s.TLS.Challenge {
	case tlsmgr.HTTP01:
		a.Port = "80"
	case tlsmgr.TLSALPN01:
		a.Port = "443"
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return a // nothing is known to be here; that is a note, no finding
	}
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil {
			a.Local = append(a.Local, prefix.Addr().Unmap())
		}
	}
	return a
}

// certificates asks the running server for the state of its certificates.
func (r *remote) certificates(ctx context.Context, s *settings) ([]tlsmgr.Status, error) {
	body, err := r.do(ctx, s, http.MethodGet, "/-/status")
	if err != nil {
		return nil, err
	}
	var st status
	if err := json.Unmarshal(body, &st); err != nil || st.TLS == nil {
		return nil, err
	}
	return st.TLS.Certificates, nil
}
