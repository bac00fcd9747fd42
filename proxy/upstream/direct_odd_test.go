package upstream

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// A password may have any characters, also those that mean something in URLs,
// in netrc files and to a shell.
func TestDirectOddPasswords(t *testing.T) {
	const odd = `p:w@/%41#? &"'$(x)\\ü=+`
	for what, credential := range map[string]func(*gitWorld) Credential{
		"file": func(w *gitWorld) Credential {
			return Credential{Username: "c@i", Password: "file:" + w.file("token", odd+"\r\n")}
		},
		"inline": func(*gitWorld) Credential { return Credential{Username: "c@i", Password: odd} },
		"helper": func(w *gitWorld) Credential {
			script := w.file("helper", "#!/bin/sh\ncat <<'EOF'\nusername=c@i\npassword="+odd+"\nEOF\n")
			if err := os.Chmod(script, 0o700); err != nil {
				t.Fatal(err)
			}
			return Credential{Helper: script}
		},
	} {
		t.Run(what, func(t *testing.T) {
			w := newGitWorld(t, func(w *gitWorld) {
				c := credential(w)
				c.Match = gitHost + "/team"
				w.cfg.Rules.Credentials = []Credential{c}
			})
			w.server.SetAccounts(gittest.Account{Prefix: ci.Prefix, User: "c@i", Password: odd})
			w.repo(lib, tagged("v1.0.0"))
			must[[]byte](t)(w.direct.Info(t.Context(), lib, "v1.0.0"))
			must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
		})
	}
}

// A repository without commits has no versions, and is no trouble.
func TestDirectEmptyRepository(t *testing.T) {
	w := newGitWorld(t, nil)
	repo := w.repo(lib)
	for range 2 {
		for what, err := range map[string]error{
			"list": second(w.direct.List(t.Context(), lib)), "latest": second(w.direct.Info(t.Context(), lib, "latest")),
			"branch": second(w.direct.Info(t.Context(), lib, "main")), "version": second(w.direct.Info(t.Context(), lib, "v1.0.0")),
		} {
			wantAbsent(t, what, err)
		}
	}
	repo.Commit(t, gittest.Commit{Files: map[string]string{"go.mod": "module " + lib + "\n"}, Tags: []string{"v1.0.0"}})
	must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
}

// A repository whose hashes are SHA-256 is one like others.
func TestDirectSHA256(t *testing.T) {
	w := newGitWorld(t, nil)
	dir := filepath.Join(w.root, filepath.FromSlash(lib)+".git")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := &gittest.Repo{Name: lib, Dir: dir}
	r.Git(t, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", "--object-format=sha256")
	hash := r.Commit(t, gittest.Commit{Files: map[string]string{"go.mod": "module " + lib + "\n"}, Tags: []string{"v1.0.0"}},
		gittest.Commit{Files: map[string]string{"a.go": "package lib\n"}})[1]
	for range 2 { // the second time by git's own protocol
		info := parseVersion(t, must[[]byte](t)(w.direct.Info(t.Context(), lib, "main")))
		if info.Origin.Hash != hash || len(hash) != 64 || !strings.HasPrefix(info.Version, "v1.0.1-0.") {
			t.Errorf("main: %+v, want %s", info, hash)
		}
		must[[]byte](t)(w.read(lib, info.Version, "zip"))
		must[[]byte](t)(w.read(lib, "v1.0.0", "zip"))
	}
}

// Systems that modgate does not fetch from are refused with what to do, which
// helps: a mirror in git, by a rule.
func TestDirectOtherSystems(t *testing.T) {
	w := newGitWorld(t, nil)
	w.repo(lib, tagged("v1.0.0"))
	for _, vcs := range []string{"svn", "bzr", "fossil", "mod"} {
		path := "go.corp.example/" + vcs
		w.server.SetImport(path, vcs, "https://"+gitHost+"/team/"+vcs)
		_, err := w.direct.Info(t.Context(), path, "v1.0.0")
		wantReason(t, vcs, err, notModule, "keep a mirror in git, and name it under repositories")
	}
	_, err := w.direct.Info(t.Context(), gitHost+"/team/x.svn/sub", "v1.0.0")
	wantReason(t, "by the path", err, notModule, ".svn repository")
	gittest.NewRepo(t, w.root, gitHost+"/team/mirror", gittest.Commit{Files: map[string]string{"go.mod": "module go.corp.example/svn\n"}, Tags: []string{"v1.0.0"}})
	rules := w.cfg.Rules
	rules.Repositories = []Repository{{Match: "go.corp.example/svn", URL: "https://" + gitHost + "/team/mirror"}}
	if err := w.direct.SetRules(rules); err != nil {
		t.Fatal(err)
	}
	must[[]byte](t)(w.read("go.corp.example/svn", "v1.0.0", "zip"))
}
