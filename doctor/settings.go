package doctor

import (
	"cmp"
	"debug/buildinfo"
	"path/filepath"
	"strings"
)

// setting is the value of a variable of the go command, and where it is from.
type setting struct {
	Name, Value, From string
}

// settings are the variables as the go command sees them, without starting it:
// environment, then the file of go env -w, then GOROOT/go.env, then what is
// built in. Reading the files tells where a value comes from, which go env
// does not.
type settings struct {
	cfg     *Config
	userEnv map[string]string // of go env -w
	rootEnv map[string]string // of GOROOT/go.env
	envFile string            // the file of go env -w; "" if there is none
	goroot  string            // "" if there is no go command
	version string            // of the go command, as go1.26.8; "" if not known
	cgo     bool              // the go command was built with cgo
}

// Where values come from.
const (
	fromEnvironment = "environment"
	fromGoEnvW      = "go env -w"
	fromGoroot      = "GOROOT/go.env"
	fromDefault     = "default"
)

func readSettings(c *Config) *settings {
	s := &settings{cfg: c}
	s.envFile = s.userEnvFile()
	if s.envFile != "" {
		s.userEnv = s.parse(s.envFile)
	}
	s.goroot = s.findGoroot()
	if s.goroot != "" {
		s.rootEnv = s.parse(filepath.Join(s.goroot, "go.env"))
		if data, err := c.readFile(filepath.Join(s.goroot, "VERSION")); err == nil {
			s.version, _, _ = strings.Cut(strings.TrimSpace(string(data)), "\n")
		}
		s.cgo = s.builtWithCgo()
	}
	return s
}

// userEnvFile returns the file of go env -w, as cmd/go/internal/cfg finds it.
func (s *settings) userEnvFile() string {
	c := s.cfg
	if file := c.env("GOENV"); file == "off" {
		return ""
	} else if file != "" {
		return file
	}
	var dir string
	switch c.OS {
	case "windows":
		dir = c.env("AppData")
	case "darwin":
		if home := c.env("HOME"); home != "" {
			dir = filepath.Join(home, "Library/Application Support")
		}
	default:
		dir = c.env("XDG_CONFIG_HOME")
		if home := c.env("HOME"); dir == "" && home != "" {
			dir = filepath.Join(home, ".config")
		}
	}
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "go", "env")
}

// findGoroot returns GOROOT: what the environment says, else where the go
// command on the PATH is from.
func (s *settings) findGoroot() string {
	c := s.cfg
	if root := cmp.Or(c.env("GOROOT"), s.userEnv["GOROOT"]); root != "" {
		return root
	}
	name := "go"
	if c.OS == "windows" {
		name = "go.exe"
	}
	for _, dir := range filepath.SplitList(c.env("PATH")) {
		file, err := filepath.EvalSymlinks(c.file(filepath.Join(dir, name)))
		if err != nil {
			continue
		}
		root := strings.TrimPrefix(filepath.Dir(filepath.Dir(file)), c.Root)
		if _, err := c.readFile(filepath.Join(root, "VERSION")); err == nil {
			return root
		}
	}
	return ""
}

func (s *settings) builtWithCgo() bool {
	name := "go"
	if s.cfg.OS == "windows" {
		name = "go.exe"
	}
	info, err := buildinfo.ReadFile(s.cfg.file(filepath.Join(s.goroot, "bin", name)))
	if err != nil {
		return false
	}
	for _, b := range info.Settings {
		if b.Key == "CGO_ENABLED" {
			return b.Value == "1"
		}
	}
	return false
}

// parse reads a file of NAME=VALUE lines as the go command does: nothing is trimmed,
// and what does not begin with a capital letter is passed over.
func (s *settings) parse(file string) map[string]string {
	values := map[string]string{}
	data, err := s.cfg.readFile(file)
	if err != nil {
		return values
	}
	for line := range strings.Lines(string(data)) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if ok && name != "" && 'A' <= name[0] && name[0] <= 'Z' {
			values[name] = value
		}
	}
	return values
}

// builtIn are the values without any setting, where they are not empty.
func builtIn(name string) string {
	switch name {
	case "GOPROXY":
		return "https://proxy.golang.org,direct"
	case "GOSUMDB":
		return "sum.golang.org"
	case "GOTOOLCHAIN":
		return "auto"
	case "GOAUTH":
		return "netrc"
	}
	return ""
}

// get returns a setting. An empty variable in the environment counts as not
// set, as it does for the go command; an empty one by go env -w hides that of
// GOROOT/go.env, and what is built in of two variables as well.
func (s *settings) get(name string) setting {
	if v := s.cfg.env(name); v != "" {
		return setting{name, v, fromEnvironment}
	}
	v, hidden := s.userEnv[name]
	if v != "" || hidden && (name == "GOPROXY" || name == "GOSUMDB") {
		return setting{name, v, fromGoEnvW}
	}
	if v := s.rootEnv[name]; v != "" && !hidden {
		return setting{name, v, fromGoroot}
	}
	if name == "GONOPROXY" || name == "GONOSUMDB" {
		if private := s.get("GOPRIVATE"); private.Value != "" {
			return setting{name, private.Value, "GOPRIVATE, " + private.From}
		}
	}
	return setting{name, builtIn(name), fromDefault}
}
