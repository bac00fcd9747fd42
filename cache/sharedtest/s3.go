package sharedtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// S3 is a versitygw with one bucket.
type S3 struct {
	*process
	Endpoint             string
	AccessKey, SecretKey string
	Bucket               string
	// Dir is where the objects of the bucket are files.
	Dir string
}

// NewS3 starts one.
func NewS3(t TB) *S3 {
	t.Helper()
	program := needTool(t, "versitygw")
	address := "127.0.0.1:" + FreePorts(t, 1)[0]
	root := t.TempDir()
	s := &S3{
		Endpoint: "http://" + address, AccessKey: "test", SecretKey: "secret-of-the-test",
		Bucket: "modgate-test", Dir: filepath.Join(root, "modgate-test"),
	}
	// A directory is a bucket.
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		t.Fatalf("%v", err)
	}
	s.process = start(t, []string{"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey},
		program, "--port", address, "--quiet", "posix", root)
	s.await(func() error { return dial(address) })
	return s
}

// Restart starts the server anew after Kill, with what it had.
func (s *S3) Restart() {
	s.t.Helper()
	s.start()
	s.await(func() error { return dial(strings.TrimPrefix(s.Endpoint, "http://")) })
}

// needTool is need for a program that tools/setup.sh has built.
func needTool(t TB, name string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return need(t, name)
	}
	// From wherever in the repository a test runs.
	dir, _ := os.Getwd()
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		script := filepath.Join(dir, "tools", "setup.sh")
		if _, err := os.Stat(script); err != nil {
			continue
		}
		out, err := exec.Command(script, "dir").Output()
		if path := filepath.Join(strings.TrimSpace(string(out)), name); err == nil {
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
		break
	}
	return need(t, name)
}
