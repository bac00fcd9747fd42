package doctor

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// typeCAA is the type of records that say which CA may sign (RFC 8659).
const typeCAA = dnsmessage.Type(257)

// dns asks name servers for what net.Resolver does not know: CAA and SOA
// records, and what one server says.
type dns struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	timeout time.Duration // of one question
}

// Errors of questions.
var (
	errNoServer = errors.New("no name server is known")
	errRefused  = errors.New("REFUSED") // the server does not have the zone, and asks no others
)

// ask asks the servers, host:port, all at once, and returns what the first one
// says that answers. The error is that of the last one in the list.
func (c *dns) ask(ctx context.Context, servers []string, name string, t dnsmessage.Type) (*dnsmessage.Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan *dnsmessage.Message, len(servers))
	errs := make([]error, len(servers))
	var asked sync.WaitGroup
	for i, server := range servers {
		asked.Go(func() {
			m, err := c.askOne(ctx, server, name, t)
			if errs[i] = err; err == nil {
				answers <- m
			}
		})
	}
	go func() {
		asked.Wait()
		close(answers)
	}()
	if m, ok := <-answers; ok {
		return m, nil
	}
	if len(errs) == 0 {
		return nil, errNoServer
	}
	return nil, errs[len(errs)-1]
}

// askOne asks one server: twice over UDP, and over TCP if the answer is too
// long for that. An answer that says that there is no such name or no such
// record is no error, one that says that the server has failed is.
func (c *dns) askOne(ctx context.Context, server, name string, t dnsmessage.Type) (*dnsmessage.Message, error) {
	var m *dnsmessage.Message
	var err error
	for _, network := range []string{"udp", "udp", "tcp"} {
		if m, err = c.exchange(ctx, network, server, name, t); err == nil && !m.Truncated {
			break
		}
		if network == "udp" && err != nil && !isTimeout(err) {
			break
		}
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s does not answer for %s: %w", server, name, err)
	case m.RCode == dnsmessage.RCodeRefused:
		return nil, fmt.Errorf("%s answers for %s: %w", server, name, errRefused)
	case m.RCode != dnsmessage.RCodeSuccess && m.RCode != dnsmessage.RCodeNameError:
		return nil, fmt.Errorf("%s answers for %s: %s", server, name, rcodeText(m.RCode))
	}
	return m, nil
}

// rcodeText is the code as tools print it: SERVFAIL, REFUSED.
func rcodeText(code dnsmessage.RCode) string {
	switch code {
	case dnsmessage.RCodeServerFailure:
		return "SERVFAIL"
	case dnsmessage.RCodeNotImplemented:
		return "NOTIMP"
	case dnsmessage.RCodeFormatError:
		return "FORMERR"
	}
	return code.String()
}

func (c *dns) exchange(ctx context.Context, network, server, name string, t dnsmessage.Type) (*dnsmessage.Message, error) {
	question, err := newQuestion(name, t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	conn, err := c.dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	packed, err := question.Pack()
	if err != nil {
		return nil, err
	}
	if network == "tcp" {
		packed = append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
	}
	if _, err := conn.Write(packed); err != nil {
		return nil, err
	}
	for {
		data, err := readMessage(conn, network)
		if err != nil {
			return nil, err
		}
		m := new(dnsmessage.Message)
		if err := m.Unpack(data); err != nil {
			return nil, err
		}
		if m.ID == question.ID && m.Response && len(m.Questions) == 1 && sameQuestion(m.Questions[0], question.Questions[0]) {
			return m, nil
		}
	}
}

func newQuestion(name string, t dnsmessage.Type) (*dnsmessage.Message, error) {
	n, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return nil, fmt.Errorf("%q is no name: %w", name, err)
	}
	var id [2]byte
	rand.Read(id[:])
	return &dnsmessage.Message{
		Header:    dnsmessage.Header{ID: binary.BigEndian.Uint16(id[:]), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: t, Class: dnsmessage.ClassINET}},
	}, nil
}

func sameQuestion(a, b dnsmessage.Question) bool {
	return a.Type == b.Type && a.Class == b.Class && strings.EqualFold(a.Name.String(), b.Name.String())
}

// readMessage reads one message; over TCP its length comes first (RFC 1035,
// 4.2.2).
func readMessage(conn net.Conn, network string) ([]byte, error) {
	if network == "udp" {
		data := make([]byte, 64<<10)
		n, err := conn.Read(data)
		return data[:n], err
	}
	var length uint16
	if err := binary.Read(conn, binary.BigEndian, &length); err != nil {
		return nil, err
	}
	data := make([]byte, length)
	_, err := io.ReadFull(conn, data)
	return data, err
}

// alias follows the aliases (CNAME) of name and returns where they lead.
func (c *dns) alias(ctx context.Context, servers []string, name string) (string, error) {
	for range 8 { // more is a loop
		m, err := c.ask(ctx, servers, name, dnsmessage.TypeCNAME)
		if err != nil {
			return "", err
		}
		next := ""
		for _, r := range m.Answers {
			if cname, ok := r.Body.(*dnsmessage.CNAMEResource); ok {
				next = trimDot(cname.CNAME.String())
			}
		}
		if next == "" {
			return name, nil
		}
		name = next
	}
	return "", fmt.Errorf("the aliases (CNAME) of %s lead in a circle", name)
}

// hasText reports whether a server has a TXT record with that value, by
// whatever alias.
func (c *dns) hasText(ctx context.Context, server, name, value string) (bool, error) {
	at, err := c.alias(ctx, []string{server}, name)
	if err != nil {
		return false, err
	}
	m, err := c.askOne(ctx, server, at, dnsmessage.TypeTXT)
	if err != nil {
		return false, err
	}
	for _, r := range m.Answers {
		if txt, ok := r.Body.(*dnsmessage.TXTResource); ok && strings.Join(txt.TXT, "") == value {
			return true, nil
		}
	}
	return false, nil
}

// zone finds the zone that name is in: the nearest name above it, or itself,
// with an SOA record. It returns the zone and the names of its servers.
func (c *dns) zone(ctx context.Context, servers []string, name string) (zone string, authorities []string, err error) {
	for at := strings.TrimSuffix(name, "."); at != ""; at = parent(at) {
		m, err := c.ask(ctx, servers, at, dnsmessage.TypeSOA)
		if err != nil {
			return "", nil, err
		}
		for _, r := range m.Answers {
			if _, ok := r.Body.(*dnsmessage.SOAResource); ok && strings.EqualFold(trimDot(r.Header.Name.String()), at) {
				authorities, err := c.nameServers(ctx, servers, at)
				return at, authorities, err
			}
		}
	}
	return "", nil, fmt.Errorf("no name above %s has an SOA record", name)
}

func (c *dns) nameServers(ctx context.Context, servers []string, zone string) ([]string, error) {
	m, err := c.ask(ctx, servers, zone, dnsmessage.TypeNS)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range m.Answers {
		if ns, ok := r.Body.(*dnsmessage.NSResource); ok {
			names = append(names, trimDot(ns.NS.String()))
		}
	}
	return names, nil
}

// parent returns the name above: "" above a top-level domain.
func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}

func trimDot(name string) string { return strings.TrimSuffix(name, ".") }
