//go:build unix && !linux

package upstream

func dieWithParent() error { return nil }
