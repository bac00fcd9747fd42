package upstream

import (
	"context"
	"os/exec"
	"strings"
)

// GitVersion returns what the git command that fetches private modules says of
// its version: "git version 2.50.1".
func GitVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "git", "--version").Output()
	return strings.TrimSpace(string(out)), err
}
