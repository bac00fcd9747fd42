package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A server is a process of ours that speaks the GOPROXY protocol on loopback.
type server struct {
	URL string
	PID int
	Dir string // its cache

	cmd  *exec.Cmd
	logs *os.File
	done chan error // receives the end of the process
}

// A command is how a server is started.
type command struct {
	Path string
	Args []string
	Env  []string // beside outsideEnv and an own HOME
	URL  string
	Dir  string // empty directory that is its own: cache, logs, HOME

	Client *http.Client // asks URL whether the server is ready; nil: the default one
}

// start runs c and waits until it answers HTTP. The process ends with ctx.
func (c command) start(ctx context.Context) (*server, error) {
	home, tmp := filepath.Join(c.Dir, "home"), filepath.Join(c.Dir, "tmp")
	for _, dir := range []string{home, tmp} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	logs, err := os.Create(filepath.Join(c.Dir, "log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append(append(outsideEnv(), "HOME="+home, "TMPDIR="+tmp), c.Env...)
	cmd.Stdout, cmd.Stderr = logs, logs
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, logs.Close())
	}
	s := &server{URL: c.URL, PID: cmd.Process.Pid, Dir: filepath.Join(c.Dir, "cache"), cmd: cmd, logs: logs, done: make(chan error, 1)}
	go func() { s.done <- cmd.Wait() }()
	if err := s.ready(ctx, c.Client, 30*time.Second); err != nil {
		out, _ := os.ReadFile(logs.Name())
		return nil, fmt.Errorf("start %s: %w\n%s", filepath.Base(c.Path), errors.Join(err, s.Close()), lastLines(out, 12))
	}
	return s, nil
}

// answers reports, as an error, that the server answers nothing at all over
// HTTP. One whose URL is tcp://host:port need only take a connection.
func (s *server) answers(ctx context.Context, client *http.Client) error {
	if addr, ok := strings.CutPrefix(s.URL, "tcp://"); ok {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// ready waits until the server answers.
func (s *server) ready(ctx context.Context, client *http.Client, limit time.Duration) error {
	if client == nil {
		client = http.DefaultClient
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		select {
		case err := <-s.done:
			s.done <- err
			return fmt.Errorf("process ended: %w", err)
		default:
		}
		err := s.answers(ctx, client)
		if err == nil {
			return nil
		}
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("no answer within %s: %w", limit, err)
		}
	}
}

// Close asks the process to end, waits for it, and kills it after a while.
func (s *server) Close() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	t := time.NewTimer(15 * time.Second)
	defer t.Stop()
	select {
	case <-s.done: // ended by a signal or not: it has ended
	case <-t.C:
		s.cmd.Process.Kill()
		<-s.done
	}
	return s.logs.Close()
}

// freeAddr returns a loopback address on which nothing listens now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
