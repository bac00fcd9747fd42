package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

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
	explainArgs(root)
	root.SetFlagErrorFunc(explainFlag)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && cmd.Name() == "doctor" {
		err = undoctored(err)
	}
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
		Version:       buildInfo().Version,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("modgate {{.Version}}\n")
	root.AddCommand(
		serveCommand(p),
		envCommand(p),
		warmCommand(p),
		cacheCommand(p),
		pinCommand(p),
		policyCommand(p),
		authCommand(p),
		auditCommand(p),
		configCommand(p),
		tlsCommand(p),
		caCommand(p),
		doctorCommand(p),
		versionCommand(p),
	)
	return root
}

// explainArgs makes cmd and those below it say what arguments they take, where
// these are wrong.
func explainArgs(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		explainArgs(c)
	}
	check := cmd.Args
	if check == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		switch {
		case err == nil:
			return nil
		case cmd.HasSubCommands():
			help := "modgate help" + strings.TrimPrefix(cmd.CommandPath(), "modgate") + " lists those that there are"
			if near := nearest(args[0], commandNames(cmd)); near != "" {
				help = "did you mean " + cmd.CommandPath() + " " + near + "? " + help
			}
			return fmt.Errorf("%w\n  → %s", err, help)
		case len(args) == 0 || check(cmd, append(args[:len(args):len(args)], "one more")) == nil:
			return fmt.Errorf("an argument is missing\n  → usage: %s", cmd.UseLine())
		}
		return fmt.Errorf("there is an argument too many: %q\n  → usage: %s", args[len(args)-1], cmd.UseLine())
	}
}

// commandNames returns the names of the commands below cmd.
func commandNames(cmd *cobra.Command) (names []string) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// explainFlag says what to do about a flag that cmd does not take.
func explainFlag(cmd *cobra.Command, err error) error {
	help := cmd.CommandPath() + " --help lists the flags"
	word, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return fmt.Errorf("%w\n  → %s", err, help)
	}
	for _, k := range keys() {
		if k.flag() == word && cmd.Flags().Lookup("config") != nil {
			return fmt.Errorf("%w, which is a setting that this command does not take as a flag\n  → give %s in the file of --config, or as %s in the environment", err, k.name, k.env())
		}
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z0-9-]+)`).FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
		names = append(names, m[1])
	}
	if near := nearest(word, names); near != "" {
		help = "did you mean --" + near + "? " + help
	}
	return fmt.Errorf("%w\n  → %s", err, help)
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

// addAllSettings is addSettings for all keys, of which help shows those named: so
// that the flags of a server can be repeated as they are.
func addAllSettings(cmd *cobra.Command, p *process, names ...string) func() (*settings, error) {
	settings := addSettings(cmd, p)
	for _, k := range keys() {
		cmd.Flags().Lookup(k.flag()).Hidden = !oneOf(k.name, names)
	}
	return settings
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
