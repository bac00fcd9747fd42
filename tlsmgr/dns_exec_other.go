//go:build !unix

package tlsmgr

import (
	"os"
	"syscall"
)

// ownGroup does nothing here.
func ownGroup() *syscall.SysProcAttr { return nil }

// killGroup kills the command alone: what it has started may outlive it.
func killGroup(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}
