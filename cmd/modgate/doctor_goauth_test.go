package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"crypto/tls"

	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// authWorld is a proxy that wants a token, and a machine with a command corp-token.
type authWorld struct {
	url, dir string
	environ  []string
}

func newAuthWorld(t *testing.T, w *world, open bool) authWorld {
	pki, dir := tlstest.New(t), t.TempDir()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		if !open && r.Header.Get("Authorization") != "Bearer s3cret-token" && password != "s3cret-netrc" {
			out.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(out, "who are you?", http.StatusUnauthorized)
			return
		}
		w.upstream.Config.Handler.ServeHTTP(out, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pki.Issue(tlstest.Leaf{})}}
	s.StartTLS()
	t.Cleanup(s.Close)
	_, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
	a := authWorld{url: "https://localhost:" + port, dir: dir}
	a.environ = slices.DeleteFunc(goEnv(dir, a.url, w.log.Key()), func(v string) bool { return strings.HasSuffix(v, "=") || strings.HasPrefix(v, "PATH=") })
	a.environ = append(a.environ, "GONOSUMDB=example.com/*", "SSL_CERT_FILE="+pki.WriteRoot(dir), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	return a
}

// TestDoctorOnGOAUTH holds what doctor says of a command of GOAUTH against what the
// go command makes of it.
func TestDoctorOnGOAUTH(t *testing.T) {
	const gives = `printf 'https://localhost:%s\n\nAuthorization: Bearer s3cret-token\n\n' "${PORT:-$1}"`
	const unauthorized, refused = "401 Unauthorized", "env-goauth-fails"
	w := newWorld(t)
	for _, test := range []struct {
		name, script, goauth string
		netrc, open          bool
		go1                  string // what the go command says; "": it works
		want                 string
		status               int
		hints                string // is in the report
	}{
		{"gives", gives, "", false, false, "", "", 0, "gives credentials for 1 URL"},
		{"takes arguments in quotes", `test "$2" = "a b" || exit 3; ` + gives, "corp-token -x 'a b'", false, false, "", "", 0, ""},
		{"gives for a URL that was refused", `case "$1" in https://*) ;; *) exit 0;; esac; read status; case "$status" in *401*) ;; *) exit 1;; esac; ` + gives, "", false, false, "", "", 0, ""},
		{"fails", "echo s3cret-url >&2; exit 1", "", false, false, unauthorized, refused, 2, "exit status 1"},
		{"fails, and netrc has a password", "exit 1", "corp-token;netrc", true, false, "", refused, 1, ""},
		{"fails, and nobody wants credentials", "exit 1", "", false, true, "", refused, 1, ""},
		{"garbage", "echo s3cret-token", "", false, false, unauthorized, refused, 2, "line 1 of what it prints"},
		{"no empty line at the end", gives + ` | head -n 3`, "", false, false, unauthorized, refused, 2, "line 4 of what it prints"},
		{"cannot be run", "-", "", false, false, unauthorized, refused, 2, "permission denied"},
		{"gives nothing", "exit 0", "", false, false, unauthorized, "http-unauthorized", 2, "put netrc behind it"},
		{"gives what has expired", strings.Replace(gives, "s3cret-token", "s3cret-old", 1), "", false, false, unauthorized, "http-unauthorized", 2, "may have expired"},
		{"does not end", "sleep 4321", "", false, false, "-", refused, 2, "it does not end"},
		{"does not end, and nobody wants credentials", "sleep 4321", "", false, true, "-", refused, 2, "it does not end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAuthWorld(t, w, test.open)
			port := a.url[strings.LastIndex(a.url, ":")+1:]
			script, mode := "#!/bin/sh\nPORT="+port+"\n"+test.script+"\n", os.FileMode(0o755)
			if test.script == "-" {
				mode = 0o644
			}
			if err := os.WriteFile(filepath.Join(a.dir, "bin", "corp-token"), []byte(script), mode); err != nil {
				t.Fatal(err)
			}
			if test.netrc {
				if err := os.WriteFile(filepath.Join(a.dir, ".netrc"), []byte("machine localhost:"+port+" login me password s3cret-netrc\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			goauth := test.goauth
			if goauth == "" {
				goauth = "corp-token"
				if mode == 0o644 {
					goauth = filepath.Join(a.dir, "bin", "corp-token")
				}
			}
			environ := append(slices.Clone(a.environ), "GOAUTH="+goauth)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if test.go1 == "-" {
				ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
			}
			defer cancel()
			cmd := exec.CommandContext(ctx, "go", "mod", "download", "example.com/greet@v1.0.0")
			cmd.Dir, cmd.Env, cmd.WaitDelay = a.dir, environ, time.Second
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
			said, err := cmd.CombinedOutput()
			if test.go1 == "" != (err == nil) || test.go1 == "-" != (ctx.Err() != nil) || !strings.Contains(string(said), strings.Trim(test.go1, "-")) {
				t.Errorf("the go command says %s, %v", said, err)
			}
			start := time.Now()
			codes, status, out := examineJSON(t, environ, "example.com/greet@v1.0.0")
			slices.Sort(codes)
			if status != test.status || strings.Join(codes, " ") != test.want || !strings.Contains(out, test.hints) {
				t.Errorf("status %d, %q\n%s", status, codes, out)
			}
			if strings.Contains(out, "s3cret") {
				t.Errorf("a secret is shown\n%s", out)
			}
			if took := time.Since(start); took >= 10*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
