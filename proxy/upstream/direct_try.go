package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Try shows a host the credentials that are configured for address, and returns
// which kind they are: "password", "SSH key", "netrc", "helper", or "" if there
// are none. An https:// address with a path is that of a repository, which is
// asked for its branches and tags. Of one without, the credentials are only
// read: a host shows who may log in by its repositories alone. By ssh:// it logs
// in. Errors are *DirectError and hold no credentials.
func (d *Direct) Try(ctx context.Context, address string) (kind string, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "ssh" {
		return "", fmt.Errorf("the address of a repository begins with https://host or ssh://host")
	}
	c := d.current().credentialFor(u)
	kind = c.kind()
	switch {
	case u.Scheme == "ssh" && c == nil:
		return "", troubled(unauthorized, nil, "%s wants an SSH key, and none is configured for it", u.Host)
	case u.Scheme == "ssh":
		client, err := d.ssh.open(ctx, u, c)
		if err != nil {
			return kind, explained(err, u.Host)
		}
		return kind, client.Close()
	case strings.Trim(u.Path, "/") != "":
		_, err = d.repository(u).refs(ctx, time.Now())
		return kind, err
	case c == nil:
		return "", nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return kind, err
	}
	if _, err = d.authorize(ctx, req); err == nil && req.Header.Get("Authorization") == "" {
		err = troubled(misconfigured, nil, "the %s configured for %s has no entry for it", kind, u.Host)
	}
	return kind, err
}

// kind says by which way c logs in.
func (c *credential) kind() string {
	switch {
	case c == nil:
		return ""
	case c.SSHKey != "":
		return "SSH key"
	case c.Netrc != "":
		return "netrc"
	case c.Helper != "":
		return "helper"
	}
	return "password"
}
