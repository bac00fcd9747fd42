package upstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goproxy/goproxy"
)

// run is what the go command is started for.
type run struct {
	what  string // for metrics
	place *place
	refs  *promise // of the repository, which git is told
	guess *refs    // if set, what refs will probably be as to the version
	only  string   // if set, the version that matters: git hears of no other tags
	deep  bool     // the history is needed, not only a commit
	zip   bool     // a query makes the zip, too
	// fetched, if set, is called when objects have come, while the go command
	// goes on with them.
	fetched func()
}

// goRun runs the go command in the module cache of w. If the kept repository
// proves useless, it is fetched anew, once; but first with newer refs, if there
// are any: what the old ones name may be gone from the host since.
func (d *Direct) goRun(ctx context.Context, w *work, r run, do func(context.Context, *goproxy.GoFetcher) error) error {
	if err := d.slots.take(ctx); err != nil {
		return explained(err, "")
	}
	defer d.slots.give()
	useless := func(err error) bool {
		var e *DirectError
		return errors.As(err, &e) && reason(e.Reason) == spoilt
	}
	err := d.goOnce(ctx, w, r, do)
	if useless(err) {
		if newer := d.newerRefs(ctx, r); newer != nil {
			r.refs = promised(newer)
			err = d.goOnce(ctx, w, r, do)
		}
	}
	if useless(err) && d.abandon(r.place) {
		err = d.goOnce(ctx, w, r, do)
	}
	return err
}

// newerRefs returns the refs of the repository as they are now, nil if they
// are as r has them or cannot be had.
func (d *Direct) newerRefs(ctx context.Context, r run) *refs {
	old, err := r.refs.get(ctx)
	if err != nil || r.place.hg {
		return nil
	}
	now, err := d.repository(r.place.url).refs(ctx, time.Now())
	if err != nil || now.digest == old.digest {
		return nil
	}
	d.forgetMoved(ctx, r.place, now)
	return now
}

func (d *Direct) goOnce(ctx context.Context, w *work, r run, do func(context.Context, *goproxy.GoFetcher) error) error {
	defer d.metrics.run(r.what)()
	ctx, cancel := context.WithTimeoutCause(ctx, d.cfg.Timeout, tooSlow("the go command took longer than "+d.cfg.Timeout.String()))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	defer r.refs.onError(giveUp)()
	repo := d.repository(r.place.url)
	repo.using.RLock()
	defer repo.using.RUnlock()
	d.touch(r.place)
	j := &job{place: r.place, repo: repo, refs: r.refs, only: r.only, ctx: ctx, most: d.cfg.MaxFetch, fetched: r.fetched}
	defer d.jobs.start(j)()

	pidFile := filepath.Join(w.dir, "pid")
	defer os.Remove(pidFile)
	pid := func() int {
		data, _ := os.ReadFile(pidFile) // absent if it was never started
		n, _ := strconv.Atoi(string(data))
		return n
	}
	stop := context.AfterFunc(ctx, func() {
		if n := pid(); n > 1 {
			killGroup(n)
		}
	})
	env := d.childEnv(w, j, pidFile)
	if r.zip {
		env = append(env, helperEnv+"_ZIP=1")
	}
	if r.deep {
		d.deepen(ctx, r.place, env)
	}
	err := do(ctx, &goproxy.GoFetcher{Env: env, GoBin: d.cfg.Self, TempDir: filepath.Join(w.dir, "tmp")})
	stop()
	if n := pid(); n > 1 {
		buryGroup(n)
	}
	_ = os.Remove(filepath.Join(d.kept(r.place), "FETCH_HEAD")) // it names the guard
	if j.got.Load() > 0 {
		d.weigh(r.place)
	}
	if ctx.Err() != nil {
		d.mendPlace(r.place)
		return explained(context.Cause(ctx), r.place.url.Host)
	}
	if err == nil && r.place.hg && r.what == runList && j.failed() != nil {
		// The go command lists what is kept when Mercurial cannot reach the host.
		return j.failed()
	}
	if err == nil {
		return nil
	}
	return d.judge(err, j)
}

// judge says what it means that the go command failed.
func (d *Direct) judge(err error, j *job) error {
	d.cfg.Logger.Debug("go command", "root", j.place.root, "error", oneLine(err.Error(), 4000))
	if e := j.failed(); e != nil {
		j.repo.forgetCapabilities()
		return e
	}
	text := err.Error()
	if childFailed.MatchString(text) {
		return troubled(spoilt, err, "the repository kept for it is of no use: the server's log says why")
	}
	if m := needsGo.FindStringSubmatch(text); m != nil {
		return troubled(oldGo, err, "its go.mod wants go %s, and the go command of this server is older: update that", m[1])
	}
	for _, v := range verdicts {
		if strings.Contains(text, v.says) {
			return troubled(v.reason, err, "%s", v.text)
		}
	}
	return troubled(broken, err, "the go command could not fetch it: the server's log says why")
}

// childFailed finds that git failed on what is kept, or that something is
// missing there which the host has. That must not be taken for absence.
var childFailed = regexp.MustCompile(`exit status \d|signal: |fatal: |unknown revision refs/`)

// needsGo finds the version that a module is made for.
var needsGo = regexp.MustCompile(`requires go >= (\d[\w.]*)`)

