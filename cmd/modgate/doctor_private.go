package main

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/proxy/upstream"
)

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

// credentials returns where private modules come from, to be tried with what is
// configured for it: the repositories that are named whole, and the hosts.
func (s *settings) credentials(rules upstream.Rules) []doctor.Credential {
	var addresses []string
	add := func(address string) {
		if !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	for _, repo := range rules.Repositories {
		if u, err := url.Parse(repo.URL); err == nil && u.Host != "" && !strings.ContainsAny(repo.URL, "{*?") {
			add(repo.URL)
		}
	}
	for _, host := range privateHosts(s.Private, rules) {
		if u, err := url.Parse(host); err == nil && u.Scheme == "https" {
			add(host)
		}
	}
	for _, c := range rules.Credentials {
		if c.SSHKey == "" {
			continue
		}
		host, _, _ := strings.Cut(strings.TrimPrefix(c.Match, "https://"), "/")
		named := slices.ContainsFunc(addresses, func(address string) bool {
			u, err := url.Parse(address)
			return err == nil && u.Scheme == "ssh" && u.Host == host
		})
		if !named {
			add("ssh://" + userOf(rules, host) + host)
		}
	}
	var all []doctor.Credential
	for _, address := range addresses {
		all = append(all, doctor.Credential{Address: address, Try: func(ctx context.Context) (kind string, err error) {
			err = s.withDirect(ctx, rules, func(ctx context.Context, d *upstream.Direct) error {
				kind, err = d.Try(ctx, address)
				return err
			})
			return kind, err
		}})
	}
	return all
}

// userOf returns the user in the URLs of repositories at a host, with an @
// behind it, or "".
func userOf(rules upstream.Rules, host string) string {
	for _, repo := range rules.Repositories {
		if u, err := url.Parse(repo.URL); err == nil && u.Scheme == "ssh" && u.Host == host && u.User != nil {
			return u.User.Username() + "@"
		}
	}
	return ""
}

// withDirect lets f use what fetches private modules, as the server would, in a
// directory that is removed again.
func (s *settings) withDirect(ctx context.Context, rules upstream.Rules, f func(context.Context, *upstream.Direct) error) (err error) {
	dir, err := os.MkdirTemp("", "modgate-doctor-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	trust, err := trustPool(s.TLS.Trust)
	if err != nil {
		return err
	}
	direct, err := upstream.NewDirect(upstream.DirectConfig{
		Dir: filepath.Join(dir, "direct"), Private: s.Private.String(), Self: self, Go: s.Direct.Go,
		Timeout: s.Direct.Timeout.std(), Trust: trust, LookupEnv: os.LookupEnv, Rules: rules,
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	g, running := errgroup.WithContext(running)
	g.Go(func() error { return direct.Run(running) })
	err = f(ctx, direct)
	stop()
	return errors.Join(err, g.Wait())
}
