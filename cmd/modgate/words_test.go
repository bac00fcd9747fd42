package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a newcomer gets wrong is told with what to do about it.
func TestSlipsAreExplained(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	ssh := filepath.Join(dir, "ssh.yaml")
	rules := filepath.Join(dir, "rules.yaml")
	for name, text := range map[string]string{empty: "", rules: "default: allow\n", ssh: "credentials:\n  - {match: git.corp.example, username: git, ssh_key: /x, known_hosts: /y}\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone := filepath.Join(dir, "gone")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"serve", "--listn=:1"}, "unknown flag: --listn\n  → did you mean --listen? modgate serve --help lists the flags"},
		{[]string{"cache", "stat", "--cache-redis-addr=x"}, "→ give cache.redis.addr in the file of --config, or as MODGATE_CACHE_REDIS_ADDR in the environment"},
		{[]string{"config", "--check", "--policy-file=" + gone}, "\n  → name a file that exists and may be read"},
		{[]string{"config", "--check", "--auth-file=" + gone}, "\n  → name a file that exists and may be read"},
		{[]string{"audit", "who", "example.com/m@v1.0.0", gone}, "\n  → name a file that exists and may be read"},
		{[]string{"policy", "test", "--go-sum=" + gone}, "--go-sum: open " + gone},
		{[]string{"warm", gone}, "\n  → name a file that exists and may be read"},
		{[]string{"warm", empty}, "no module is named there\n  → "},
		{[]string{"audit", "who", "example.com/m@v1.0.0", empty}, "0 lines read, and none of them is a request\n  → "},
		{[]string{"policy", "check", rules, "--cache-dir=" + gone}, "compared with no module: there is none in the cache " + gone},
		{[]string{"config", "--check", "--private=git.corp.example", "--direct-file=" + ssh}, "the user of ssh stands in the URL"},
		{[]string{"serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--cache-dir=/proc/x"}, "name a directory that exists, or that can be made"},
		{[]string{"config", "--cache-redis-tls=true"}, "tls: \"on\" #"},
		{[]string{"config", "--auth-required=off"}, `required: "false" #`},
	} {
		var out bytes.Buffer
		_ = run(t.Context(), test.args, []string{"HOME=" + dir, "MODGATE_CONFIG=off"}, &out, &out)
		if !strings.Contains(out.String(), test.want) {
			t.Errorf("%q: want %q in\n%s", test.args, test.want, &out)
		}
	}
}
