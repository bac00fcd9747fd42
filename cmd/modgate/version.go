package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what this binary was made from.
type build struct {
	Version   string            `json:"version"`
	Revision  string            `json:"revision,omitempty"`
	GoVersion string            `json:"go_version"`
	Platform  string            `json:"platform"`
	Modules   map[string]string `json:"modules,omitempty"`
	paths     []string          // of Modules, in the order of the build
}

func buildInfo() build {
	b := build{Version: "(devel)", GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Modules: map[string]string{}}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = cmp.Or(info.Main.Version, b.Version)
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value
		}
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		b.Modules[m.Path] = m.Version
		b.paths = append(b.paths, m.Path)
	}
	return b
}

func versionCommand(p *process) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, and what the binary was built from",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := buildInfo()
			if asJSON {
				return writeJSON(p.stdout, b)
			}
			fmt.Fprintf(p.stdout, "modgate %s %s %s", b.Version, b.GoVersion, b.Platform)
			if b.Revision != "" {
				fmt.Fprintf(p.stdout, " %s", b.Revision)
			}
			fmt.Fprintln(p.stdout)
			for _, path := range b.paths {
				fmt.Fprintf(p.stdout, "  %s %s\n", path, b.Modules[path])
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON.")
	return cmd
}
