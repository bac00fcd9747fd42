package gittest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
)

// SSH is a real sshd that lets one key run git upload-pack and nothing else.
type SSH struct {
	Addr    string // 127.0.0.1:port
	KeyFile string // private key of the user, in OpenSSH's format, without a passphrase

	user     string
	hostKey  string // "ssh-ed25519 AAAA…"
	sshd     string
	config   string
	commands string // file with a line for each command
	listener net.Listener
	conns    sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool
}

// StartSSH starts an sshd with keys of its own that serves the repositories
// in root as ssh://user@127.0.0.1:port/host/path, and ends with the test.
func StartSSH(tb TB, root string) *SSH {
	tb.Helper()
	dir := tb.TempDir()
	s := &SSH{
		KeyFile: filepath.Join(dir, "user"), config: filepath.Join(dir, "sshd_config"), commands: filepath.Join(dir, "commands"),
		open: map[net.Conn]bool{},
	}
	me, err := user.Current()
	if err != nil {
		tb.Fatalf("%v", err)
	}
	s.user = me.Username // an sshd without privileges can be no one else
	if s.sshd, err = look("sshd"); err != nil {
		tb.Fatalf("%v", err)
	}
	if os.Geteuid() == 0 {
		// sshd wants this empty directory; Debian's service makes it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			tb.Fatalf("%v", err)
		}
	}
	s.hostKey = newSSHKey(tb, filepath.Join(dir, "host"))
	userKey := newSSHKey(tb, s.KeyFile)
	script := filepath.Join(dir, "upload-pack")
	for name, text := range map[string]string{
		script:                           fmt.Sprintf(forced, s.commands, root),
		filepath.Join(dir, "authorized"): fmt.Sprintf("restrict,command=\"%s\" %s\n", script, userKey),
		s.config:                         fmt.Sprintf(sshdConfig, dir),
	} {
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			tb.Fatalf("%v", err)
		}
	}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		tb.Fatalf("%v", err)
	}
	s.Addr = s.listener.Addr().String()
	s.conns.Go(s.accept)
	tb.Cleanup(s.close)
	return s
}

// forced is what runs instead of the command that a client wants.
const forced = `#!/bin/sh
printf '%%s\n' "$SSH_ORIGINAL_COMMAND" >>'%s'
case $SSH_ORIGINAL_COMMAND in
"git-upload-pack '"*"'") ;;
*) echo "only git-upload-pack is served" >&2; exit 1 ;;
esac
name=${SSH_ORIGINAL_COMMAND#*\'}
name=${name%%\'}
name=${name#/}
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
# git takes an absent directory for somebody else's.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
exec git-upload-pack --strict "%s/${name%%.git}.git"
`

const sshdConfig = `HostKey %[1]s/host
AuthorizedKeysFile %[1]s/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin forced-commands-only
AcceptEnv GIT_PROTOCOL
`

// newSSHKey makes a key pair and returns the public one.
func newSSHKey(tb TB, file string) string {
	tb.Helper()
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "gittest", "-f", file).CombinedOutput(); err != nil {
		tb.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return strings.TrimSpace(string(public))
}

// accept starts an sshd for each connection, as inetd did: so the port is
// never free in between, and none is left behind.
func (s *SSH) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open[conn] = true
		s.mu.Unlock()
		s.conns.Go(func() {
			_ = s.serve(conn)
			s.mu.Lock()
			delete(s.open, conn)
			s.mu.Unlock()
			_ = conn.Close()
		})
	}
}

func (s *SSH) serve(conn net.Conn) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return errors.New("not a TCP connection")
	}
	socket, err := tcp.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	cmd := exec.Command(s.sshd, "-i", "-f", s.config)
	cmd.Stdin, cmd.Stdout = socket, socket
	return cmd.Run()
}

func (s *SSH) close() {
	_ = s.listener.Close()
	s.mu.Lock()
	for conn := range s.open {
		if tcp, ok := conn.(*net.TCPConn); ok { // sshd holds it open, too
			_ = tcp.CloseRead()
			_ = tcp.CloseWrite()
		}
	}
	s.mu.Unlock()
	s.conns.Wait()
}

// URL is where a repository (host/path) is.
func (s *SSH) URL(repo string) string { return "ssh://" + s.user + "@" + s.Addr + "/" + repo }

// KnownHosts is a known_hosts file that knows the server.
func (s *SSH) KnownHosts() string {
	host, port, _ := net.SplitHostPort(s.Addr)
	return fmt.Sprintf("[%s]:%s %s\n", host, port, s.hostKey)
}

// Commands returns the commands that clients wanted to run.
func (s *SSH) Commands() []string {
	data, _ := os.ReadFile(s.commands)
	return strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' })
}
