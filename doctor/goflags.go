package doctor

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// usualFlags are names that a flag without its dash is told by.
const usualFlags = "mod modfile modcacherw insecure tags trimpath buildvcs ldflags gcflags race v x p count overlay"

// splitWords splits at blanks outside of quotes, as the go command does it. ok is
// false if a quote has no end.
func splitWords(value string) (words []string, ok bool) {
	const blanks = " \t\r\n"
	for rest := strings.TrimLeft(value, blanks); rest != ""; rest = strings.TrimLeft(rest, blanks) {
		word := rest
		if strings.ContainsAny(rest[:1], `"'`) {
			i := strings.IndexByte(rest[1:], rest[0])
			if i < 0 {
				return nil, false
			}
			word, rest = rest[1:i+1], rest[i+2:]
		} else if i := strings.IndexAny(rest, blanks); i >= 0 {
			word, rest = rest[:i], rest[i:]
		} else {
			rest = ""
		}
		words = append(words, word)
	}
	return words, true
}

// splitFlags returns the words of GOFLAGS, and what the go command cannot read there;
// "" if it can.
func splitFlags(value string) (words []string, mistake string) {
	words, ok := splitWords(value)
	if !ok {
		return nil, "a quote has no end"
	}
	for _, word := range words {
		if !strings.HasPrefix(word, "-") || word == "-" || word == "--" || strings.HasPrefix(word, "---") {
			name, _, _ := strings.Cut(word, "=")
			if !slices.Contains(strings.Fields(usualFlags), name) {
				name = "a word" // that may be a secret
			}
			return nil, name + " is no flag, which begins with -"
		}
	}
	return words, ""
}

// joinFlags is the reverse of splitFlags.
func joinFlags(words []string) string {
	quoted := slices.Clone(words)
	for i, word := range words {
		switch {
		case !strings.ContainsAny(word, " \t\r\n"):
		case strings.Contains(word, "'"):
			quoted[i] = `"` + word + `"`
		default:
			quoted[i] = "'" + word + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// flagName returns the name of the flag that a word of GOFLAGS sets.
func flagName(word string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-"), "=")
	return name
}

// checkFlags finds what the go command cannot read in GOFLAGS.
func (d *Doctor) checkFlags(ctx context.Context, s *Step, g setting) {
	seen := "GOFLAGS=" + flagsShown(g.Value) + " (" + g.From + ")"
	words, mistake := splitFlags(g.Value)
	if mistake != "" {
		d.found(s, FlagsInvalid, seen, append([]string{"value", mistake}, d.fit("GOFLAGS", "", true)...)...)
		return
	}
	var mistakes []string
	for range len(words) { // the go command tells one at a time
		name, text := d.flagRefused(ctx, words)
		left := slices.DeleteFunc(slices.Clone(words), func(word string) bool { return flagName(word) == name })
		if text == "" || len(left) == len(words) {
			break
		}
		mistakes, words = append(mistakes, text), left
	}
	if rest := joinFlags(words); len(mistakes) > 0 {
		d.found(s, FlagsInvalid, seen, append([]string{"value", strings.Join(mistakes, "; ")}, d.fit("GOFLAGS", rest, flagsShown(rest) == rest)...)...)
	}
}

// What the go command says of GOFLAGS, with the name of the flag. A value that it
// quotes may be a secret.
var (
	flagUnknown  = regexp.MustCompile(`^go: parsing .?GOFLAGS.?: (unknown flag -(\S+))`)
	flagMisused  = regexp.MustCompile(`^go: (.*flag(?: needs an argument:)? -([^\s:]+)) \(from .?GOFLAGS.?\)`)
	modRefused   = regexp.MustCompile(`^(-(mod)=\S* not supported .*)`)
	overlayFails = regexp.MustCompile(`^go: (reading (overlay).*)`)
	flagValue    = regexp.MustCompile(`value "(?:[^"\\]|\\.)*"`)
)

// flagRefused returns the flag that the go command of this machine refuses, and what
// it says; "" if it takes them all. It is asked for a package of its own, outside of
// modules, and needs nothing for that: no cache, no home, no network.
func (d *Doctor) flagRefused(ctx context.Context, words []string) (name, text string) {
	if d.cfg.Run == nil || d.settings.goroot == "" {
		return "", ""
	}
	ctx, cancel := d.within(ctx)
	defer cancel()
	program := d.cfg.file(filepath.Join(d.settings.goroot, "bin", "go"))
	_, said, _ := d.cfg.Run(ctx, []string{
		"GOFLAGS=" + joinFlags(words), "GOENV=off", "GO111MODULE=off", "GOTOOLCHAIN=local", "GOPROXY=off", "GOCACHE=off",
		"PATH=" + d.cfg.env("PATH"), "SystemRoot=" + d.cfg.env("SystemRoot"),
	}, "", program, "list", "unsafe")
	first, _, _ := strings.Cut(said, "\n")
	for _, pattern := range []*regexp.Regexp{flagUnknown, flagMisused, modRefused, overlayFails} {
		if m := pattern.FindStringSubmatch(strings.TrimSpace(first)); m != nil {
			return m[2], flagValue.ReplaceAllString(m[1], "value …")
		}
	}
	return "", ""
}

// flagsShown leaves out the values of flags, which may be secrets (-ldflags), but
// for those that matter here.
func flagsShown(value string) string {
	var shown []string
	for _, flag := range strings.Fields(value) {
		name, _, has := strings.Cut(flag, "=")
		switch {
		case !strings.HasPrefix(flag, "-"):
			continue // a part of a value in quotes
		case has && !strings.HasSuffix(name, "-mod"):
			flag = name + "=…"
		}
		shown = append(shown, flag)
	}
	return strings.Join(shown, " ")
}
