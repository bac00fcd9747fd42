package upstream

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dieWithParent asks for a signal when the parent dies (prctl(2)).
func dieWithParent() error {
	parent := os.Getppid()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if os.Getppid() != parent { // it died before
		return errors.New("the parent has died")
	}
	return nil
}
