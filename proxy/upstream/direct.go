package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"
)

// DirectConfig says which modules come from their repositories and how those
// are reached. The zero value of each field but Dir, Private and Self means its
// default.
type DirectConfig struct {
	// Dir is where repositories are kept between fetches, and work is done.
	// It belongs to modgate alone; several processes may share it.
	Dir string
	// Private are the patterns (as in GOPRIVATE) of the modules that may be
	// fetched. Everything else is refused before a process starts or a name
	// is resolved.
	Private string
	// Self is the executable that calls Helper first: it starts the go
	// command in a process group of its own, and is git's ssh.
	Self string
	// Go is the go command. Default: "go", as found in PATH.
	Go string
	// Slots bounds how many go commands, and visits for what nobody has asked
	// for, run at once. Such visits give way. Default: twice the number of
	// CPUs, but at least 4.
	Slots int
	// NoProgress is how long a repository may go without sending a byte.
	// Default: 30 s.
	NoProgress time.Duration
	// Timeout bounds one run of the go command. Default: 10 min.
	Timeout time.Duration
	// MaxFetch bounds what one run may bring over the network, in bytes.
	// Default: 500 MiB. The zip of a module is bounded by the go command,
	// likewise to 500 MiB.
	MaxFetch int64
	// RefsTTL is how long the tags and branches of a repository answer for
	// all of its modules before they are asked for again. Before something
	// is said to be absent they always are. Default: 5 s.
	RefsTTL time.Duration
	// Keep is how long a repository is kept that no module is fetched from.
	// Default: 30 days.
	Keep time.Duration
	// MaxAhead bounds what one visit to a repository may bring that nobody has
	// asked for: commits of versions that follow one that was fetched, in
	// bytes. Default: 64 MiB; negative: no such visits.
	MaxAhead int64
	// MaxKept bounds what all kept repositories take, in bytes. Those that
	// were not used for longest go first, none that is in use. Default: 10 GiB.
	MaxKept int64
	// Trust are the authorities that may sign the certificates of hosts.
	// Default: those of the system.
	Trust *x509.CertPool
	// Proxy chooses the HTTP proxy for a request. Default:
	// http.ProxyFromEnvironment. A host that is reached through a proxy is
	// resolved by it, so its addresses cannot be judged here: only hosts that
	// the configuration names, and large public ones, are reached so.
	Proxy func(*http.Request) (*url.URL, error)
	// Lookup resolves the name of a host. Default: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial opens a connection to an address that was judged, or to a proxy.
	// Default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// LookupEnv resolves secrets of the form "env:NAME". Default: none is
	// set.
	LookupEnv func(name string) (string, bool)
	// Logger gets a line when a child process failed. Default: none.
	Logger *slog.Logger
	// Rules are repositories, credentials and networks at the start.
	Rules Rules
}

// connectTimeout bounds a TCP connection, and once more its handshake.
const connectTimeout = 10 * time.Second

// Direct fetches modules from their repositories with the go command, which
// knows what a version is. Neither go nor git reaches the network by itself:
// both talk to a guard on loopback that knows what they were started for, and
// that alone has the credentials, checks addresses and certificates, and
// counts bytes.
type Direct struct {
	cfg     DirectConfig
	goCmd   string
	gitCmd  string
	rules   atomic.Pointer[rules]
	plain   *http.Transport // to hosts, with their addresses judged
	proxied *http.Transport // to hosts by way of a proxy
	ssh     *sshPool
	metrics *directMetrics
	slots   slots
	jobs    jobs
	room    room

	ready chan struct{}   // closed when Run has set up what is below
	life  context.Context // ends with Run
	guard *guard
	files *workFiles
	wg    sync.WaitGroup // operations

	mu    sync.Mutex // guards what is below
	over  bool       // Run has ended: no operation may begin
	repos map[string]*repository
	works map[module.Version]*work
	found map[string]found
	memo  map[string]remembered
	// renewed says, by module path, since when answers must hold
	renewed map[string]time.Time
}

