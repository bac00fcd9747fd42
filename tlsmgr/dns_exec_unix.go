//go:build unix

package tlsmgr

import "syscall"

// ownGroup makes a command the head of a group of its own.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills a command with all that it has started.
func killGroup(pid int) error { return syscall.Kill(-pid, syscall.SIGKILL) }
