package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/proxy/upstream/gittest"
)

// The private module and who may read it.
const (
	privateHost     = "git.corp.example"
	privateModule   = privateHost + "/platform/core"
	privateUser     = "ci"
	privatePassword = "correct-horse"
)

// A site is the git server of a company with one repository.
type site struct {
	dir      string
	server   *gittest.Server
	proxy    string // HTTP proxy, by which its name is reached
	repo     *gittest.Repo
	tags     int       // v1.0.0 to v1.<tags-1>.0
	commits  [2]string // that have no tag
	home     string    // HOME of whoever may read the repository
	sum      map[string]string
	seq      int
	workload string
	upstream string
	end      func() // never nil
}

// newSite builds the repository and serves it.
func newSite(dir string, cfg privateConfig) (*site, error) {
	s := &site{dir: dir, tags: cfg.Tags, home: filepath.Join(dir, "home"), sum: map[string]string{}}
	root := filepath.Join(dir, "repositories")
	var err error
	s.end, err = gittest.Run(dir, func(tb gittest.TB) {
		s.repo = gittest.NewRepo(tb, root, privateModule, privateHistory(cfg)...)
		for i := range s.commits {
			s.commits[i] = s.repo.Git(tb, "rev-parse", version(cfg.Tags-2+i)+"~1")
		}
		s.repo.Git(tb, "gc", "--quiet") // as a server does from time to time
		size := s.repo.Git(tb, "count-objects", "-vH")
		s.server = gittest.Start(tb, gittest.Config{Root: root, Hosts: []string{privateHost}, Accounts: []gittest.Account{
			{Prefix: privateModule, User: privateUser, Password: privatePassword},
		}})
		s.server.SetFault("*", "*", func(x proxytest.Exchange) { proxytest.Delay(cfg.Delay)(x) })
		s.proxy = s.server.Proxy(tb).URL
		s.workload = fmt.Sprintf("a repository of %d commits and %d tags, packed %s, with %d MiB in each version that is always the same and %d MiB that was replaced",
			cfg.Commits, cfg.Tags, field(size, "size-pack:"), cfg.Tree, cfg.Old)
	})
	if err != nil {
		return s, err
	}
	s.upstream = fmt.Sprintf("git http-backend over HTTPS with a password on loopback, each request delayed by %s", cfg.Delay)
	return s, s.makeHome()
}

// privateHistory is that of a module with a tag every so many commits.
func privateHistory(cfg privateConfig) []gittest.Commit {
	commits := gittest.History(cfg.Commits)
	commits[0].Files["go.mod"] = "module " + privateModule + "\n\ngo 1.20\n"
	for i := range cfg.Tree {
		commits[0].Files[fmt.Sprintf("assets/a%d.bin", i)] = gittest.Random(1<<20, uint64(i))
	}
	const parts = 4 // of a MiB
	for i := range cfg.Old * parts {
		c := commits[i*cfg.Commits/(cfg.Old*parts)]
		c.Files[fmt.Sprintf("data/d%d.bin", i%parts)] = gittest.Random(1<<20/parts, uint64(1000+i))
	}
	for i := range cfg.Tags {
		c := &commits[cfg.Commits*(i+1)/cfg.Tags-1]
		c.Tags = append(c.Tags, version(i))
	}
	return commits
}

// version is the name of the i-th tag.
func version(i int) string { return fmt.Sprintf("v1.%d.0", i) }

// field returns what follows name in lines of "name value".
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(v)
		}
	}
	return "?"
}

// makeHome writes what git and the go command read in a home: the password,
// and, for those who do not pass on its environment, the authority.
func (s *site) makeHome() error {
	if err := os.Mkdir(s.home, 0o755); err != nil {
		return err
	}
	netrc := fmt.Sprintf("machine %s login %s password %s\n", privateHost, privateUser, privatePassword)
	if err := os.WriteFile(filepath.Join(s.home, ".netrc"), []byte(netrc), 0o600); err != nil {
		return err
	}
	config := fmt.Sprintf("[http]\n\tsslCAInfo = %s\n", s.server.CAFile)
	return os.WriteFile(filepath.Join(s.home, ".gitconfig"), []byte(config), 0o644)
}

// env makes git and the go command find and trust the git server.
func (s *site) env() []string {
	return []string{"HOME=" + s.home, "HTTPS_PROXY=" + s.proxy, "https_proxy=" + s.proxy, "NO_PROXY=", "no_proxy=",
		"SSL_CERT_FILE=" + s.server.CAFile, "GOPROXY=direct", "GOSUMDB=off", "GOTOOLCHAIN=local", "GOFLAGS=-modcacherw"}
}

// tagNext adds a version with one more commit; it is the newest.
func (s *site) tagNext() error {
	end, err := gittest.Run(s.dir, func(tb gittest.TB) {
		s.repo.Commit(tb, gittest.Commit{
			Files: map[string]string{"p0/next.go": fmt.Sprintf("package p0\n\nconst next = %d\n", s.tags)},
			Time:  time.Date(2025, 1, 1, 0, s.tags, 0, 0, time.UTC),
			Tags:  []string{version(s.tags)},
		})
	})
	end()
	s.tags++
	return err
}

// start starts a proxy with an empty directory that may read the repository.
func (s *site) start(ctx context.Context, bin binaries, name string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s.seq++
	dir := filepath.Join(s.dir, fmt.Sprintf("%03d-%s", s.seq, name))
	c := command{URL: "http://" + addr, Dir: dir, Env: append(s.env(), "GOPATH="+filepath.Join(dir, "gopath"))}
	cache := filepath.Join(dir, "cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	switch name {
	case "modgate":
		rules := filepath.Join(dir, "private.yaml")
		text := fmt.Sprintf("credentials:\n  - {match: %s, username: %s, password: %s}\n", privateHost, privateUser, privatePassword)
		if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
			return nil, err
		}
		c.Path = bin.Modgate
		c.Args = []string{"serve", "--listen=" + addr, "--admin-listen=127.0.0.1:0", "--upstream=off", "--cache-dir=" + cache,
			"--private=" + privateHost + "/*", "--direct-go=" + bin.Go, "--direct-file=" + rules, "--tls-trust=" + s.server.CAFile}
	case "goproxy":
		c.Path = bin.Goproxy
		c.Args = []string{"server", "--address=" + addr, "--cacher-dir=" + cache, "--temp-dir=" + dir, "--go-bin=" + bin.Go}
	case "athens":
		c.Path = bin.Athens
		vars := slices.DeleteFunc(s.env(), func(v string) bool { return strings.HasSuffix(v, "=") })
		c.Env = append(c.Env, "ATHENS_PORT="+addr, "ATHENS_STORAGE_TYPE=disk", "ATHENS_DISK_STORAGE_ROOT="+cache,
			"ATHENS_GO_BINARY_PATH="+bin.Go, "ATHENS_LOG_LEVEL=info", "ATHENS_GOGET_WORKERS=10",
			"ATHENS_GO_BINARY_ENV_VARS="+strings.Join(vars, ";"))
	default:
		return nil, fmt.Errorf("no proxy called %q that fetches from git", name)
	}
	return c.start(ctx)
}

// fetches returns how often objects were taken from the git server.
func (s *site) fetches() int { return s.server.Count(privateModule, gittest.Fetch) }

// askFor asks a proxy for a file of the module.
func askFor(ctx context.Context, proxy, file string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, proxy+"/"+privateModule+"/@v/"+file, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(req)
}
