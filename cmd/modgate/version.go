package main

import (
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
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	b := build{GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Modules: map[string]string{}}
	b.Version, b.Revision = versionOf(info)
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		b.Modules[m.Path] = m.Version
		b.paths = append(b.paths, m.Path)
	}
	return b
}

// versionOf returns the version that info names, and the revision in the
// repository if it is known. A build that the go command gave no version is
// called by its revision, "+dirty" if files differ from that, or "devel".
func versionOf(info *debug.BuildInfo) (version, revision string) {
	suffix := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			suffix = "+dirty"
		}
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v, revision
	}
	if revision == "" {
		return "devel", ""
	}
	return revision[:min(len(revision), 12)] + suffix, revision // as long as in a pseudo-version
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
