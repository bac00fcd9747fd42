package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// run executes the command line args.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := &cobra.Command{
		Use:           "modbench",
		Short:         "Measure Go module proxies with the real go command",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	command := "modbench " + strings.Join(args, " ")
	root.AddCommand(runCommand(command), compareCommand(command), privateCommand(command), upstreamCommand(), bareCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

func runCommand(command string) *cobra.Command {
	var cfg runConfig
	var out string
	c := &cobra.Command{
		Use:   "run --proxy URL",
		Short: "Measure one GOPROXY, whatever it is",
		Long: `Run downloads the workload through one GOPROXY with empty client caches, with a
complete go.sum and without go.sum, then asks for single files as fast as
answers come, and writes a Markdown table. The first download is cold only if
the proxy had nothing before.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return toFile(out, c.OutOrStdout(), func(w io.Writer) error {
				return runRun(c.Context(), cfg, command, w, c.ErrOrStderr())
			})
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.Proxy, "proxy", "", "GOPROXY to measure, one URL")
	f.StringVar(&cfg.SumDB, "sumdb", publicSumDB, "GOSUMDB of the clients that start without go.sum; off: leave them out")
	f.StringVar(&cfg.Mod, "mod", "", "go.mod of the workload (default: hugo v0.150.0)")
	f.StringVar(&cfg.Sum, "sum", "", "its complete go.sum")
	f.IntVar(&cfg.Rounds, "rounds", 3, "warm repeats")
	f.DurationVar(&cfg.Duration, "duration", 5*time.Second, "length of one measurement of hits; 0: leave them out")
	f.IntVar(&cfg.Conns, "connections", 32, "connections of the load generator")
	f.StringVar(&cfg.Load, "load", "auto", "load generator: wrk, builtin or auto (wrk if it is installed)")
	f.IntVar(&cfg.PID, "pid", 0, "process whose peak memory is reported")
	f.StringVar(&cfg.Dir, "dir", "", "cache directory of the proxy whose size is reported")
	f.StringVar(&cfg.Scratch, "scratch", "", "directory for the clients' caches (default: /dev/shm if it has room, else a temporary one)")
	f.StringVar(&out, "out", "", "write the report to this file instead of standard output")
	return c
}

func compareCommand(command string) *cobra.Command {
	var cfg compareConfig
	var out, into string
	c := &cobra.Command{
		Use:   "compare",
		Short: "Measure modgate beside its peers and a file server, in one run",
		Long: `Compare builds modgate and its peers, starts them on loopback with the same
upstream, and measures them in turn. Run it inside the checkout of modgate.

The upstream is the public mirror, or a recording of it: "record" asks the
mirror once for what it needs, keeps the answers in the work directory, and
serves them afterwards with --near-delay in front of each.

Rows: ` + strings.Join(rowNames(), ", ") + ".",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cfg.check(); err != nil {
				return err
			}
			write := func(w io.Writer) error { return runCompare(c.Context(), cfg, command, w, c.ErrOrStderr()) }
			if into != "" {
				return intoFile(into, beginReport, endReport, write)
			}
			return toFile(out, c.OutOrStdout(), write)
		},
	}
	f := c.Flags()
	f.StringSliceVar(&cfg.Only, "only", nil, "rows to measure (default: all)")
	f.StringSliceVar(&cfg.Peers, "peers", []string{"goproxy"}, "peers to measure: goproxy, athens (which takes minutes)")
	f.IntVar(&cfg.Rounds, "rounds", 3, "rounds of each row")
	f.StringVar(&cfg.Upstream, "upstream", "record", `"record", or the URL of a module proxy`)
	f.StringVar(&cfg.Origin, "origin", publicMirror, "what is recorded")
	f.StringVar(&cfg.SumDB, "sumdb", publicSumDB, "GOSUMDB of clients and proxies: a name, or name+key")
	f.DurationVar(&cfg.NearDelay, "near-delay", 2*time.Millisecond, "delay of each request to the recorded upstream")
	f.DurationVar(&cfg.FarDelay, "far-delay", 50*time.Millisecond, "delay of each request to the far upstream")
	f.Int64Var(&cfg.Rate, "rate", 16e6, "bytes per second of one body of the recorded upstream in the row ttfb")
	f.StringVar(&cfg.Load, "load", "auto", "load generator: wrk, builtin or auto (wrk if it is installed)")
	f.DurationVar(&cfg.Duration, "duration", 5*time.Second, "length of one measurement of hits")
	f.IntVar(&cfg.Conns, "connections", 32, "connections of the load generator")
	f.StringVar(&cfg.Work, "work", "", "directory kept between runs: programs, recorded answers (default: modbench in the user's cache directory)")
	f.StringVar(&cfg.Scratch, "scratch", "", "directory for the caches of this run (default: /dev/shm if it has room, else the work directory)")
	f.StringVar(&cfg.Modgate, "modgate", "", "a modgate binary to measure instead of building one")
	f.StringVar(&cfg.Mod, "mod", "", "go.mod of the workload (default: hugo v0.150.0)")
	f.StringVar(&cfg.Sum, "sum", "", "its complete go.sum")
	f.StringVar(&out, "out", "", "write the report to this file instead of standard output")
	f.StringVar(&into, "into", "", "put the report into this file, between its lines "+beginReport+" and "+endReport)
	return c
}

// check completes the configuration and reports all mistakes at once.
func (c *compareConfig) check() error {
	var errs []error
	for _, p := range c.Peers {
		if p != "goproxy" && p != "athens" {
			errs = append(errs, fmt.Errorf("--peers: no peer %q; there are goproxy and athens", p))
		}
	}
	if c.Rounds < 1 {
		errs = append(errs, errors.New("--rounds: at least 1"))
	}
	if !slices.Contains([]string{"auto", "wrk", "builtin"}, c.Load) {
		errs = append(errs, fmt.Errorf("--load: %q is none of auto, wrk, builtin", c.Load))
	}
	if c.Conns < 1 || c.Duration < time.Second {
		errs = append(errs, errors.New("--connections: at least 1; --duration: at least 1s"))
	}
	if (c.Mod == "") != (c.Sum == "") {
		errs = append(errs, errors.New("--mod and --sum go together: most rows need a complete go.sum"))
	}
	if _, err := selectRows(c.Only); err != nil {
		errs = append(errs, fmt.Errorf("--only: %w", err))
	}
	return errors.Join(append(errs, places(&c.Work, &c.Scratch, &c.Modgate))...)
}

// places completes the work directory, which is made, and the one for what is
// forgotten after the run, and makes all names absolute: servers run elsewhere.
func places(work, scratch *string, files ...*string) (err error) {
	if *work == "" {
		if *work, err = cacheRoot(); err != nil {
			return err
		}
	}
	if *scratch == "" {
		*scratch = scratchRoot(*work)
	}
	for _, p := range append(files, work, scratch) {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	return os.MkdirAll(*work, 0o755)
}

func rowNames() []string {
	var names []string
	for _, r := range allRows() {
		names = append(names, r.name)
	}
	return names
}

func upstreamCommand() *cobra.Command {
	var addr, origin, record string
	var delay time.Duration
	var rate int64
	c := &cobra.Command{
		Use:   "upstream",
		Short: "Serve the upstream of the comparisons: delayed, bounded, recorded",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			u, err := parseOrigin(origin)
			if err != nil {
				return err
			}
			source := newForward(u)
			if record != "" {
				rec, err := newRecorder(u, record)
				if err != nil {
					return err
				}
				defer rec.Close()
				source = rec
			}
			l, err := listen(c.Context(), addr, newRelay(source, delay, rate))
			if err != nil {
				return err
			}
			slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)).Info("serving", "url", l.URL, "origin", origin, "delay", delay)
			<-c.Context().Done()
			return l.Close()
		},
	}
	f := c.Flags()
	f.StringVar(&addr, "listen", "127.0.0.1:8090", "address")
	f.StringVar(&origin, "origin", publicMirror, "module proxy that is passed on")
	f.StringVar(&record, "record", "", "keep every answer in this directory and ask the origin only once")
	f.DurationVar(&delay, "delay", 0, "hold every request back for so long")
	f.Int64Var(&rate, "rate", 0, "bytes per second of one body; 0: unbounded")
	return c
}
