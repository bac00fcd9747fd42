package upstream

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// The environment of a child process says what it is to be.
const (
	helperEnv = "MODGATE_HELPER"
	helperGo  = "go"
	helperSSH = "ssh"
)

// sshHost is what git's ssh asks the guard for.
const sshHost = "ssh.modgate.invalid:22"

// Helper is to be called first of all by an executable that is DirectConfig's
// Self, with its arguments, environment and standard files. If the process was
// started by Direct, it does its work (becoming the go command, or being git's
// ssh) and ran is true: the process must then end with the code.
func Helper(args, environ []string, stdin io.Reader, stdout, stderr io.Writer) (ran bool, code int) {
	env := func(name string) string {
		for _, e := range environ {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v
			}
		}
		return ""
	}
	var err error
	switch env(helperEnv) {
	case helperGo:
		err = becomeGo(args, environ, env)
	case helperSSH:
		err = beSSH(args, env, stdin, stdout)
	default:
		return false, 0
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "modgate:", err)
		return true, 1
	}
	return true, 0
}

// becomeGo turns this process into the go command, at the head of a process
// group that the server can kill with all its children.
func becomeGo(args, environ []string, env func(string) string) error {
	if err := becomeGroup(); err != nil {
		return err
	}
	if err := os.WriteFile(env(helperEnv+"_PID"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	var rest []string
	for _, e := range environ {
		if !strings.HasPrefix(e, helperEnv) {
			rest = append(rest, e)
		}
	}
	args = append([]string{"go"}, args[1:]...)
	switch {
	case len(args) <= 4 || args[1] != "list":
	case args[4] == "-versions":
		// A list without retracted versions would hide from clients why they
		// are retracted: the protocol's has all. It also has those of a module
		// that is no longer there, or moved away, in its newest version.
		path := strings.TrimSuffix(args[len(args)-1], "@latest")
		args = append(args[:4:4], "-retracted", "-versions", path)
	case env(helperEnv+"_ZIP") != "":
		// It answers the same, and the files are there, too.
		args = []string{"go", "mod", "download", "-json", args[len(args)-1]}
	}
	return become(env(helperEnv+"_GO"), args, append(rest, helperEnv+"="+helperSSH))
}

// beSSH does for git what ssh would: it has the guard run a command on the
// host of the repository.
func beSSH(args []string, env func(string) string, stdin io.Reader, stdout io.Writer) error {
	guard, err := url.Parse(env("HTTP_PROXY"))
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", guard.Host)
	if err != nil {
		return err
	}
	defer c.Close()
	password, _ := guard.User.Password()
	req := &http.Request{Method: http.MethodConnect, Host: sshHost, URL: &url.URL{Opaque: sshHost}, Header: http.Header{
		"Proxy-Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(guard.User.Username()+":"+password))},
		"Git-Protocol":        {env("GIT_PROTOCOL")},
		"Modgate-Command":     {args[len(args)-1]},
	}}
	if err := req.Write(c); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the guard says %s", resp.Status)
	}
	go func() {
		_, _ = io.Copy(c, stdin)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stdout, in)
	return err
}
