package upstream

import (
	"errors"
	"os"
	"os/exec"
)

func lockFile(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

func becomeGroup() error { return nil }

func become(string, []string, []string) error {
	return errors.New("private modules are not fetched on Windows")
}

func killGroup(int) {}

func buryGroup(int) {}

func ownGroup(*exec.Cmd) {}
