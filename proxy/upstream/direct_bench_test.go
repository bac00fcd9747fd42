package upstream

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// BenchmarkDirect fetches the first and the second version of a repository
// with 2,000 commits and 30 tags, beside the go command alone.
func BenchmarkDirect(b *testing.B) {
	w := newGitWorld(b, nil)
	commits := gittest.History(2000)
	commits[0].Files["go.mod"] = "module " + lib + "\n\ngo 1.20\n"
	for i := range 30 {
		commits[(i+1)*len(commits)/30-1].Tags = []string{fmt.Sprintf("v1.%d.0", i)}
	}
	gittest.NewRepo(b, w.root, lib, commits...)
	forward := w.server.Proxy(b)
	w.server.SetFault("*", "*", proxytest.Delay(50*time.Millisecond))
	b.Run("go", func(b *testing.B) {
		for b.Loop() {
			home := b.TempDir()
			os.WriteFile(filepath.Join(home, ".netrc"), []byte("machine "+gitHost+" login ci password secret\n"), 0o600)
			for _, v := range []string{"v1.10.0", "v1.11.0"} {
				cmd := exec.Command("go", "mod", "download", "-modcacherw", lib+"@"+v)
				cmd.Dir = home
				cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GOPROXY=direct", "GOSUMDB=off", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local", "SSL_CERT_FILE=" + w.server.CAFile, "GIT_SSL_CAINFO=" + w.server.CAFile, "HTTPS_PROXY=" + forward.URL}
				begin := time.Now()
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v %s", err, out)
				}
				b.Logf("go %s %v", v, time.Since(begin))
			}
		}
	})
	b.Run("direct", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			cfg := w.cfg
			cfg.Dir = filepath.Join(b.TempDir(), "direct")
			w.direct, _ = startDirect(b, cfg)
			b.StartTimer()
			for _, v := range []string{"v1.10.0", "v1.11.0", "v1.12.0"} {
				begin := time.Now()
				if _, err := w.direct.Info(b.Context(), lib, v); err != nil {
					b.Fatal(err)
				}
				info := time.Since(begin)
				for _, kind := range []string{"mod", "zip"} {
					if _, err := w.read(lib, v, kind); err != nil {
						b.Fatal(err)
					}
				}
				b.Logf("modgate %s %v (info %v)", v, time.Since(begin), info)
			}
		}
	})
}
