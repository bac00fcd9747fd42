package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// parseWants returns what a go.mod, a go.sum or a list of versions names, each
// once.
func parseWants(file string, data []byte) ([]want, error) {
	parse := parseGoMod
	switch {
	case looksLikeGoSum(data):
		parse = parseGoSum
	case looksLikeList(data):
		parse = parseList
	}
	wants, err := parse(file, data)
	if list := (modfile.ErrorList)(nil); errors.As(err, &list) && len(list) > 0 {
		err = &list[0] // what is no go.mod at all has one in each line
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n  → name a go.mod, a go.sum or a list of MODULE@VERSION, one in a line", err)
	}
	return onceEach(wants), nil
}

// onceEach returns wants without repetitions.
func onceEach(wants []want) []want {
	seen := map[want]bool{}
	return slices.DeleteFunc(wants, func(w want) bool {
		again := seen[w]
		seen[w] = true
		return again
	})
}

// looksLikeList reports whether the first line is one of a list of versions.
func looksLikeList(data []byte) bool {
	for line := range strings.Lines(string(data)) {
		if fields := listFields(line); len(fields) > 0 {
			return len(fields) == 1 && strings.Contains(fields[0], "@")
		}
	}
	return false
}

// listFields returns the fields of a line of a list, without a comment.
func listFields(line string) []string {
	line, _, _ = strings.Cut(line, "#")
	return strings.Fields(line)
}

// parseList returns the files of versions, one MODULE@VERSION in a line.
func parseList(file string, data []byte) ([]want, error) {
	var wants []want
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		fields := listFields(line)
		if len(fields) == 0 {
			continue
		}
		path, version, _ := strings.Cut(fields[0], "@")
		if err := module.Check(path, version); err != nil || len(fields) > 1 {
			return nil, fmt.Errorf("%s:%d: %.200q is not MODULE@VERSION, with a whole version", file, n, strings.TrimSpace(line))
		}
		m := module.Version{Path: path, Version: version}
		wants = append(wants, want{m, "mod", ""}, want{m, "info", ""}, want{m, "zip", ""})
	}
	return wants, nil
}

// looksLikeGoSum reports whether the first line is one of a go.sum.
func looksLikeGoSum(data []byte) bool {
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			return len(fields) == 3 && strings.HasPrefix(fields[2], "h1:")
		}
	}
	return false
}

// parseGoSum returns what a go.sum names: a go.mod file by its line, a zip by
// its line and the .info that go mod download asks for beside it.
func parseGoSum(file string, data []byte) ([]want, error) {
	var wants []want
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 3 || !strings.HasPrefix(fields[2], "h1:") {
			return nil, fmt.Errorf("%s:%d: not a line of a go.sum", file, n)
		}
		version, isMod := strings.CutSuffix(fields[1], "/go.mod")
		m := module.Version{Path: fields[0], Version: version}
		if err := module.Check(m.Path, m.Version); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		if isMod {
			wants = append(wants, want{m, "mod", fields[2]})
		} else {
			wants = append(wants, want{m, "info", ""}, want{m, "zip", fields[2]})
		}
	}
	return wants, nil
}

// parseGoMod returns what a go.mod requires, directly and indirectly, after
// its replacements. From Go 1.17 on that is all that a build needs; the graph
// of an older one is not followed.
func parseGoMod(file string, data []byte) ([]want, error) {
	f, err := modfile.Parse(file, data, nil)
	if err != nil {
		return nil, err
	}
	replaced := map[module.Version]module.Version{}
	for _, r := range f.Replace {
		replaced[r.Old] = r.New
	}
	var wants []want
	for _, r := range f.Require {
		m := r.Mod
		if to, ok := replaced[m]; ok {
			m = to
		} else if to, ok := replaced[module.Version{Path: m.Path}]; ok {
			m = to
		}
		if m.Version == "" {
			continue // a directory
		}
		wants = append(wants, want{m, "mod", ""}, want{m, "info", ""}, want{m, "zip", ""})
	}
	return wants, nil
}
