package tlsmgr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// execPatience bounds one run of the user's program that makes a record, which
// may wait until that can be seen; execCleanup one that removes it, which also a
// server that is told to end waits for.
const (
	execPatience = 3 * time.Minute
	execCleanup  = 20 * time.Second
)

// execSolver makes the records of dns-01 by a program of the user:
//
//	command present _acme-challenge.go.corp.example VALUE
//	command cleanup _acme-challenge.go.corp.example VALUE
//
// It returns when the CA can see the record, or ends with a status that is not
// 0, and then what it has written is shown. When its time is over (3 minutes to
// make a record, 20 seconds to remove it), or the server's, it is killed with all
// that it has started. No shell is involved.
type execSolver struct {
	command  string
	patience time.Duration // execPatience
	cleanup  time.Duration // execCleanup
}

// check reports whether there is such a program.
func (s *execSolver) check() error {
	if _, err := exec.LookPath(s.command); err != nil {
		return fmt.Errorf("the command of tls.dns_settings: %w: name a program that this server may run", err)
	}
	return nil
}

// Present makes the record.
func (s *execSolver) Present(ctx context.Context, c acme.Challenge) error {
	return s.run(ctx, s.patience, "present", c)
}

// CleanUp removes the record.
func (s *execSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	return s.run(context.WithoutCancel(ctx), s.cleanup, "cleanup", c)
}

func (s *execSolver) run(ctx context.Context, patience time.Duration, verb string, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begin := time.Now()
	cmd := exec.CommandContext(ctx, s.command, verb, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = 5 * time.Second // for children that keep the output open
	var out bytes.Buffer
	w := &limited{&out, 4096}
	cmd.Stdout, cmd.Stderr = w, w // one writer: exec then writes from one goroutine
	err := cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("it did not end within %v", time.Since(begin).Round(time.Second))
	}
	if err != nil {
		return fmt.Errorf("tls.dns_settings command %s %s: %w: %s", s.command, verb, err, firstLine(out.String()))
	}
	return nil
}

// limited keeps the beginning of what is written.
type limited struct {
	b    *bytes.Buffer
	left int
}

// Write never fails.
func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.b.Write(p[:n])
	l.left -= n
	return len(p), nil
}
