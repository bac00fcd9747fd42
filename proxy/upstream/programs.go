package upstream

import (
	"bytes"
	"context"
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

// GoSays runs a go command in an environment that has nothing else, and returns
// what it writes to standard error, whether it fails or not.
func GoSays(ctx context.Context, program string, environ []string, args ...string) string {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Stderr, cmd.WaitDelay = environ, &said, time.Second
	_ = cmd.Run() // what matters is what it says
	return said.String()
}
