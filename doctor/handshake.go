package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// shake is how one handshake differs from that of the go command.
type shake struct {
	oldest  uint16 // version; default TLS 1.2
	ciphers bool   // also those that are insecure
	noName  bool   // no server name
	noALPN  bool
}

// shaken is the outcome of a handshake.
type shaken struct {
	state  tls.ConnectionState
	wanted bool // the server asked for a client certificate
	took   time.Duration
	err    error
}

// shake does one handshake. Nothing is verified: that comes later, with all
// reasons and not only the first.
func (d *Doctor) shake(ctx context.Context, h shake) shaken {
	var out shaken
	raw, err := d.open(ctx)
	if err != nil {
		return shaken{err: err}
	}
	defer raw.Close()
	c := &tls.Config{
		ServerName: d.target.Hostname(), InsecureSkipVerify: true, MinVersion: max(h.oldest, tls.VersionTLS10), Time: d.cfg.Now,
		NextProtos: []string{"h2", "http/1.1"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			out.wanted = true
			return new(tls.Certificate), nil
		},
	}
	if h.oldest == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	if h.noName {
		c.ServerName = ""
	}
	if h.noALPN {
		c.NextProtos = nil
	}
	if h.ciphers {
		for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			c.CipherSuites = append(c.CipherSuites, suite.ID)
		}
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	conn := tls.Client(raw, c)
	start := time.Now()
	out.err = conn.HandshakeContext(ctx)
	out.took = since(start)
	out.state = conn.ConnectionState()
	if out.err == nil && out.wanted {
		// In TLS 1.3 the server refuses after the client has finished.
		conn.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := conn.Read(make([]byte, 1)); err != nil && !isTimeout(err) {
			out.err = err
		}
	}
	return out
}

// examineTLS does the handshake and judges the certificate.
func (d *Doctor) examineTLS(ctx context.Context) bool {
	s := d.step("handshake", "TLS with "+hostPort(d.target)+", as the go command does it")
	out := d.shake(ctx, shake{})
	if out.err != nil {
		d.handshakeFailed(ctx, s, out)
		return false
	}
	d.speed.handshake = out.took
	s.saw("%s, %s, %s, in %v", tls.VersionName(out.state.Version), tls.CipherSuiteName(out.state.CipherSuite), alpn(out.state.NegotiatedProtocol), out.took)
	if out.wanted {
		s.saw("the server asks for a client certificate, and goes on without")
	}
	return d.judge(ctx, out.state)
}

func alpn(protocol string) string {
	if protocol == "" {
		return "no application protocol"
	}
	return protocol
}

// handshakeFailed finds out why, by trying otherwise.
func (d *Doctor) handshakeFailed(ctx context.Context, s *Step, out shaken) {
	seen := out.err.Error()
	var record tls.RecordHeaderError
	switch code := alertCause(seen); {
	case errors.As(out.err, &record):
		if recordCause(record) == PlainHTTP {
			d.found(s, PlainHTTP, "the answer to the handshake begins with HTTP/")
		} else {
			d.found(s, HandshakeRefused, seen, "value", "what answers there is not TLS")
		}
	case strings.HasPrefix(seen, unparsable):
		d.found(s, MalformedCertificate, seen, "value", strings.TrimPrefix(seen, unparsable+"x509: "))
	case code == OldVersion:
		d.oldVersion(ctx, s, seen)
	case out.wanted:
		d.found(s, ClientCertificate, seen)
	case code == NoProtocol:
		d.found(s, NoProtocol, seen)
	case code == NoCertificate:
		d.found(s, NoCertificate, seen+d.withoutName(ctx))
	case code == NoCipher:
		d.noCipher(ctx, s, seen)
	case isTimeout(out.err):
		d.found(s, HandshakeSilent, fmt.Sprintf("nothing for %v", d.cfg.Timeout))
	case code == "" && strings.HasPrefix(seen, "tls: "): // said by this side
		d.found(s, HandshakeRefused, seen, "value", seen)
	case errors.Is(out.err, io.EOF) || failure(out.err) == otherFailure && code == "":
		d.cut(ctx, s, seen)
	default:
		d.found(s, HandshakeRefused, seen, "value", seen)
	}
}

func (d *Doctor) oldVersion(ctx context.Context, s *Step, seen string) {
	value := "TLS 1.1"
	if old := d.shake(ctx, shake{oldest: tls.VersionTLS10, ciphers: true}); old.err == nil {
		value = tls.VersionName(old.state.Version)
	}
	d.found(s, OldVersion, seen, "value", value)
}

func (d *Doctor) noCipher(ctx context.Context, s *Step, seen string) {
	if more := d.shake(ctx, shake{ciphers: true}); more.err == nil {
		d.found(s, NoCipher, seen+"; with insecure ciphers: "+tls.CipherSuiteName(more.state.CipherSuite))
	} else if text := d.withoutName(ctx); text != "" {
		d.found(s, NoCertificate, seen+text)
	} else {
		d.found(s, NoCipher, seen)
	}
}

// withoutName says what the server does if no name is asked for.
func (d *Doctor) withoutName(ctx context.Context) string {
	out := d.shake(ctx, shake{noName: true})
	if out.err != nil || len(out.state.PeerCertificates) == 0 {
		return ""
	}
	return "; asked for no name, it shows a certificate for " + names(out.state.PeerCertificates[0])
}

// cut tells a server without TLS, which ends such a connection, from others.
func (d *Doctor) cut(ctx context.Context, s *Step, seen string) {
	conn, err := d.open(ctx)
	if err == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(d.cfg.Timeout / 2))
		fmt.Fprintf(conn, "HEAD / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", d.target.Host)
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodHead})
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest {
				d.found(s, PlainHTTP, "a request without TLS is answered: "+resp.Status)
				return
			}
		}
	}
	d.found(s, HandshakeCut, seen)
}
