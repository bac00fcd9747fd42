package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// daemon is a second way for git to the guard: git's own protocol
// (gitprotocol-pack(5)) over TCP on loopback, which git speaks without the two
// programs and the TLS that HTTPS costs it, or its ssh, three times in each
// run. It needs a repository whose host speaks version 2, in which every
// request stands for itself; that is known once it was visited.
//
// The path in the URL is the token of the job. It is in git's environment
// alone, and worthless when the job is over.
type daemon struct {
	g        *guard
	listener net.Listener
	wg       sync.WaitGroup

	mu   sync.Mutex // guards conns; nil when closed
	open map[net.Conn]bool
}

func (g *guard) openDaemon(ctx context.Context) (*daemon, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &daemon{g: g, listener: l, open: make(map[net.Conn]bool)}
	s.wg.Go(s.accept)
	return s, nil
}

func (s *daemon) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for c := range s.open {
		_ = c.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *daemon) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		s.mu.Lock()
		if s.open == nil {
			s.mu.Unlock()
			_ = c.Close()
			return
		}
		s.open[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			s.serve(c)
			_ = c.Close()
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
		})
	}
}

// serve talks to one git.
func (s *daemon) serve(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(acking{c})
	first, kind, err := readPacket(in)
	if err != nil || kind != dataPacket {
		return
	}
	fields := strings.Split(first, "\x00")
	token, ok := strings.CutPrefix(fields[0], "git-upload-pack /")
	j := s.g.d.jobs.get(token)
	if !ok || j == nil || !slices.Contains(fields, "version=2") {
		_, _ = fmt.Fprintf(c, "%04xERR not for you", len("ERR not for you")+4)
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	defer context.AfterFunc(j.ctx, func() { _ = c.Close() })()
	caps := j.repo.capabilities()
	if i := bytes.Index(caps, []byte("000eversion 2\n")); i >= 0 {
		caps = caps[i:] // HTTP has an announcement before it
	}
	if _, err := c.Write(caps); err != nil {
		return
	}
	for {
		request, err := readRequest(in)
		if err != nil || string(request) == "0000" {
			return // git has what it wanted
		}
		if err := s.answer(c, j, request); err != nil {
			j.fail(err)
			return
		}
	}
}

// acking acknowledges what it reads at once.
type acking struct{ net.Conn }

func (a acking) Read(p []byte) (int, error) {
	ackNow(a.Conn)
	return a.Conn.Read(p)
}

// answer answers one request.
func (s *daemon) answer(w io.Writer, j *job, request []byte) error {
	if prefixes, ok := parseListRefs(bytes.NewReader(request)); ok {
		known, err := j.refsForGit(j.ctx)
		if err != nil {
			return err
		}
		_, err = w.Write(known.about(j.only).answer(prefixes))
		return err
	}
	if err := s.pass(w, j, request); err != nil {
		return err
	}
	j.passed()
	return nil
}

// pass has the host answer one request.
func (s *daemon) pass(w io.Writer, j *job, request []byte) error {
	if j.place.url.Scheme == "ssh" {
		return s.g.d.ssh.request(w, j, request)
	}
	u := j.repo.address("/git-upload-pack")
	req := (&http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host, Body: io.NopCloser(bytes.NewReader(request)), ContentLength: int64(len(request)),
		Header: http.Header{"Content-Type": {"application/x-git-upload-pack-request"}, "Accept": {"application/x-git-upload-pack-result"}, "Git-Protocol": {"version=2"}, "User-Agent": {"modgate"}},
	}).WithContext(j.ctx)
	resp, err := s.g.d.send(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return statusTrouble(u, resp)
	}
	out := &writeError{w: w}
	if _, err := io.Copy(out, j.counted(resp.Body)); err != nil && out.err == nil {
		return explained(err, u.Host)
	}
	return out.err
}

// writeError remembers that it was the writer that failed.
type writeError struct {
	w   io.Writer
	err error
}

func (w *writeError) Write(p []byte) (n int, err error) {
	n, w.err = w.w.Write(p)
	return n, w.err
}

// errLongRequest is the error for a request that no git sends.
var errLongRequest = errors.New("the request is too long")

// readRequest reads the packets of one request, with the flush packet that
// ends it.
func readRequest(in *bufio.Reader) ([]byte, error) {
	var request bytes.Buffer
	for {
		head, err := in.Peek(4)
		if err != nil {
			return nil, err
		}
		prefix := string(head)
		line, kind, err := readPacketRaw(in)
		if err != nil {
			return nil, err
		}
		request.WriteString(prefix)
		request.Write(line)
		if kind == flushPacket {
			return request.Bytes(), nil
		}
		if request.Len() > 16*maxRequest {
			return nil, errLongRequest
		}
	}
}
