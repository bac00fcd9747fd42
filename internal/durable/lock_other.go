//go:build !unix

package durable

import (
	"errors"
	"os"
)

// Lock waits for the lock on f.
func Lock(*os.File) error { return errors.ErrUnsupported }

// TryLock takes the lock on f if nobody has it, and reports whether it is ours.
func TryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }
