//go:build unix

package upstream

import (
	"os/exec"
	"syscall"
	"time"
)

// becomeGroup puts this process at the head of a group of its own, and makes
// it die with its parent where the system can.
func becomeGroup() error {
	if err := syscall.Setpgid(0, 0); err != nil {
		return err
	}
	return dieWithParent()
}

// ownGroup makes a command the head of a group of its own.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// become replaces this process.
func become(name string, args, env []string) error { return syscall.Exec(name, args, env) }

// killGroup kills the group that pid heads.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// buryGroup kills what is left of the group that pid headed, and returns when
// it is gone. The head itself must have been waited for.
func buryGroup(pid int) {
	for wait := time.Millisecond; syscall.Kill(-pid, syscall.SIGKILL) == nil; wait = min(2*wait, 50*time.Millisecond) {
		// Orphans are ours to bury where we are process 1 or a reaper.
		for {
			if n, err := syscall.Wait4(-pid, nil, syscall.WNOHANG, nil); err != nil || n <= 0 {
				break
			}
		}
		time.Sleep(wait)
	}
}
