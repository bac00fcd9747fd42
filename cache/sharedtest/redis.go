package sharedtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Redis is a redis-server without persistence.
type Redis struct {
	*process
	Addr string
	port string
}

// NewRedis starts one; args are further arguments of redis-server.
func NewRedis(t TB, args ...string) *Redis {
	t.Helper()
	return newRedis(t, FreePorts(t, 1)[0], args...)
}

func newRedis(t TB, port string, args ...string) *Redis {
	t.Helper()
	all := append([]string{need(t, "redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0", "--dir", t.TempDir()}, args...)
	r := &Redis{process: start(t, nil, all...), Addr: "127.0.0.1:" + port, port: port}
	r.ready()
	return r
}

func (r *Redis) ready() {
	r.t.Helper()
	r.await(func() error {
		if err := dial(r.Addr); err != nil {
			return err
		}
		out, err := exec.Command("redis-cli", "-p", r.port, "ping").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "PONG") && !strings.Contains(string(out), "NOAUTH") {
			return fmt.Errorf("ping: %s %w", out, err)
		}
		return nil
	})
}

// Restart starts the server anew after Kill, empty.
func (r *Redis) Restart() {
	r.t.Helper()
	r.start()
	r.ready()
}

// Do runs a command by redis-cli and returns what it prints.
func (r *Redis) Do(args ...string) string {
	r.t.Helper()
	return run(r.t, append([]string{"redis-cli", "-p", r.port}, args...)...)
}

// Garble replaces the values of all objects by noise of different lengths.
func (r *Redis) Garble() {
	r.t.Helper()
	r.Do("eval", "for i, k in ipairs(redis.call('KEYS', 'modgate:o:*')) do redis.call('SET', k, string.rep('x', i % 40 * 50)) end", "0")
}

// Confuse replaces the values of all objects by that of one of them.
func (r *Redis) Confuse() {
	r.t.Helper()
	r.Do("eval", "local ks = redis.call('KEYS', 'modgate:o:*') local first = #ks > 0 and redis.call('GET', ks[1]) for i = 2, #ks do redis.call('SET', ks[i], first) end", "0")
}

// Sentinels are a master, a replica of it, and three Sentinels that know the
// master as "mymaster".
type Sentinels struct {
	Addrs   []string // of the Sentinels
	Master  *Redis
	Replica *Redis
}

// NewSentinels starts five servers. The Sentinels notice a dead master after
// half a second.
func NewSentinels(t TB) *Sentinels {
	t.Helper()
	s := &Sentinels{Master: NewRedis(t)}
	s.Replica = NewRedis(t, "--replicaof", "127.0.0.1 "+s.Master.port)
	s.Replica.await(func() error {
		if info := s.Replica.Do("info", "replication"); !strings.Contains(info, "master_link_status:up") {
			return fmt.Errorf("replication: %s", info)
		}
		return nil
	})
	dir := t.TempDir()
	for _, port := range FreePorts(t, 3) {
		file := filepath.Join(dir, port+".conf")
		config := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor mymaster 127.0.0.1 %s 2\nsentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n", port, dir, s.Master.port)
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatalf("%v", err)
		}
		p := &Redis{process: start(t, nil, need(t, "redis-server"), file, "--sentinel"), Addr: "127.0.0.1:" + port, port: port}
		p.ready()
		s.Addrs = append(s.Addrs, p.Addr)
	}
	for _, a := range s.Addrs {
		_, port, _ := strings.Cut(a, ":")
		s.Master.await(func() error {
			if out := run(t, "redis-cli", "-p", port, "sentinel", "ckquorum", "mymaster"); !strings.HasPrefix(out, "OK 3") {
				return fmt.Errorf("quorum: %s", out)
			}
			if out := run(t, "redis-cli", "-p", port, "sentinel", "replicas", "mymaster"); !strings.Contains(out, s.Replica.port) {
				return fmt.Errorf("replicas: %s", out)
			}
			return nil
		})
	}
	return s
}

// Roles returns who is master now and who the other is, as the Sentinels see it.
func (s *Sentinels) Roles() (master, other *Redis) {
	s.Master.t.Helper()
	_, port, _ := strings.Cut(s.Addrs[0], ":")
	out := run(s.Master.t, "redis-cli", "-p", port, "sentinel", "get-master-addr-by-name", "mymaster")
	if strings.HasSuffix(out, s.Replica.port) {
		return s.Replica, s.Master
	}
	return s.Master, s.Replica
}

// Settle waits until one is master, the other follows it, and the Sentinels see
// both. Servers that came back in the role in which they once began are told
// theirs: Sentinels would leave them alone for a while.
func (s *Sentinels) Settle() {
	s.Master.t.Helper()
	s.Master.await(func() error {
		master, other := s.Roles()
		if role := master.ask("role"); !strings.HasPrefix(role, "master") {
			master.ask("replicaof", "no", "one")
			return fmt.Errorf("the master is %s", role)
		}
		if role := other.ask("role"); !strings.Contains(role, "\n"+master.port+"\nconnected") {
			other.ask("replicaof", "127.0.0.1", master.port)
			return fmt.Errorf("the other is %s", role)
		}
		for _, a := range s.Addrs {
			_, port, _ := strings.Cut(a, ":")
			out, err := exec.Command("redis-cli", "-p", port, "sentinel", "master", "mymaster").Output()
			if err != nil || !strings.Contains(string(out), "flags\nmaster\n") || !strings.Contains(string(out), "\n"+master.port+"\n") {
				return fmt.Errorf("a Sentinel says: %s %w", out, err)
			}
		}
		return nil
	})
}

// ask is Do for a server that may be in trouble.
func (r *Redis) ask(args ...string) string {
	out, err := exec.Command("redis-cli", append([]string{"-p", r.port}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(out)
}
