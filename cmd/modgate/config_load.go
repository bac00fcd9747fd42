package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// envPrefix begins the name of every environment variable that is ours.
const envPrefix = "MODGATE_"

// layers are where settings come from, weakest last.
type layers struct {
	flags   map[string]string // raw values of the flags that were given, by key name
	environ []string          // as os.Environ
	file    string            // from --config; "" asks the environment, then looks in the usual place
}

// settings are a Config and where each value came from.
type settings struct {
	Config
	file     string            // the file that was read, "" for none
	origin   map[string]string // key name → place, for people; absent for defaults
	snippet  map[string]string // key name → its lines in the file, if origin is there
	warnings []string
}

func newSettings() *settings {
	return &settings{origin: map[string]string{}, snippet: map[string]string{}}
}

// load layers defaults, file, environment and flags, and checks the result. It
// returns a settings even if there are mistakes, all of which are in the error.
func load(l layers) (*settings, error) {
	s := newSettings()
	env := newEnvironment(l.environ)
	var all mistakes
	for _, k := range keys() {
		if k.def != "" {
			all.add(k.set(&s.Config, k.def), mistake{key: k.name, origin: "default", value: k.def})
		}
	}
	if dir, err := env.userDir("XDG_CACHE_HOME", os.UserCacheDir); err == nil {
		s.Cache.Dir = filepath.Join(dir, "modgate")
	}
	all = append(all, s.readFile(l.file, env)...)
	for _, k := range keys() {
		if raw, ok := env[k.env()]; ok {
			all = append(all, s.assign(k, raw, mistake{origin: k.env()})...)
		}
		if raw, ok := l.flags[k.name]; ok {
			all = append(all, s.assign(k, raw, mistake{origin: "--" + k.flag()})...)
		}
	}
	s.warnings = env.strangers()
	all = append(all, s.check(all)...)
	if len(all) > 0 {
		return s, all
	}
	return s, nil
}

// assign sets k to raw, which was found at a place.
func (s *settings) assign(k key, raw string, at mistake) mistakes {
	at.key, at.value = k.name, k.hide(raw)
	if k.hidden {
		at.snippet = ""
	}
	if k.secret {
		var err error
		if raw, err = dereference(raw); err != nil {
			at.problem, at.advice = err.Error(), "write the path of a readable file behind file:"
			return mistakes{at}
		}
	}
	if err := k.set(&s.Config, raw); err != nil {
		var all mistakes
		all.add(err, at)
		return all
	}
	s.origin[k.name], s.snippet[k.name] = at.origin, at.snippet
	return nil
}

// dereference returns what stands in the file that raw refers to by
// "file:PATH". A file:// URL is a value like any other.
func dereference(raw string) (string, error) {
	path, ok := strings.CutPrefix(raw, "file:")
	if !ok || strings.HasPrefix(path, "//") {
		return raw, nil
	}
	data, err := readBounded(path, 64<<10)
	return strings.TrimSpace(string(data)), err
}

// readFile reads the configuration file, if there is one. Its name comes from
// the flag, else from MODGATE_CONFIG, else it is modgate/modgate.yaml in the
// user's configuration directory, which alone may be missing. "off" reads none.
func (s *settings) readFile(name string, env environment) mistakes {
	at := mistake{origin: "--config", value: name}
	if name == "" {
		name = env[envPrefix+"CONFIG"]
		at = mistake{origin: envPrefix + "CONFIG", value: name}
	}
	optional := name == ""
	if optional {
		dir, err := env.userDir("XDG_CONFIG_HOME", os.UserConfigDir)
		if err != nil {
			return nil
		}
		name = filepath.Join(dir, "modgate", "modgate.yaml")
		at.origin = name
	}
	if name == "off" {
		return nil
	}
	data, err := readBounded(name, maxConfigFile)
	switch {
	case optional && errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		at.problem, at.advice = err.Error(), "name a readable YAML file, or off for none"
		return mistakes{at}
	}
	s.file = name
	return s.decode(name, data)
}

// readNamed is readBounded for a file that somebody has named: its errors say what
// to do.
func readNamed(name string) ([]byte, error) {
	data, err := readBounded(name, maxConfigFile)
	if err != nil {
		return nil, unreadable(err)
	}
	return data, nil
}

// unreadable adds to err, of a file that somebody has named, what to do about it.
func unreadable(err error) error {
	return fmt.Errorf("%w\n  → name a file that exists and may be read", err)
}

func readBounded(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && info.Mode()&fs.ModeNamedPipe == 0 {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s is longer than %s", name, Size(limit).Human())
	}
	return os.ReadFile(name)
}

// environment is the process environment as a map.
type environment map[string]string

func newEnvironment(environ []string) environment {
	env := make(environment, len(environ))
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}

// userDir returns the directory that the variable names, else the one that the
// system has for the purpose.
func (e environment) userDir(variable string, system func() (string, error)) (string, error) {
	if dir := e[variable]; filepath.IsAbs(dir) {
		return dir, nil
	}
	return system()
}

// strangers returns a warning for each variable with our prefix that is no
// key: likely a slip, but not certainly ours, so not an error. What Kubernetes
// sets for a Service called modgate is passed over.
func (e environment) strangers() []string {
	known := map[string]bool{"CONFIG": true}
	for _, k := range keys() {
		known[strings.TrimPrefix(k.env(), envPrefix)] = true
	}
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(e)) {
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours || known[rest] || rest == "PORT" || strings.HasPrefix(rest, "PORT_") || strings.HasPrefix(rest, "SERVICE_") {
			continue
		}
		text := "the environment variable " + name + " is not a setting"
		if near := nearest(rest, slices.Sorted(maps.Keys(known))); near != "" {
			text += "; did you mean " + envPrefix + near + "?"
		}
		warnings = append(warnings, text)
	}
	return warnings
}
