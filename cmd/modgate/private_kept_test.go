package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/cache/disk"
	"github.com/modgate/modgate/cache/s3"
	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/sumdb"
)

// secretCache returns a cache directory with public modules and two that came
// from repositories: one has a pin, of the other the repository is kept.
func secretCache(t *testing.T) (dir string) {
	t.Helper()
	dir, _ = filled(t)
	store, err := disk.New(disk.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, path := range []string{"git.corp.example/Team/pinned", "git.corp.example/team/pinned/v2", "git.corp.example/kept/repo/sub"} {
		version := "v1.0.0"
		if strings.HasSuffix(path, "v2") {
			version = "v2.0.0"
		}
		m := proxytest.Simple(t, path, version)
		for kind, data := range map[string][]byte{"mod": m.Mod, "zip": m.Zip} {
			name := strings.TrimPrefix(proxytest.Path(t, m.Version, kind), "/")
			if err := store.Put(t.Context(), name, bytes.NewReader(data), cache.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	pin(t, dir, module.Version{Path: "git.corp.example/Team/pinned", Version: "v1.0.0"})
	vcs := filepath.Join(dir, ".modgate", "direct", "vcs")
	if err := errors.Join(os.MkdirAll(vcs, 0o700), os.WriteFile(filepath.Join(vcs, "abc.info"), []byte("git3:https://git.corp.example/kept/repo.git\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func pin(t *testing.T, dir string, m module.Version) {
	t.Helper()
	if err := pinsIn(t, dir).Verify(t.Context(), m, "mod", "h1:x"); err != nil {
		t.Fatal(err)
	}
}

// Whoever verifies a cache without the patterns of its server tells nobody the
// names of private modules, and is told.
func TestVerifyOnlineTellsNoPrivateName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := secretCache(t)
	command := func(args ...string) (stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		args = append(append([]string{"cache", "verify", "--online", "--cache-dir", dir}, w.flags()...), args...)
		if err := run(t.Context(), args, []string{"HOME=" + t.TempDir(), "MODGATE_CONFIG=off"}, &out, &errs); err != nil {
			t.Errorf("%v\n%s%s", err, &out, &errs)
		}
		return out.String(), errs.String()
	}
	out, errs := command()
	w.wantNoLeak(t)
	if len(w.log.Requests("/lookup/")) == 0 {
		t.Error("nothing was asked about what is public")
	}
	if !strings.Contains(out, "git.corp.example/kept/repo/sub/@v/v1.0.0.zip: it is private") || !strings.Contains(out, "8 proven by the checksum database, 6 not") {
		t.Errorf("it is not said what was left out:\n%s", out)
	}
	if !strings.Contains(errs, "1 private module that no pattern of private matches") || !strings.Contains(errs, "--private") {
		t.Errorf("the missing patterns are not told:\n%s", errs)
	}
	if _, errs := command("--private=git.corp.example/*"); strings.Contains(errs, "pattern") {
		t.Errorf("a warning with the patterns:\n%s", errs)
	}
	w.wantNoLeak(t)

	// What is private must be known before anything is asked.
	if err := os.RemoveAll(filepath.Join(dir, ".modgate", "direct", "vcs")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".modgate", "direct", "vcs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), append([]string{"cache", "verify", "--online", "--cache-dir", dir}, w.flags()...), []string{"MODGATE_CONFIG=off"}, &stdout, &stderr); err == nil || !strings.Contains(stderr.String(), "asks nobody unless") {
		t.Errorf("%v\n%s%s", err, &stdout, &stderr)
	}
}

// Rules that are tried without the patterns of the server name no private module
// either.
func TestPolicyTestTellsNoPrivateName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := secretCache(t)
	rules, sum := filepath.Join(t.TempDir(), "rules.yaml"), filepath.Join(t.TempDir(), "go.sum")
	const h1 = " h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
	err := errors.Join(os.WriteFile(rules, []byte("rules: [{name: a, action: deny, reason: b, when: {retracted: true}}]\n"), 0o600),
		os.WriteFile(sum, []byte("git.corp.example/Team/pinned v1.0.0"+h1+"git.corp.example/Team/pinned v1.9.0"+h1+"example.com/greet v1.0.0"+h1), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	out, err := modgate(t, append([]string{"policy", "test", "--policy-file", rules, "--go-sum", sum, "--cache-dir", dir}, w.flags()...)...)
	if err != nil && !errors.Is(err, errReported) || !strings.Contains(out, "3 versions") {
		t.Errorf("%v\n%s", err, out)
	}
	w.wantNoLeak(t)
}

// What is read in the background is no way out for private names, and a server
// that has lost its patterns says so.
func TestServerWithoutItsPatterns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dir := secretCache(t)
	i, err := launch(nil, dir, append(w.flags(), "--cache-scrub-every=1s", "--cache-scrub-rate=1GiB")...)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); i.metric(t, `modgate_scrub_finished_seconds{tier="directory"}`) == 0; <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("nothing was read in the background")
			break
		}
	}
	if err := i.stop(); err != nil {
		t.Error(err)
	}
	w.wantNoLeak(t)
	if len(w.log.Requests("/lookup/")) == 0 {
		t.Error("nothing was asked about what is public")
	}
	if !strings.Contains(i.log(), "private names no pattern") {
		t.Errorf("no warning:\n%s", i.log())
	}
}

// A pin of another replica is one, too.
func TestPinsInTheBucketArePrivate(t *testing.T) {
	t.Parallel()
	b := sharedtest.NewS3(t)
	store, err := s3.New(t.Context(), s3.Config{Bucket: b.Bucket, Endpoint: b.Endpoint, PathStyle: true, AccessKey: b.AccessKey, SecretKey: b.SecretKey})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	name, err := sumdb.PinName(module.Version{Path: "git.corp.example/Far", Version: "v1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.SwapRecord(t.Context(), name, nil, []byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	k, err := readKeptPrivate(t.Context(), t.TempDir(), store)
	if err != nil || !k.has("git.corp.example/Far") {
		t.Fatalf("%v, %+v", err, k)
	}
	for path, want := range map[string]bool{"git.corp.example": true, "git.corp.example/far/sub": true, "git.corp.example/farther": false, "example.com/greet": false} {
		if k.has(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
}
