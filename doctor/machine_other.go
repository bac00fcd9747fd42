//go:build !linux && !darwin

package doctor

import "errors"

func volumeOf(string) (volume, error) { return volume{}, errors.ErrUnsupported }

func writable(string) error { return nil }

func openFiles() (uint64, error) { return 0, errors.ErrUnsupported }

func otherOwner(string) string { return "" }
