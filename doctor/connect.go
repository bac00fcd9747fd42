package doctor

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/proxy"
)

// maxAddresses bounds how many addresses of one name are tried.
const maxAddresses = 8

// attempt is a connection to one address.
type attempt struct {
	addr netip.Addr
	took time.Duration
	err  error
}

// connect tries each address of the target, all at once.
func (d *Doctor) connect(ctx context.Context) bool {
	s := d.step("connection", "TCP to port "+portOf(d.target)+" of each address")
	tries := make([]attempt, min(len(d.addrs), maxAddresses))
	var all sync.WaitGroup
	for i := range tries {
		all.Go(func() { tries[i] = d.try(ctx, d.addrs[i]) })
	}
	all.Wait()
	slices.SortStableFunc(tries, func(a, b attempt) int { return cmp.Compare(failure(a.err), failure(b.err)) })
	for _, a := range tries {
		if a.err == nil {
			s.saw("%s answers in %v", a.addr, a.took)
		} else {
			s.saw("%s: %v", a.addr, shortError(a.err))
		}
	}
	best := tries[0]
	if best.err != nil {
		d.connectFailed(s, best.err)
		return false
	}
	d.speed.connect = best.took
	d.first(best.addr)
	for _, a := range tries {
		// Without IPv6 on this machine the system says so at once, and nobody waits.
		if a.err != nil && failure(a.err) != noRoute {
			d.found(s, TCPOneAddress, a.addr.String()+": "+shortError(a.err), "value", a.addr.String())
		}
	}
	return true
}

func (d *Doctor) try(ctx context.Context, addr netip.Addr) attempt {
	ctx, cancel := d.within(ctx)
	defer cancel()
	start := time.Now()
	conn, err := d.cfg.Dial(ctx, "tcp", net.JoinHostPort(addr.String(), portOf(d.target)))
	if err == nil {
		conn.Close()
	}
	return attempt{addr, since(start), err}
}

// What became of a connection, the most telling first.
const (
	connected = iota
	refused
	filtered
	noRoute
	otherFailure
)

func failure(err error) int {
	switch {
	case err == nil:
		return connected
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case isTimeout(err):
		return filtered
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return noRoute
	default:
		return otherFailure
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// shortError leaves out the addresses, which stand beside it.
func shortError(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err.Error()
	}
	return hidePasswords(err.Error())
}

func (d *Doctor) connectFailed(s *Step, err error) {
	code, words := dialCause(err), []string{"where", "without"}
	switch {
	case code == TCPRefused:
		words = nil // who refuses has been reached: HTTP proxies are no matter
	case code == TCPNoRoute && len(d.addrs) > 0 && !slices.ContainsFunc(d.addrs, netip.Addr.Is4):
		words = []string{"where", "IPv6"}
	case d.excepted != "":
		words = []string{"where", "NO_PROXY", "value", d.excepted}
	}
	d.found(s, code, err.Error(), words...)
}

// proxyRefusal is the answer of an HTTP proxy to CONNECT, if it is not yes.
type proxyRefusal struct {
	status int
	text   string
}

func (r *proxyRefusal) Error() string { return "the proxy answers " + r.text }

// ProxyStatus is the status of the answer.
func (r *proxyRefusal) ProxyStatus() int { return r.status }

// connectThrough tries to reach the target through an HTTP proxy.
func (d *Doctor) connectThrough(ctx context.Context, via *url.URL) bool {
	s := d.step("connection", "through the HTTP proxy "+via.Host)
	start := time.Now()
	conn, err := d.open(ctx)
	if err == nil {
		conn.Close()
		d.speed.connect = since(start)
		s.saw("it lets us through in %v", d.speed.connect)
		return true
	}
	var r *proxyRefusal
	if errors.As(err, &r) {
		where := ""
		if via.User != nil {
			where = "sent"
		}
		d.found(s, proxyCause(r.status), r.Error(), "value", via.Host, "where", where)
	} else {
		d.found(s, d.proxyTrouble(ctx, via, err), hidePasswords(err.Error()), "value", via.Host)
	}
	return false
}

// proxyTrouble says why there is no talking to an HTTP proxy, and tries the other
// way of talking to it.
func (d *Doctor) proxyTrouble(ctx context.Context, via *url.URL, err error) Code {
	code := proxyFailure(err)
	if code == ProxyDown || code == ProxyCertificate || isTimeout(err) || strings.HasPrefix(via.Scheme, "socks5") {
		return code
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	conn, err := d.dial(ctx, "tcp", net.JoinHostPort(via.Hostname(), portOf(via)))
	if err != nil {
		return ProxyDown
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	var r *proxyRefusal
	switch {
	case via.Scheme == "http" && tls.Client(conn, &tls.Config{ServerName: via.Hostname(), InsecureSkipVerify: true, Time: d.cfg.Now}).HandshakeContext(ctx) == nil:
		return ProxySecure
	case via.Scheme == "https":
		// Without user and password: they were meant for TLS.
		if err := askForTunnel(conn, &url.URL{}, hostPort(d.target)); err == nil || errors.As(err, &r) {
			return ProxyPlain
		}
	}
	return code
}

// open opens a connection to the target: directly, or through the HTTP proxy
// that applies; for http:// that is a connection to the proxy.
func (d *Doctor) open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := d.within(ctx)
	defer cancel()
	via, err := d.via(d.target)
	if err != nil {
		return nil, err
	}
	if via == nil {
		return d.cfg.Dial(ctx, "tcp", net.JoinHostPort(d.addrs[0].String(), portOf(d.target)))
	}
	if strings.HasPrefix(via.Scheme, "socks5") {
		return d.openBySocks(ctx, via)
	}
	conn, err := d.dial(ctx, "tcp", net.JoinHostPort(via.Hostname(), portOf(via)))
	if err != nil || d.target.Scheme == "http" {
		return conn, err
	}
	if via.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: via.Hostname(), RootCAs: d.roots, Time: d.cfg.Now})
	}
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	if err := askForTunnel(conn, via, hostPort(d.target)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, conn.SetDeadline(time.Time{})
}

// openBySocks opens a connection to the target through a SOCKS proxy, which
// resolves the name, as net/http lets it.
func (d *Doctor) openBySocks(ctx context.Context, via *url.URL) (net.Conn, error) {
	var auth *proxy.Auth
	if via.User != nil {
		password, _ := via.User.Password()
		auth = &proxy.Auth{User: via.User.Username(), Password: password}
	}
	dialer, err := proxy.SOCKS5("tcp", net.JoinHostPort(via.Hostname(), portOf(via)), auth, contextDialer(d.dial))
	if err != nil {
		return nil, err
	}
	return dialer.(proxy.ContextDialer).DialContext(ctx, "tcp", hostPort(d.target))
}

// contextDialer is a function as x/net/proxy wants one.
type contextDialer func(ctx context.Context, network, address string) (net.Conn, error)

func (f contextDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f(ctx, network, address)
}

// Dial is never called: we have a context.
func (f contextDialer) Dial(string, string) (net.Conn, error) { return nil, errors.ErrUnsupported }

// askForTunnel sends CONNECT.
func askForTunnel(conn net.Conn, via *url.URL, target string) error {
	auth := ""
	if via.User != nil {
		password, _ := via.User.Password()
		auth = "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(via.User.Username()+":"+password)) + "\r\n"
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, target, auth); err != nil {
		return err
	}
	// The other side of the tunnel does not speak first: nothing is read too far.
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &proxyRefusal{resp.StatusCode, resp.Status}
	}
	return nil
}

// dial opens a connection to a host and port, by the names that we look up.
func (d *Doctor) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := d.within(ctx)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs := d.addrs
	if d.target == nil || host != d.target.Hostname() || len(addrs) == 0 {
		if addrs, _, err = d.lookup(ctx, host); err != nil {
			return nil, err
		}
	}
	var errs []error
	addrs = addrs[:min(len(addrs), 2)]
	for i, addr := range addrs {
		step, cancel := ctx, context.CancelFunc(func() {})
		if i+1 < len(addrs) {
			step, cancel = context.WithTimeout(ctx, 3*d.cfg.Timeout/5) // what is left is the next one's
		}
		conn, err := d.cfg.Dial(step, network, net.JoinHostPort(addr.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// oneLine makes text from outside fit to be shown: one line, bounded, printable.
func oneLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
