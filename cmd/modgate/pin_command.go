package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/mod/module"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/sumdb"
)

func pinCommand(p *process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pin",
		Short: "Look at what private modules were at first, and accept that one has changed",
		Long: `No checksum database knows private modules. So the hashes of a version are
recorded when it is first fetched, and another content is refused later: its
tag was moved, or somebody else answers for the repository.

The commands below work on the cache directory, also while a server uses it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(pinShowCommand(p), pinAcceptCommand(p))
	return cmd
}

func pinShowCommand(p *process) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show MODULE@VERSION",
		Short: "Print the recorded hashes of a version, and what was refused",
		Args:  cobra.ExactArgs(1),
	}
	settings := addSettings(cmd, p, "cache.dir")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m, err := parseVersion(args[0])
		if err != nil {
			return err
		}
		return withPins(cmd.Context(), settings, func(pins *sumdb.Pins, _ cache.Store) error {
			pin, err := pins.Pin(cmd.Context(), m)
			switch {
			case err != nil:
				return err
			case asJSON:
				return writeJSON(p.stdout, pin)
			}
			printPin(p.stdout, m, pin)
			return nil
		})
	}
	return cmd
}

func pinAcceptCommand(p *process) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "accept MODULE@VERSION [HASH...]",
		Short: "Make what was refused of a version its content from now on",
		Long: `Accept takes the content that was refused last for the right one, and nothing
but the given hashes if there are any (the refusal shows them). What is cached
of the version is removed. Who did it, when and why is kept with the pin.

  modgate pin accept git.corp.example/team/tool@v1.2.3 --reason "tag moved to remove a secret, ticket 4711"`,
		Args: cobra.MinimumNArgs(1),
	}
	settings := addSettings(cmd, p, "cache.dir")
	cmd.Flags().StringVar(&reason, "reason", "", "Why the change is right. Required.")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m, err := parseVersion(args[0])
		if err != nil {
			return err
		}
		if reason == "" {
			return errors.New("--reason is required: it is what the next person reads who wonders about the change")
		}
		return withPins(cmd.Context(), settings, func(pins *sumdb.Pins, store cache.Store) error {
			changes, err := pins.Accept(cmd.Context(), m, args[1:], whoami(p.environ), reason)
			if err != nil {
				return err
			}
			for _, c := range changes {
				fmt.Fprintf(p.stdout, "%s accepted: %s of %s was %s, is %s, by %s: %s\n", c.At.Format(time.RFC3339), c.Kind, m, c.Was, c.Is, c.By, c.Reason)
			}
			return forgetVersion(cmd.Context(), store, m)
		})
	}
	return cmd
}

// withPins opens the pins of the cache directory and of the fleet, and the
// store of both.
func withPins(ctx context.Context, load func() (*settings, error), do func(*sumdb.Pins, cache.Store) error) error {
	s, d, err := openDirectory(load)
	if err != nil {
		return err
	}
	defer d.Close()
	files, err := openPins(s.Cache.Dir)
	if err != nil {
		return err
	}
	defer files.Close()
	a := new(app)
	log := slog.New(slog.DiscardHandler)
	store, _, err := a.openShared(ctx, &s.Config, stores{d, d}, prometheus.NewRegistry(), log)
	defer a.close()
	if err != nil {
		return err
	}
	var storage sumdb.PinStorage = files
	if a.bucket != nil {
		storage = newSharedPins(files, a.bucket, log)
	}
	pins, err := sumdb.NewPins(sumdb.PinsConfig{Storage: storage})
	if err != nil {
		return err
	}
	err = do(pins, store)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w\n  → that is what the cache at %s says; name another with --cache-dir, or the server's configuration with --config", err, s.Cache.Dir)
	}
	return err
}

// parseVersion reads MODULE@VERSION.
func parseVersion(arg string) (module.Version, error) {
	path, version, _ := strings.Cut(arg, "@")
	if err := module.Check(path, version); err != nil {
		return module.Version{}, fmt.Errorf("%w: write MODULE@VERSION with a whole version: git.corp.example/team/tool@v1.2.3", err)
	}
	return module.Version{Path: path, Version: version}, nil
}

// forgetVersion removes the files of m, which are those of the old content.
func forgetVersion(ctx context.Context, store cache.Store, m module.Version) error {
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return err
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return err
	}
	var errs []error
	for _, kind := range [...]string{"info", "mod", "zip"} {
		errs = append(errs, store.Delete(ctx, path+"/@v/"+version+"."+kind))
	}
	return errors.Join(errs...)
}

// whoami names the person in front of the terminal, also behind sudo.
func whoami(environ []string) string {
	env := newEnvironment(environ)
	if name := env["SUDO_USER"]; name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

func printPin(w io.Writer, m module.Version, pin *sumdb.Pin) {
	fmt.Fprintln(w, m)
	kinds := make([]string, 0, len(pin.Files))
	for kind := range pin.Files {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		f := pin.Files[kind]
		fmt.Fprintf(w, "  %-4s %s since %s\n", kind, f.H1, f.Since.Format(time.RFC3339))
		if f.Refused != "" {
			fmt.Fprintf(w, "       %s refused at %s\n", f.Refused, f.RefusedAt.Format(time.RFC3339))
		}
	}
	for _, a := range pin.Accepted {
		fmt.Fprintf(w, "  %s by %s: %s is %s, was %s: %s\n", a.At.Format(time.RFC3339), a.By, a.Kind, a.Is, a.Was, a.Reason)
	}
}
