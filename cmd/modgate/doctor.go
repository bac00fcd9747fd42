package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/module"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/proxy/upstream"
)

// exitStatus ends the process with a status of its own; everything is said.
type exitStatus int

func (e exitStatus) Error() string { return "reported" }

// cannotExamine is why doctor examines nothing, or cannot say what it has found.
// Status 1 is kept for what works.
type cannotExamine struct{ error }

func (e cannotExamine) Unwrap() error { return e.error }

// undoctored makes any error of doctor that is no outcome of a report one for
// status 2.
func undoctored(err error) error {
	var status exitStatus
	if errors.As(err, &status) {
		return err
	}
	return cannotExamine{err}
}

// statusOf returns the status that err ends the process with.
func statusOf(err error) int {
	var (
		status exitStatus
		cannot cannotExamine
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &cannot):
		return 2
	case errors.As(err, &status):
		return int(status)
	default:
		return 1
	}
}

func doctorCommand(p *process) *cobra.Command {
	var asJSON bool
	var bundle string
	cmd := &cobra.Command{
		Use:   "doctor [URL] [MODULE@VERSION] | doctor --server [PRIVATE-MODULE]",
		Short: "Find out why modules cannot be had, and what mends it",
		Long: `Doctor examines the way from this machine to a module proxy: settings of the go
command, name resolution, connection, certificates, clock, HTTP, the protocol,
the checksum database, speed. It says what was tried and seen, and the command
that mends it. Without a URL it takes the first proxy of GOPROXY.

With --server it examines the machine of a server instead, with the same
configuration file, environment and flags (it takes all of modgate serve):
configuration, files, space, programs, clock, upstreams, checksum database, hosts
of private modules, certificates, the CA. A private module that is named is looked
for as the server would.

For certificates by ACME, --probe answers a made-up challenge for a moment and
looks for it, and --staging orders from a CA for trials; both take back what they
have made. Without them it changes nothing. It runs the commands of GOAUTH as the
go command runs them. It prints no secret, and names no private module to a host
that the go command would not name it to.

The status is 0 if all is well, 1 if something is not as you may believe, and 2
if modules cannot be had, or the command line has a mistake. docs/doctor.md has an entry for each code.`,
		Args: cobra.MaximumNArgs(2),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the report as JSON.")
	cmd.Flags().StringVar(&bundle, "bundle", "", "Also write a zip archive for a ticket to this new file. It has no secrets, but names of hosts and of the module.")
	server := cmd.Flags().Bool("server", false, "Examine the machine of a server, and not the way to one.")
	settings := addAllSettings(cmd, p, "admin.listen", "tls.admin_clients")
	var r remote
	r.flags(cmd)
	var rehearsal rehearsal
	rehearsal.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *server {
			s, mistakes := settings()
			report, err := examineServer(cmd.Context(), p, s, mistakes, &r, rehearsal, args)
			if err != nil {
				return err
			}
			return p.report(report, asJSON, bundle)
		}
		if flag := onlyServers(cmd); flag != "" {
			return fmt.Errorf("--%s goes with --server\n  → modgate doctor --server --%s …, on the machine of the server", flag, flag)
		}
		c := doctorConfig(p)
		if err := doctorArgs(&c, args); err != nil {
			return err
		}
		d, err := doctor.New(c)
		if err != nil {
			return err
		}
		return p.report(d.Examine(cmd.Context()), asJSON, bundle)
	}
	return cmd
}

// onlyServers returns a flag that was given and is about a server, or "".
func onlyServers(cmd *cobra.Command) string {
	about := []string{"probe", "staging", "config", "admin", "cacert", "cert", "key"}
	for _, k := range keys() {
		about = append(about, k.flag())
	}
	i := slices.IndexFunc(about, cmd.Flags().Changed)
	if i < 0 {
		return ""
	}
	return about[i]
}

// doctorConfig is this machine as the doctor sees it.
func doctorConfig(p *process) doctor.Config {
	dialer := new(net.Dialer)
	c := doctor.Config{
		Environ: p.environ, OS: runtime.GOOS, Resolver: &net.Resolver{PreferGo: true}, Dial: dialer.DialContext,
		Now: time.Now, SystemRoots: x509.SystemCertPool, Run: upstream.RunProgram,
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" || builtWithCgo() {
		c.System = net.DefaultResolver
	}
	return c
}

// builtWithCgo reports whether this program can ask the C library.
func builtWithCgo() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "1"})
}

// doctorArgs reads the arguments: a URL, a module, or both in that order.
func doctorArgs(c *doctor.Config, args []string) error {
	for i, arg := range args {
		path, version, isModule := strings.Cut(arg, "@")
		isModule = isModule && !strings.Contains(arg, "://") // user@host is part of a URL
		switch {
		case isModule && i == len(args)-1:
			c.Module = module.Version{Path: path, Version: version}
		case !isModule && i == 0:
			c.URL = arg
		default:
			return errors.New("the URL of a proxy comes first, then a module with its version\n  → modgate doctor https://modgate.corp.example example.com/m@v1.2.3")
		}
	}
	return nil
}

// report prints a report and turns its outcome into the status.
func (p *process) report(r *doctor.Report, asJSON bool, bundle string) error {
	write := func() error { return r.WriteText(p.stdout, isTerminal(p.stdout)) }
	if asJSON {
		write = func() error { return r.WriteJSON(p.stdout) }
	}
	if err := write(); err != nil {
		return err
	}
	if bundle != "" {
		if err := writeBundle(r, bundle); err != nil {
			return fmt.Errorf("--bundle: %w\n  → name a new file in a directory that can be written", err)
		}
		fmt.Fprintf(p.stderr, "doctor: the archive for a ticket is %s\n", bundle)
	}
	if status := r.ExitStatus(); status != 0 {
		return exitStatus(status)
	}
	return nil
}

// writeBundle writes the archive to a file that is not there yet.
func writeBundle(r *doctor.Report, name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	b := buildInfo()
	about := fmt.Sprintf("modgate %s, built with %s, on %s/%s", b.Version, b.GoVersion, runtime.GOOS, runtime.GOARCH)
	return errors.Join(r.WriteBundle(f, about), f.Close())
}
