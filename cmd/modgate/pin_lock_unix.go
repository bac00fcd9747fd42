//go:build unix

package main

import (
	"os"
	"syscall"
)

// lockAll waits for the lock on f, which ends when f is closed or the process
// dies.
func lockAll(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}