// NewDirect checks the configuration and reports all mistakes at once. It
// creates Dir, but starts nothing and connects to nothing: Run does.
func NewDirect(cfg DirectConfig) (*Direct, error) {
	d := &Direct{
		cfg:     cfg.withDefaults(),
		metrics: newDirectMetrics(),
		ready:   make(chan struct{}),
		repos:   make(map[string]*repository),
		works:   make(map[module.Version]*work),
		found:   make(map[string]found),
		renewed: make(map[string]time.Time),
		memo:    make(map[string]remembered),
		jobs:    jobs{byToken: make(map[string]*job)},
		room:    room{sizes: make(map[string]int64)},
	}
	d.slots = newSlots(max(d.cfg.Slots, 1))
	var mistakes []error
	mistake := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	if !filepath.IsAbs(cfg.Dir) {
		mistake("directory %q: want an absolute path", cfg.Dir)
	} else if err := os.MkdirAll(filepath.Join(cfg.Dir, "vcs"), 0o700); err != nil {
		mistake("directory: %w", err)
	}
	if !filepath.IsAbs(cfg.Self) {
		mistake("own executable %q: want an absolute path", cfg.Self)
	}
	if strings.Trim(cfg.Private, ", ") == "" {
		mistake("no private patterns: nothing could be fetched")
	}
	var err error
	if d.goCmd, err = exec.LookPath(d.cfg.Go); err != nil {
		mistake("private modules need the go command: %w", err)
	}
	if d.gitCmd, err = exec.LookPath("git"); err != nil {
		mistake("private modules need git: %w", err)
	}
	for name, v := range map[string]int64{
		"slots": int64(cfg.Slots), "no-progress timeout": int64(cfg.NoProgress), "timeout": int64(cfg.Timeout),
		"largest fetch": cfg.MaxFetch, "largest size of kept repositories": cfg.MaxKept, "time that refs are shared": int64(cfg.RefsTTL), "time that repositories are kept": int64(cfg.Keep),
	} {
		if v < 0 {
			mistake("%s: must not be negative", name)
		}
	}
	if err := d.SetRules(cfg.Rules); err != nil {
		mistakes = append(mistakes, err)
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, fmt.Errorf("private modules: %w", err)
	}
	d.plain, d.proxied = d.newTransports()
	d.ssh = newSSHPool(d)
	return d, nil
}

func (cfg DirectConfig) withDefaults() DirectConfig {
	if cfg.Go == "" {
		cfg.Go = "go"
	}
	if cfg.Slots == 0 {
		cfg.Slots = max(4, 2*runtime.GOMAXPROCS(0))
	}
	if cfg.NoProgress == 0 {
		cfg.NoProgress = 30 * time.Second
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Minute
	}
	if cfg.MaxFetch == 0 {
		cfg.MaxFetch = 500 << 20
	}
	if cfg.MaxAhead == 0 {
		cfg.MaxAhead = 64 << 20
	}
	if cfg.MaxKept == 0 {
		cfg.MaxKept = 10 << 30
	}
	if cfg.Keep == 0 {
		cfg.Keep = 30 * 24 * time.Hour
	}
	if cfg.RefsTTL == 0 {
		cfg.RefsTTL = 5 * time.Second
	}
	if cfg.Proxy == nil {
		cfg.Proxy = http.ProxyFromEnvironment
	}
	if cfg.Lookup == nil {
		cfg.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.LookupEnv == nil {
		cfg.LookupEnv = func(string) (string, bool) { return "", false }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}

// SetRules replaces repositories, credentials and networks for everything
// that begins from now on. If there is a mistake, all are reported and nothing
// changes.
func (d *Direct) SetRules(r Rules) error {
	checked, err := r.check(d.cfg.Private)
	if err := errors.Join(err, r.missing()); err != nil {
		return err
	}
	d.rules.Store(checked)
	if d.plain != nil {
		// A connection that was opened under other rules must not serve the new.
		d.plain.CloseIdleConnections()
		d.ssh.dropIdle(time.Now())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.found)
	clear(d.repos)
	return nil
}

// current returns the rules in force.
func (d *Direct) current() *rules { return d.rules.Load() }

// Run lets the other methods work until ctx ends. Then it kills what they
// started, waits for them, and returns nil. Until it runs, they wait.
func (d *Direct) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	files, err := openWorkFiles(ctx, d.cfg.Dir, d.cfg.Logger)
	if err != nil {
		return fmt.Errorf("private modules: %w", err)
	}
	defer files.close()
	g, err := d.openGuard(ctx, files)
	if err != nil {
		return fmt.Errorf("private modules: %w", err)
	}
	defer g.close()
	d.files, d.guard, d.life = files, g, ctx
	close(d.ready)
	d.sweep(ctx) // returns when ctx ends
	d.mu.Lock()
	d.over = true
	d.mu.Unlock()
	d.wg.Wait()
	d.plain.CloseIdleConnections()
	d.proxied.CloseIdleConnections()
	d.ssh.dropIdle(time.Now())
	return nil
}

// sweep removes the work directories of versions, and closes connections, that
// nobody used for a while.
func (d *Direct) sweep(ctx context.Context) {
	tick := time.NewTicker(workIdle / 2)
	defer tick.Stop()
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	d.evict(time.Now().Add(-d.cfg.Keep))
	d.makeRoom()
	for {
		select {
		case <-ctx.Done():
			return
		case <-day.C:
			d.evict(time.Now().Add(-d.cfg.Keep))
			d.makeRoom()
		case <-tick.C:
			d.dropIdle(time.Now().Add(-workIdle))
			d.ssh.dropIdle(time.Now().Add(-sshIdle))
		}
	}
}

// begin lets an operation in, once Run is ready. Its context ends with the
// caller's or with Run.
func (d *Direct) begin(ctx context.Context) (context.Context, func(), error) {
	select {
	case <-d.ready:
	case <-ctx.Done():
		return nil, nil, explained(context.Cause(ctx), "")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over || d.life.Err() != nil {
		return nil, nil, troubled(stopped, nil, "the server is ending")
	}
	d.wg.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(d.life, func() { cancel(troubled(stopped, nil, "the server is ending")) })
	return ctx, func() {
		stop()
		cancel(nil)
		d.wg.Done()
	}, nil
}
