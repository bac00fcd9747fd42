package doctor

import (
	"slices"
	"strings"
)

// usualFlags are names that a flag without its dash is told by.
const usualFlags = "mod modfile modcacherw insecure tags trimpath buildvcs ldflags gcflags race v x p count overlay"

// flagsMistake says what the go command cannot read in GOFLAGS: words are split at
// blanks, outside of quotes, and each is a flag. "" if it can.
func flagsMistake(value string) string {
	for rest := strings.TrimLeft(value, " \t\r\n"); rest != ""; rest = strings.TrimLeft(rest, " \t\r\n") {
		word, quoted := rest, strings.ContainsAny(rest[:1], `"'`)
		if quoted {
			i := strings.IndexByte(rest[1:], rest[0])
			if i < 0 {
				return "a quote has no end"
			}
			word, rest = rest[1:i+1], rest[i+2:]
		} else if i := strings.IndexAny(rest, " \t\r\n"); i >= 0 {
			word, rest = rest[:i], rest[i:]
		} else {
			rest = ""
		}
		if !strings.HasPrefix(word, "-") || word == "-" || word == "--" || strings.HasPrefix(word, "---") {
			name, _, _ := strings.Cut(word, "=")
			if !slices.Contains(strings.Fields(usualFlags), name) {
				name = "a word" // that may be a secret
			}
			return name + " is no flag, which begins with -"
		}
	}
	return ""
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
