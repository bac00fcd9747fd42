package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// examineMachine runs doctor --server and returns the codes of all findings that
// are more than notes, sorted, and the whole report.
func examineMachine(t *testing.T, args []string, flags ...string) (codes []string, report string) {
	t.Helper()
	var out, errOut bytes.Buffer
	err := run(t.Context(), slices.Concat([]string{"doctor", "--server", "--json"}, args, flags), machineEnv(t, nil), &out, &errOut)
	var r struct {
		Findings []struct{ Code, Severity string }
	}
	if jerr := json.Unmarshal(out.Bytes(), &r); jerr != nil {
		t.Fatalf("%v, %v\n%s%s", err, jerr, out.String(), errOut.String())
	}
	codes = []string{}
	for _, f := range r.Findings {
		if f.Severity != "note" {
			codes = append(codes, f.Code)
		}
	}
	slices.Sort(codes)
	return slices.Compact(codes), out.String() + errOut.String()
}

// machineEnv is the environment of a server, with these flags as variables.
func machineEnv(t *testing.T, flags []string) []string {
	environ := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "HTTPS_PROXY=http://127.0.0.1:1"} // no host of the public is asked for the time
	for _, flag := range flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		environ = append(environ, "MODGATE_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"="+value)
	}
	return environ
}

