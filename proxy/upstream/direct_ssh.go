package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshIdle is how long a connection is kept that nobody uses.
const sshIdle = time.Minute

// sshPool has the connections to hosts that are reached by SSH. The key never
// leaves this process, a host is only believed with a key that is known, and
// several commands share a connection.
type sshPool struct {
	d *Direct

	mu    sync.Mutex // guards what is below
	conns map[string]*sshConn
}

type sshConn struct {
	busy   lock        // held while it is opened
	client *ssh.Client // nil if not open; guarded by busy
	users  int         // guarded by sshPool.mu, as used
	used   time.Time
}

func newSSHPool(d *Direct) *sshPool { return &sshPool{d: d, conns: make(map[string]*sshConn)} }

// dropIdle closes the connections that nobody has used since.
func (p *sshPool) dropIdle(since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, c := range p.conns {
		if c.users == 0 && !c.used.After(since) {
			delete(p.conns, key)
			c.shut()
		}
	}
}

func (c *sshConn) shut() {
	if c.client != nil {
		_ = c.client.Close()
	}
}

// session opens a session on the host of u. done must be called at its end.
func (p *sshPool) session(ctx context.Context, u *url.URL) (s *ssh.Session, done func(), err error) {
	cred := p.d.current().credentialFor(u)
	if cred == nil {
		return nil, nil, troubled(unauthorized, nil, "%s wants an SSH key, and none is configured for it: add one under credentials in the file of direct.file (docs/private.md); its match is compared with the URL of the repository, port included", u.Host)
	}
	key := fmt.Sprintf("%s@%s/%p", u.User.Username(), u.Host, cred)
	p.mu.Lock()
	c := p.conns[key]
	if c == nil {
		c = &sshConn{busy: newLock()}
		p.conns[key] = c
	}
	c.users++
	p.mu.Unlock()
	leave := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		c.users--
		c.used = time.Now()
		if c.users == 0 && p.conns[key] != c {
			c.shut()
		}
	}
	if err := c.busy.lock(ctx); err != nil {
		leave()
		return nil, nil, err
	}
	defer c.busy.unlock()
	if c.client != nil {
		if s, err := c.client.NewSession(); err == nil {
			return s, leave, nil
		}
		c.shut() // it has died meanwhile
		c.client = nil
	}
	if c.client, err = p.open(ctx, u, cred); err != nil {
		leave()
		return nil, nil, err
	}
	if s, err = c.client.NewSession(); err != nil {
		leave()
		return nil, nil, err
	}
	return s, leave, nil
}

// open connects and logs in.
func (p *sshPool) open(ctx context.Context, u *url.URL, cred *credential) (*ssh.Client, error) {
	secret := cred.SSHKey
	if !strings.HasPrefix(secret, "env:") && !strings.HasPrefix(secret, "file:") {
		secret = "file:" + secret
	}
	pem, err := p.d.secret(secret)
	if err != nil {
		return nil, troubled(misconfigured, err, "the SSH key configured for %s cannot be read", cred.Match)
	}
	signer, err := ssh.ParsePrivateKey([]byte(pem + "\n"))
	if locked := (*ssh.PassphraseMissingError)(nil); errors.As(err, &locked) {
		return nil, troubled(misconfigured, nil, "the SSH key configured for %s has a passphrase, which modgate cannot type: give it a key without one (ssh-keygen -p takes it away)", cred.Match)
	}
	if err != nil {
		return nil, troubled(misconfigured, errors.New("not a private key without a passphrase"), "the SSH key configured for %s cannot be used", cred.Match)
	}
	known, err := knownhosts.New(strings.TrimPrefix(cred.KnownHosts, "file:"))
	if err != nil {
		return nil, troubled(misconfigured, err, "the known hosts configured for %s cannot be read", cred.Match)
	}
	port := u.Port()
	if port == "" {
		port = "22"
	}
	address := net.JoinHostPort(u.Hostname(), port)
	conn, err := p.d.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	var keyErr error
	user := u.User.Username()
	if user == "" {
		user = "git"
	}
	cfg := &ssh.ClientConfig{
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyAlgorithms: knownAlgorithms(known, address),
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			// Judged by the name that was configured, not by its address.
			keyErr = known(host, hostAddr(address), key)
			return keyErr
		},
		ClientVersion: "SSH-2.0-modgate",
	}
	_ = conn.SetDeadline(time.Now().Add(connectTimeout))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	c, channels, requests, err := ssh.NewClientConn(conn, address, cfg)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, sshTrouble(err, keyErr, u)
	}
	_ = conn.SetDeadline(time.Time{})
	return ssh.NewClient(c, channels, requests), nil
}

// hostAddr is a name in place of an address.
type hostAddr string

func (hostAddr) Network() string  { return "tcp" }
func (a hostAddr) String() string { return string(a) }

// knownAlgorithms returns the algorithms of the keys that are known of a host:
// it must show one of those, and not another that it prefers.
func knownAlgorithms(known ssh.HostKeyCallback, address string) []string {
	var e *knownhosts.KeyError
	if err := known(address, hostAddr(address), noKey{}); !errors.As(err, &e) {
		return nil
	}
	var algorithms []string
	for _, k := range e.Want {
		switch t := k.Key.Type(); t {
		case ssh.KeyAlgoRSA:
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		default:
			algorithms = append(algorithms, t)
		}
	}
	return algorithms
}

// noKey is the key of no host.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

func sshTrouble(err, keyErr error, u *url.URL) error {
	var unknown *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	switch {
	case errors.As(keyErr, &revoked):
		return troubled(hostKey, err, "the host key of %s is marked as revoked", u.Host)
	case errors.As(keyErr, &unknown) && len(unknown.Want) > 0:
		return troubled(hostKey, err, "the host key of %s is another than the known one: somebody may be in between, or the host has a new key", u.Host)
	case keyErr != nil:
		return troubled(hostKey, err, "the host key of %s is not known: add it to the known hosts (ssh-keyscan shows it)", u.Host)
	case strings.Contains(err.Error(), "unable to authenticate"):
		return troubled(unauthorized, err, "%s refuses the SSH key that is configured for it", u.Host)
	}
	return explained(err, u.Host)
}
