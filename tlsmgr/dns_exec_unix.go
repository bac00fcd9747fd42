//go:build unix

package tlsmgr

import (
	"os/exec"
	"syscall"
)

// inGroup makes the end of a command's time also that of what it has started.
func inGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