// Redis and bucket, healthy and with each thing wrong, as a server has them.
func TestDoctorOnShared(t *testing.T) {
	w := newWorld(t)
	cache := sharedtest.NewRedis(t, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
	keep := sharedtest.NewRedis(t, "--appendonly", "yes")
	forgetful := sharedtest.NewRedis(t, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
	full := sharedtest.NewRedis(t, "--maxmemory", "64mb")
	gone := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	broken := sharedtest.NewRedis(t, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--dir", gone)
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	breakDisk(t, broken)
	locked := sharedtest.NewRedis(t, "--requirepass", "right")
	bucket := sharedtest.NewS3(t)
	s3 := func(change ...string) []string {
		return append([]string{"--cache-s3-endpoint=" + bucket.Endpoint, "--cache-s3-path-style=on", "--cache-s3-bucket=" + bucket.Bucket, "--cache-s3-access-key=" + bucket.AccessKey, "--cache-s3-secret-key=" + bucket.SecretKey}, change...)
	}
	storage := func(addr string) []string {
		return []string{"--tls-mode=internal", "--tls-storage=redis://" + addr + "/0", "--tls-storage-key=" + strings.Repeat("k", 32)}
	}
	for _, test := range []struct {
		name, want string
		flags      []string
		says       string
	}{
		{"healthy", "", slices.Concat([]string{"--cache-redis-addr=" + cache.Addr, "--cache-redis-timeout=20s"}, s3(), storage(keep.Addr)), "every change is written to disk"},
		{"a bucket that is not there", "server-shared", s3("--cache-s3-bucket=nowhere"), "NoSuchBucket"},
		{"a secret key that is not right", "server-shared", s3("--cache-s3-secret-key=wrong-hunter2"), "SignatureDoesNotMatch"},
		{"a wrong password", "server-shared", []string{"--cache-redis-addr=" + locked.Addr, "--cache-redis-password=hunter2", "--cache-redis-timeout=20s"}, "WRONGPASS"},
		{"full without eviction", "server-redis-full", []string{"--cache-redis-addr=" + full.Addr}, "noeviction"},
		{"certificates may be evicted, and are lost", "server-redis-evicts server-redis-forgets", storage(forgetful.Addr), "allkeys-lru"},
		{"a disk that cannot be written", "server-redis-disk", []string{"--cache-redis-addr=" + broken.Addr, "--cache-redis-timeout=20s"}, "rdb_last_bgsave_status"},
		{"nobody listens", "server-shared-down", []string{"--cache-redis-addr=127.0.0.1:1"}, "connection refused"},
		{"far away", "server-shared-slow", []string{"--cache-redis-addr=" + slow(t, cache.Addr, 800*time.Millisecond), "--cache-redis-timeout=1500ms"}, "given up after 1.5s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, report := examineMachine(t, nil, append(w.flags(), test.flags...)...)
			if strings.Join(got, " ") != test.want || !strings.Contains(report, test.says) || strings.Contains(report, "hunter2") {
				t.Errorf("found %q, want %q and %q\n%s", got, test.want, test.says, report)
			}
		})
	}
}

// breakDisk lets a Redis fail to write its data into its directory, which is
// gone.
func breakDisk(t *testing.T, r *sharedtest.Redis) {
	t.Helper()
	_, port, _ := net.SplitHostPort(r.Addr)
	for range 100 {
		for _, command := range [][]string{{"set", "x", "y"}, {"bgsave"}, {"info", "persistence"}} {
			out, err := exec.Command("redis-cli", append([]string{"-p", port}, command...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%s, %v", out, err)
			}
			if strings.Contains(string(out), "rdb_last_bgsave_status:err") {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("Redis has saved nevertheless")
}

// noting is told of everything that is written to it.
type noting func()

// Write implements io.Writer.
func (f noting) Write(p []byte) (int, error) { f(); return len(p), nil }

// slow is a way to address on which each answer takes longer.
func slow(t *testing.T, address string, by time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", address)
			if err != nil {
				in.Close()
				continue
			}
			var asked atomic.Bool // since the last answer, which may come in parts
			go func() {
				io.Copy(out, io.TeeReader(in, noting(func() { asked.Store(true) })))
				out.Close()
			}()
			go func() {
				defer in.Close()
				data := make([]byte, 64<<10)
				for {
					n, err := out.Read(data)
					if err != nil {
						return
					}
					if asked.Swap(false) {
						time.Sleep(by)
					}
					if _, err := in.Write(data[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// Files of certificates, and the keys in the storage, as a server reads them.
func TestDoctorOnFiles(t *testing.T) {
	w, pki, dir := newWorld(t), tlstest.New(t), t.TempDir()
	cert, key := pki.Write(dir, "good", pki.Issue(tlstest.Leaf{}))
	_, stranger := pki.Write(dir, "stranger", pki.Issue(tlstest.Leaf{}))
	old, oldKey := pki.Write(dir, "old", pki.Issue(tlstest.Leaf{From: time.Now().Add(-2 * time.Hour), Until: time.Now().Add(-time.Hour)}))
	short, shortKey := pki.Write(dir, "short", pki.Issue(tlstest.Leaf{NoIntermediate: true}))
	root := pki.WriteRoot(dir)
	open := filepath.Join(dir, "open.key")
	data, err := os.ReadFile(key)
	if err == nil {
		err = os.WriteFile(open, data, 0o644)
	}
	storage := filepath.Join(dir, "storage")
	if err == nil {
		err = os.MkdirAll(filepath.Join(storage, "pki"), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(storage, "pki", "root.key"), data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	files := func(cert, key string) []string {
		return []string{"--tls-mode=files", "--tls-files=" + cert + ":" + key, "--tls-trust=" + root}
	}
	spoilt := func(name string, l tlstest.Leaf) []string { return files(pki.Write(dir, name, pki.Issue(l))) }
	rules := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(rules, []byte("rules: [oops\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, want string
		flags      []string
		mend       string // what is to be done first
	}{
		{"good", "", files(cert, key), ""},
		{"the key of another", "server-certificate-pair", files(cert, stranger), "openssl x509 -in " + cert + " -noout -pubkey; openssl pkey -in " + stranger + " -pubout "},
		{"a key that is not there", "server-file", files(cert, dir+"/none.key"), "ls -lL " + cert + " " + dir + "/none.key "},
		{"a key that is a certificate", "server-certificate-pair", files(cert, cert), "openssl pkey -inform der -in " + cert},
		{"expired", "server-certificate-expired", files(old, oldKey), "put a certificate that is still good into " + old},
		{"without its intermediate", "server-certificate", files(short, shortKey), "cat intermediate.crt >> " + short},
		{"self-signed", "server-certificate", spoilt("self", tlstest.Leaf{SelfSigned: true}), "a certificate from the company's authority"},
		{"without names", "server-certificate", spoilt("nameless", tlstest.Leaf{NoNames: true}), "issue it anew with a name: "},
		{"for clients", "server-certificate", spoilt("client", tlstest.Leaf{Client: true}), "issue it anew from the authority's template"},
		{"not yet valid", "server-certificate", spoilt("early", tlstest.Leaf{From: time.Now().Add(time.Hour), Until: time.Now().Add(2 * time.Hour)}), "date -u "},
		{"a key that all can read", "server-secret-mode", files(cert, open), "chmod 600 " + open},
		{"a stored key that all can read", "server-secret-mode", []string{"--tls-mode=internal", "--tls-storage=" + storage}, "chmod 600 " + storage},
		{"a wildcard without dns-01", "http-proxy-down server-config", []string{"--tls-mode=acme", "--tls-domains=*.corp.example", "--tls-challenge=http-01", "--tls-http-listen=127.0.0.1:0"}, "modgate config --check"},
		{"an illegal name", "http-proxy-down server-config", []string{"--tls-mode=acme", "--tls-domains=go_1.corp.example", "--tls-challenge=http-01", "--tls-http-listen=127.0.0.1:0"}, "modgate config --check"},
		{"rules with a mistake", "server-config", []string{"--policy-file=" + rules}, "modgate policy check " + rules},
		{"tokens with a mistake", "server-config", []string{"--auth-file=" + rules}, "modgate auth check " + rules},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, report := examineMachine(t, nil, append(w.flags(), test.flags...)...)
			if strings.Join(got, " ") != test.want || !strings.Contains(report, "\"mend\": [\n        \""+test.mend) && test.mend != "" {
				t.Errorf("found %q, want %q and %q\n%s", got, test.want, test.mend, report)
			}
		})
	}
}

// A process that may open few files says so.
func TestDoctorOnFewFiles(t *testing.T) {
	w := newWorld(t)
	cmd := exec.Command("bash", "-c", "ulimit -n 512; exec modgate doctor --server --json")
	cmd.Env = machineEnv(t, w.flags())
	out, _ := cmd.CombinedOutput()
	if !strings.Contains(string(out), `"code": "server-open-files"`) || !strings.Contains(string(out), "512") {
		t.Errorf("%s", out)
	}
}

// A dry run beside a server that runs: by its configuration, with an account and
// a storage of its own.
func TestDoctorRehearses(t *testing.T) {
	f := newFleet(t, "--tls-storage="+filepath.Join(t.TempDir(), "tls"))
	trials := tlstest.StartPebble(t, tlstest.New(t), tlstest.PebbleConfig{})
	i := f.start(t, f.pebble.TLSAddr)
	awaitSerial(t, i, f.pebble.Pool(t))
	flags := f.flags(f.pebble.TLSAddr)
	// Nothing leads from port 443 of localhost to the server, which doctor says.
	got, report := examineMachine(t, []string{"--admin=" + i.admin, "--staging=" + f.pebble.Directory}, flags...)
	if strings.Join(got, " ") != "acme-port" || !strings.Contains(report, "a certificate came in") || !strings.Contains(report, "doctor: --staging registers an account at "+f.pebble.Directory) {
		t.Errorf("%q\n%s", got, report)
	}
	// Its certificate is of an authority that tls.ca_roots does not have.
	got, report = examineMachine(t, []string{"--admin=" + i.admin, "--staging=" + trials.Directory}, flags...)
	if strings.Join(got, " ") != "acme-port acme-staging" || !strings.Contains(report, "tls.ca_roots") {
		t.Errorf("%q\n%s", got, report)
	}
	for _, test := range []struct{ flag, want string }{
		{"--staging", "only Let's Encrypt has a CA for trials that is known here"},
		{"--staging=nonsense", "neither the name of a CA nor an https:// URL"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), []string{"doctor", "--server", test.flag}, machineEnv(t, flags), &out, &out)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.flag, err)
		}
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"doctor", "--probe"}, machineEnv(t, nil), &out, &out); err == nil || !strings.Contains(err.Error(), "goes with --server") {
		t.Error(err)
	}
	if err := run(t.Context(), []string{"doctor", "--server", "--probe"}, machineEnv(t, f.world.flags()), &out, &out); err == nil || !strings.Contains(err.Error(), "need tls.mode acme") {
		t.Error(err)
	}
}

// A disk that is almost full, and one that has room but no inodes.
func TestDoctorOnFullDisks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	w := newWorld(t)
	for _, test := range []struct{ options, want string }{
		{"size=64m", "server-cache-size server-disk"},
		{"size=600m,nr_inodes=20", "server-inodes"},
	} {
		dir := t.TempDir()
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", test.options, "tmpfs", dir).CombinedOutput(); err != nil {
			t.Skipf("cannot mount: %s", out)
		}
		t.Cleanup(func() { exec.Command("umount", dir).Run() })
		flags := append(w.flags(), "--cache-dir="+dir)
		if strings.Contains(test.options, "inodes") {
			flags = append(flags, "--cache-max-size=100MiB")
			for n := range 19 {
				if err := os.WriteFile(filepath.Join(dir, string(rune('a'+n))), nil, 0o600); err != nil {
					break
				}
			}
		}
		if got, report := examineMachine(t, nil, flags...); strings.Join(got, " ") != test.want {
			t.Errorf("%s: found %q, want %q\n%s", test.options, got, test.want, report)
		}
	}
}

// A file of rules is a secret where it holds one, not where it says in which
// other file one is.
func TestDirectFileHoldsSecrets(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for rules, secret := range map[string]bool{
		"networks: [127.0.0.1/32]\n": false,
		"repositories: [{match: git.corp/*, url: 'ssh://git@git.corp/{1}.git'}]\n":       false,
		"repositories: [{match: git.corp/*, url: 'https://me:pw@git.corp/{1}.git'}]\n":   true,
		"credentials: [{match: git.corp, username: ci, password: 'env:TOKEN'}]\n":        false,
		"credentials: [{match: git.corp, username: ci, password: 'file:" + key + "'}]\n": false,
		"credentials: [{match: git.corp, username: ci, password: hunter2}]\n":            true,
		"credentials: [{match: git.corp, helper: 'corp --token=hunter2'}]\n":             true,
		"credentials: [{match: git.corp, ssh_key: 'file:" + key + "'}]\n":                false,
		"credentials: [{match: git.corp, ssh_key: 'env:KEY'}]\n":                         false,
		"credentials: [{match: git.corp, password: hunter2\n":                            true, // it cannot be read
	} {
		file := filepath.Join(dir, "direct.yaml")
		if err := os.WriteFile(file, []byte(rules), 0o644); err != nil {
			t.Fatal(err)
		}
		got, report := examineMachine(t, nil, "--direct-file="+file, "--private=git.corp/*", "--upstream=https://127.0.0.1:1", "--sumdb=off")
		if slices.Contains(got, "server-secret-mode") != secret || slices.Contains(got, "server-file") {
			t.Errorf("%q: found %q\n%s", rules, got, report)
		}
	}
}
