package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/modgate/modgate/internal/conn"
	"github.com/modgate/modgate/tlsmgr"
)

func serveCommand(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve Go modules: the main job",
		Long: `Serve answers the GOPROXY protocol until it is told to end.

SIGTERM or SIGINT (Ctrl-C) drains: /readyz turns false, answers in progress are
finished, then the process ends with status 0. A second signal ends it at once.
SIGHUP looks now, and not within seconds, at the files that the configuration
names and that may change: direct.file, policy.file and auth.file. Any other change of the
configuration needs a restart.`,
		Args: cobra.NoArgs,
	}
	settings := addSettings(cmd, p)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := settings()
		if err != nil {
			return err
		}
		return serve(cmd.Context(), s, p.stderr)
	}
	return cmd
}

// serve runs the server until ctx ends and what was in progress is done.
func serve(ctx context.Context, s *settings, stderr io.Writer) error {
	log, sink := newLog(stderr, s.Log)
	logging, stopLogging := context.WithCancel(context.WithoutCancel(ctx))
	var logs sync.WaitGroup
	logs.Go(func() { sink.Run(logging) })
	defer func() { stopLogging(); logs.Wait() }()

	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)

	tuneGC(int64(s.Cache.Memory))
	v := &service{settings: s, log: log, sink: sink, health: new(health), hangup: hangup}
	if err := v.open(ctx); err != nil {
		return err
	}
	v.announce(stderr)
	v.warnOfPins(ctx)
	return v.run(ctx)
}

// tuneGC lets the collector run less often than Go's default, which is made for
// programs whose memory matters more than their time: a hit makes garbage of
// 2 KB, most of it net/http's, and at GOGC=100 a fifth of the processor goes into
// it. The memory limit keeps what that costs within what fetching needs beside
// the memory tier. GOGC and GOMEMLIMIT in the environment win.
func tuneGC(memoryTier int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryTier + 64<<20)
	}
}

// service is one run of serve.
type service struct {
	settings *settings
	log      *slog.Logger
	sink     *logSink
	health   *health
	hangup   <-chan os.Signal
	cut      bool // by drain: handlers may still use what app.close would close

	app         *app
	public      *http.Server
	publicAddr  *conn.Listener
	unserved    chan struct{} // closed when nobody accepts what comes to it any more
	admin       *admin
	private     *http.Server // of the admin listener; nil if that is off
	privateAddr *conn.Listener
	plain       *http.Server // of tls.http_listen; nil if that is off
	plainAddr   *conn.Listener

	certificates *tlsmgr.Manager // nil without TLS
}

// open builds everything and opens the listeners, so that whatever can be
// wrong with the configuration or the machine is told before the first request.
func (v *service) open(ctx context.Context) error {
	registry := newRegistry(v.health)
	warnOfStrangeDir(v.settings.Cache.Dir, v.log)
	app, err := wire(ctx, &v.settings.Config, registry, v.log)
	if err != nil {
		return err
	}
	v.app = app
	err = v.listen(ctx, registry)
	if err == nil {
		err = v.openTLS(ctx, registry)
	}
	if err != nil {
		return errors.Join(err, v.closeListeners(), app.close())
	}
	return nil
}

// listen opens the listeners, which nobody serves yet.
func (v *service) listen(ctx context.Context, registry *prometheus.Registry) (err error) {
	v.public = newServer(v.health.front(v.app.handler), v.log)
	if v.publicAddr, err = listen(ctx, "listen", v.settings.Listen); err != nil {
		return err
	}
	if v.settings.Admin.Listen == "" {
		return nil
	}
	v.admin = &admin{health: v.health, registry: registry, settings: v.settings, app: v.app, started: time.Now(), explain: v.app.server.Explain, reloads: v.app.reloads}
	v.private = newServer(v.admin.handler(), v.log)
	v.privateAddr, err = listen(ctx, "admin.listen", v.settings.Admin.Listen)
	return err
}

// warnOfPins says so where private modules are kept and no pattern names them any
// more: requests for them are passed on to the public.
func (v *service) warnOfPins(ctx context.Context) {
	if len(v.settings.Private) > 0 {
		return
	}
	kept, err := readKeptPrivate(ctx, v.settings.Cache.Dir, nil)
	if err != nil {
		v.log.Warn("it cannot be told whether private modules are kept here", "error", err)
	} else if n := len(kept.pinned); n > 0 {
		v.log.Warn("private names no pattern, and this cache has pins of private modules: their names are told to the upstream when somebody asks for them; set private", "modules", n)
	}
}

