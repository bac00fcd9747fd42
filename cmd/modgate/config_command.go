package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
)

func configCommand(p *process) *cobra.Command {
	var check, reference bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration, with where each value comes from",
		Long: `Config prints the configuration that the same flags, environment and file
would give to serve, as a file that could be used instead of them. Credentials
are not shown.`,
		Args: cobra.NoArgs,
	}
	settings := addSettings(cmd, p)
	cmd.Flags().BoolVar(&check, "check", false, "Check only: print the mistakes and exit 1, or say that there are none.")
	cmd.Flags().BoolVar(&reference, "reference", false, "Print the reference of all keys as Markdown.")
	cmd.RunE = func(*cobra.Command, []string) error {
		if reference {
			writeReference(p.stdout)
			return nil
		}
		s, err := settings()
		if err != nil {
			return err
		}
		if check {
			if err := errors.Join(checkCertificates(&s.Config), checkRuleFile(&s.Config), checkAuthFile(&s.Config)); err != nil {
				return err
			}
			fmt.Fprintln(p.stderr, "modgate: the configuration is fine")
			return nil
		}
		return s.write(p.stdout)
	}
	return cmd
}

// write prints the settings as YAML that load accepts, but for credentials.
func (s *settings) write(w io.Writer) error {
	var b strings.Builder
	from := "no configuration file"
	if s.file != "" {
		from = s.file
	}
	fmt.Fprintf(&b, "# modgate %s, %s\n", buildInfo().Version, from)
	var open []string // the groups that the line before was in
	for _, k := range keys() {
		path := strings.Split(k.name, ".")
		groups, leaf := path[:len(path)-1], path[len(path)-1]
		for i, g := range groups {
			if i >= len(open) || !slices.Equal(groups[:i+1], open[:i+1]) {
				fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", i), g)
			}
		}
		open = groups
		indent := strings.Repeat("  ", len(groups))
		value, err := k.yaml(&s.Config)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s%s: %s # %s\n", indent, leaf, value, s.where(k))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// yaml returns the value of the key on one line.
func (k key) yaml(c *Config) (string, error) {
	value := reflect.ValueOf(c).Elem().FieldByIndex(k.index).Interface()
	var out []byte
	var err error
	switch v := value.(type) {
	case List:
		if k.hidden {
			out, err = yaml.Marshal(k.shown(c))
			break
		}
		out, err = yaml.MarshalWithOptions([]string(v), yaml.Flow(true))
	case Count:
		out, err = yaml.Marshal(int(v))
	default:
		out, err = yaml.Marshal(k.shown(c))
	}
	if s := strings.TrimSpace(string(out)); err != nil || !strings.Contains(s, "\n") {
		return s, err
	}
	quoted, err := json.Marshal(k.shown(c)) // JSON strings are YAML strings
	return string(quoted), err
}

// writeReference prints the manual of Config as Markdown.
func writeReference(w io.Writer) {
	fmt.Fprint(w, `# Configuration

Every key can be set in a YAML file, by an environment variable and by a flag
of `+"`modgate serve`"+`. Flags beat the environment, which beats the file. The
file is named by `+"`--config`"+` or `+"`MODGATE_CONFIG`"+`; otherwise it is
`+"`modgate/modgate.yaml`"+` in `+"`$XDG_CONFIG_HOME`"+` (`+"`~/.config`"+`), if that exists;
`+"`off`"+` reads none. A key that does not exist is an error. All mistakes in
keys and values are reported at once, by `+"`modgate config --check`"+` too; those of
the files that they name come after these, perhaps one file in a run.
`+"`modgate config`"+` prints the values in force and where each comes from. A change
needs a restart, but for the files that it names, which are read again.

Sizes are written `+"`50GiB`"+`, durations `+"`90s`"+`; lists are YAML sequences in the
file and comma-separated elsewhere. Where a value may hold credentials, it can
stand in a file of its own: `+"`file:/run/secrets/upstream`"+`.

| key | flag, environment | default | meaning |
| --- | --- | --- | --- |
`)
	for _, k := range keys() {
		def := "none"
		if k.def != "" {
			def = "`" + k.def + "`"
		}
		doc := k.doc
		if k.secret {
			doc += " May be a `file:` reference."
		}
		fmt.Fprintf(w, "| `%s` | `--%s` `%s` | %s | %s |\n", k.name, k.flag(), k.env(), def, strings.ReplaceAll(doc, "|", `\|`))
	}
}

// writeJSON prints v for machines.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