// verdicts are what the go command says, and what it means for a client. What
// is not in the list is trouble: to take it for absence could hide it.
var verdicts = []struct {
	says   string
	reason reason
	text   string
}{
	{"unknown revision", unknownVersion, "unknown version: the repository has no such tag, branch or commit"},
	{"no matching versions for query", unknownVersion, "the repository has no such version"},
	{"ambiguous revision", unknownVersion, "several commits begin like this"},
	{"no commits", unknownVersion, "the repository has no commits"},
	{"invalid pseudo-version", unknownVersion, "not the pseudo-version of a commit in the repository"},
	{"disallowed version string", unknownVersion, "not a version"},
	{"invalid version: ", unknownVersion, "not a version of this module: its go.mod, its path and its tags do not go together"},
	{"go.mod has", notModule, "the go.mod there names another module path"},
	{"missing go.mod", notModule, "no go.mod there"},
	{"module source tree too large", tooBig, "the module is larger than 500 MiB, the limit of the go command"},
	{"is missing module path", notModule, "the go.mod there has no module line"},
	{"both have", notModule, "two go.mod there name the same major version, one in a directory for it"},
	{"too large", tooBig, "the module has a file that is larger than the go command allows"},
	{"create zip", broken, "it cannot be packed: names of its files differ by case alone, or have characters that are not allowed (https://go.dev/ref/mod#zip-path-size-constraints)"},
}

// childEnv is everything that go and git know of the world. Both find no
// configuration but this, and their only way out is the guard.
func (d *Direct) childEnv(w *work, j *job, pidFile string) []string {
	f, g := d.files, d.guard
	proxy := fmt.Sprintf("http://modgate:%s@%s", j.token, g.lookups.Addr())
	env := []string{
		"PATH=" + d.path(),
		"HOME=" + f.home, "XDG_CONFIG_HOME=" + filepath.Join(f.home, ".config"), "XDG_CACHE_HOME=" + filepath.Join(f.home, ".cache"),
		"TMPDIR=" + filepath.Join(w.dir, "tmp"), "LC_ALL=C", "TZ=UTC",

		"GOENV=off", "GOFLAGS=-modcacherw", "GOPROXY=direct", "GOSUMDB=off", "GOTOOLCHAIN=local", "GOVCS=*:" + j.place.vcs(), "GOAUTH=off", "GOWORK=off",
		"GOPATH=" + filepath.Join(w.dir, "gopath"), "GOMODCACHE=" + w.dir, "GOCACHE=" + filepath.Join(f.home, ".cache", "go-build"),
		"HTTP_PROXY=" + proxy, "HTTPS_PROXY=" + proxy, "NO_PROXY=",

		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "GCM_INTERACTIVE=never",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_ATTR_NOSYSTEM=1",
		// The path is empty: some builds of git would read all authorities of
		// the system for each connection.
		"GIT_SSL_CAINFO=" + g.caFile, "GIT_SSL_CAPATH=" + f.empty, "GIT_TEMPLATE_DIR=" + f.empty, "GIT_SSH_VARIANT=ssh", "GIT_SSH_COMMAND=" + shellQuote(d.cfg.Self),
		// A server that sends a byte an hour is cut by the guard; this is
		// for a guard that is gone.
		"GIT_HTTP_LOW_SPEED_LIMIT=1", "GIT_HTTP_LOW_SPEED_TIME=" + strconv.Itoa(int(2*d.cfg.NoProgress.Seconds())+60),

		helperEnv + "=" + helperGo, helperEnv + "_GO=" + d.goCmd, helperEnv + "_PID=" + pidFile,
	}
	if j.place.hg {
		env = append(env, mercurialEnv(proxy, filepath.Join(f.root, "hgrc"))...)
	}
	if !j.place.static {
		// The go command asks over plain HTTP what its proxy refuses over
		// HTTPS; with this, the guard answers without a certificate.
		env = append(env, "GOINSECURE="+j.place.root)
	}
	to := fmt.Sprintf("https://%s/repository", g.git.Addr())
	instead, protocols := to, "https:ssh"
	switch {
	case j.repo.capabilities() != nil:
		instead, protocols = fmt.Sprintf("git://%s/%s", g.daemon.listener.Addr(), j.token), "https:ssh:git"
	case j.place.url.Scheme == "ssh":
		instead = j.place.url.String()
	}
	settings := [][2]string{
		{"url." + instead + ".insteadOf", j.place.seen},
		{"url.git://" + g.daemon.listener.Addr().String() + "/none/.insteadOf", "git://"}, // no other way out
		// Whatever else git should try over HTTPS ends at the guard, too.
		{"http.proxy", "http://" + g.lookups.Addr().String()},
		{"http." + to + ".proxy", ""},
		{"http." + to + ".extraHeader", tokenHeader + ": " + j.token},
		{"http.followRedirects", "false"},
		{"http.version", "HTTP/1.1"},
		{"http.schannelUseSSLCAInfo", "true"},
		{"core.hooksPath", os.DevNull},
		{"core.askPass", ""},
		{"credential.helper", ""},
		{"protocol.file.allow", "never"},
		{"protocol.ext.allow", "never"},
		{"gc.auto", "0"}, // a child that outlives git
		{"maintenance.auto", "false"},
		// What is kept can be fetched again. To wait for the disk at each fetch
		// costs more than that, when a power failure has spoilt it.
		{"core.fsync", "none"},
		// One pack instead of a file for each object.
		{"transfer.unpackLimit", "1"},
		{"submodule.recurse", "false"},
		{"safe.directory", "*"},
	}
	env = append(env, "GIT_ALLOW_PROTOCOL="+protocols, "GIT_CONFIG_COUNT="+strconv.Itoa(len(settings)))
	for i, s := range settings {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s[1]))
	}
	return env
}

// path is where children find git, and git its own programs.
func (d *Direct) path() string {
	dirs := []string{filepath.Dir(d.gitCmd), filepath.Dir(d.goCmd), "/usr/local/bin", "/usr/bin", "/bin"}
	return strings.Join(dirs, string(os.PathListSeparator))
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