// closeListeners closes those that are open.
func (v *service) closeListeners() error {
	var errs []error
	for _, l := range []*conn.Listener{v.publicAddr, v.privateAddr, v.plainAddr} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// announce tells the person who has just started the server how to use it, and
// the log where it listens.
func (v *service) announce(w io.Writer) {
	s := v.settings
	address := s.clientAddress(v.publicAddr.Addr().String(), v.certificates)
	attrs := []any{"version", buildInfo().Version, "addr", v.publicAddr.Addr().String()}
	lines := [][2]string{
		{"address", address},
		{"use it", "go env -w GOPROXY=" + address},
		{"cache", s.Cache.Dir + ", " + limitText(s.Cache.MaxSize)},
		{"upstream", hideUserinfo(s.Upstream)},
		{"checked by", s.SumDB},
	}
	if s.SumDB == "off" {
		lines[4][1] = "nothing: sumdb is off, modules are served as upstream sends them"
	}
	if len(s.Private) > 0 {
		lines[1][1] += ", and what modgate env prints"
		lines = append(lines, [2]string{"private", s.Private.String()})
	}
	if v.privateAddr != nil {
		lines = append(lines, [2]string{"admin", v.adminAddress() + "/metrics"})
		attrs = append(attrs, "admin", v.privateAddr.Addr().String())
	}
	if v.plainAddr != nil {
		attrs = append(attrs, "http_listen", v.plainAddr.Addr().String())
	}
	if s.file != "" {
		lines = append(lines, [2]string{"settings", s.file})
		attrs = append(attrs, "config", s.file)
	}
	if s.Log.Format == "text" {
		var b strings.Builder
		fmt.Fprintf(&b, "modgate %s\n", buildInfo().Version)
		for _, l := range lines {
			fmt.Fprintf(&b, "  %-10s  %s\n", l[0], l[1])
		}
		io.WriteString(w, b.String())
	}
	v.log.Info("serving", attrs...)
	v.sink.Flush()
}

func limitText(size Size) string {
	if size == 0 {
		return "as much as the disk has"
	}
	return "at most " + size.String()
}

// run serves until ctx ends or a part fails, then drains.
func (v *service) run(ctx context.Context) error {
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, life := errgroup.WithContext(background)
	for _, part := range v.app.background {
		g.Go(func() error { return part(life) })
	}
	v.unserved = make(chan struct{})
	g.Go(func() error {
		defer close(v.unserved)
		return serveOn(v.public, v.publicAddr)
	})
	if v.private != nil {
		g.Go(func() error { return serveOn(v.private, v.privateAddr) })
	}
	if v.plain != nil {
		g.Go(func() error { return serveOn(v.plain, v.plainAddr) })
	}
	g.Go(func() error { return v.answerHangup(life) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-life.Done():
		}
		v.drain(life)
		end()
		return nil
	})
	err := g.Wait()
	if !v.cut {
		err = errors.Join(err, v.app.close())
	}
	v.log.Info("ended")
	return err
}

// drain ends the service without harm: it asks for no more requests, serves
// those that come until that is known, and waits for answers in progress. life
// ends early if a part has failed, and then nobody waits for the delay.
func (v *service) drain(life context.Context) {
	v.sink.Direct()
	v.health.draining.Store(true)
	cfg := v.settings.Drain
	v.log.Info("draining", "delay", time.Duration(cfg.Delay), "timeout", time.Duration(cfg.Timeout))
	select {
	case <-time.After(time.Duration(cfg.Delay)):
	case <-life.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(life), time.Duration(cfg.Timeout))
	defer cancel()
	v.closePublic(patience)
	if err := v.public.Shutdown(patience); err != nil {
		v.log.Warn("answers in progress were cut", "timeout", time.Duration(cfg.Timeout), "error", err)
		v.public.Close()
		v.cut = true
	}
	v.publicAddr.AwaitGone(patience)
	for _, s := range []*http.Server{v.private, v.plain} {
		if s != nil {
			s.Close()
		}
	}
}

// closePublic takes no more connections, and returns when those that have begun
// have brought their first request, which the go command would not repeat.
func (v *service) closePublic(ctx context.Context) {
	v.publicAddr.Quiesce(ctx)
	if err := v.publicAddr.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		v.log.Warn("the listener does not close", "error", err)
	}
	<-v.unserved
	v.publicAddr.AwaitRequests(ctx)
}

// answerHangup looks at files that may have changed when service managers send
// SIGHUP for "reload".
func (v *service) answerHangup(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-v.hangup:
			if !v.app.reloads.ask() {
				v.log.Warn("SIGHUP changes nothing: a new configuration needs a restart")
			}
		}
	}
}
