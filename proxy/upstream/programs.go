package upstream

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strings"
	"time"
)

// GitVersion returns what the git command that fetches private modules says of
// its version: "git version 2.50.1".
func GitVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "git", "--version").Output()
	return strings.TrimSpace(string(out)), err
}

// RunProgram runs a program, words[0], in an environment that has nothing else, and
// returns what it writes to standard output and to standard error. When ctx ends, so
// does everything that it has started.
func RunProgram(ctx context.Context, environ []string, stdin string, words ...string) (stdout, stderr string, err error) {
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = environ, strings.NewReader(stdin), &out, &errOut, time.Second/4
	ownGroup(cmd)
	cmd.Cancel = func() error {
		killGroup(cmd.Process.Pid)
		return nil
	}
	err = cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		buryGroup(cmd.Process.Pid)
		err = errors.Join(ctx.Err(), err)
	}
	return out.String(), errOut.String(), err
}
