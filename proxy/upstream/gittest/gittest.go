// Package gittest runs what a company keeps its private modules on, for tests
// and measurements, on loopback: real git repositories, the real git
// http-backend behind HTTPS with a private authority and passwords, a real
// sshd, and an HTTP proxy that is the only way to names that exist nowhere.
//
//	root := t.TempDir()
//	gittest.NewRepo(t, root, "git.corp.example/team/lib", gittest.Commit{
//		Files: map[string]string{"go.mod": "module git.corp.example/team/lib\n"},
//		Tags:  []string{"v1.0.0"},
//	})
//	server := gittest.Start(t, gittest.Config{Root: root, Accounts: []gittest.Account{
//		{Prefix: "git.corp.example/team", User: "ci", Password: "secret"},
//	}})
//
// A repository is called host/path, and lies in root/host/path.git. Clients in
// the process reach the hosts by Server.Dial, other programs by the URL of
// Server.Proxy in HTTPS_PROXY, or at https://127.0.0.1:port/host/path.
package gittest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
)

// TB is what is needed of testing.TB. Fatalf does not return.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(f func())
	TempDir() string
}

// Need skips the test unless all of the programs are there. The packages that
// tools/setup.sh installs have git, ssh and sshd.
func Need(t interface {
	Helper()
	Skipf(format string, args ...any)
}, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := look(name); err != nil {
			t.Skipf("NOT RUN: needs %s (make setup): %v", name, err)
		}
	}
}

// look finds a program, also where only administrators look.
func look(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	if path, e := exec.LookPath("/usr/sbin/" + name); e == nil {
		return path, nil
	}
	return "", err
}

// Run calls f for a program that is no test. Temporary directories are made in
// dir. What f registered with Cleanup is done by calling end, which is never
// nil. An error is what f was fatal about.
func Run(dir string, f func(TB)) (end func(), err error) {
	tb := &plain{dir: dir}
	done := make(chan struct{})
	go func() { // Fatalf ends this goroutine
		defer close(done)
		f(tb)
	}()
	<-done
	return tb.end, tb.err
}

type plain struct {
	dir      string
	err      error
	cleanups []func()
}

func (p *plain) Helper() {}

func (p *plain) Fatalf(format string, args ...any) {
	p.err = errors.Join(p.err, fmt.Errorf(format, args...))
	runtime.Goexit()
}

func (p *plain) Cleanup(f func()) { p.cleanups = append(p.cleanups, f) }

func (p *plain) TempDir() string {
	dir, err := os.MkdirTemp(p.dir, "gittest-")
	if err != nil {
		p.Fatalf("%v", err)
	}
	p.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (p *plain) end() {
	for _, f := range slices.Backward(p.cleanups) {
		f()
	}
	p.cleanups = nil
}

// gitEnv keeps the configuration of the machine and its user away from git.
func gitEnv(more ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.DevNull, "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0",
	}, more...)
}
