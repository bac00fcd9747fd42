package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// errReported ends a command whose report has already said what is wrong.
var errReported = errors.New("reported")

// process is what the commands see of the process that they run in.
type process struct {
	environ        []string
	stdout, stderr io.Writer
}

// run runs the command that args name and returns its error, which it has
// written to stderr.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	root := newRoot(&process{environ, stdout, stderr})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var status exitStatus
	if err != nil && !errors.Is(err, errReported) && !errors.As(err, &status) {
		fmt.Fprintf(stderr, "modgate: %v\n", err)
	}
	return err
}

func newRoot(p *process) *cobra.Command {
	root := &cobra.Command{
		Use:   "modgate",
		Short: "A caching Go module proxy that proves what it serves",
		Long: `modgate is a caching Go module proxy for a company, a team or a CI fleet.

Start it, and paste the line that it prints:

  modgate serve`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		serveCommand(p),
		envCommand(p),
		warmCommand(p),
		cacheCommand(p),
		pinCommand(p),
		policyCommand(p),
		auditCommand(p),
		configCommand(p),
		tlsCommand(p),
		caCommand(p),
		doctorCommand(p),
		versionCommand(p),
	)
	return root
}

// addSettings gives cmd the flag --config and those of the named keys (all
// keys, if none is named). The returned function loads the settings; it is
// called when the command runs. Warnings go to stderr.
func addSettings(cmd *cobra.Command, p *process, names ...string) func() (*settings, error) {
	given := map[string]string{}
	for _, k := range keys() {
		if len(names) == 0 || oneOf(k.name, names) {
			cmd.Flags().Var(rawFlag{k, given}, k.flag(), k.doc)
		}
	}
	file := cmd.Flags().String("config", "", "The configuration file; off reads none. Default: $MODGATE_CONFIG, else modgate/modgate.yaml in the user's configuration directory, if it exists.")
	cmd.Flags().SortFlags = false
	return func() (*settings, error) {
		s, err := load(layers{flags: given, environ: p.environ, file: *file})
		for _, w := range s.warnings {
			fmt.Fprintf(p.stderr, "modgate: warning: %s\n", w)
		}
		return s, err
	}
}

// rawFlag keeps the text of a flag, so that all mistakes can be told at once.
type rawFlag struct {
	key   key
	given map[string]string
}

// Set keeps s.
func (f rawFlag) Set(s string) error {
	f.given[f.key.name] = s
	return nil
}

// String returns what help shows as the default.
func (f rawFlag) String() string { return f.key.def }

// Type names the type of the value.
func (f rawFlag) Type() string { return f.key.kind() }
