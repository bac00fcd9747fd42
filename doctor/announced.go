package doctor

import (
	"context"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// pageTitle tells the front page of a modgate from those of other programs.
const pageTitle = "<title>modgate: a Go module proxy</title>"

// pageSetting is a line of that page which says what the go command must be
// told: in quotes where a shell would change it.
var pageSetting = regexp.MustCompile(`(?m)^go env -w '?((?:GONOSUMDB|GOPRIVATE|GONOPROXY)=[^'\n<]*)`)

// announced returns the settings that the proxy asks its clients to have, by
// name; none if it is no modgate.
func (d *Doctor) announced(ctx context.Context) map[string]string {
	a := d.fetch(ctx, "", nil)
	if a.err != nil || a.status != http.StatusOK || !strings.Contains(string(a.body), pageTitle) {
		return nil
	}
	settings := map[string]string{}
	for _, m := range pageSetting.FindAllStringSubmatch(html.UnescapeString(string(a.body)), -1) {
		name, value, _ := strings.Cut(m[1], "=")
		settings[name] = value
	}
	return settings
}

// checkAnnounced compares what the proxy says of private modules with what the
// go command knows here. The proxy is asked for its front page alone.
func (d *Doctor) checkAnnounced(ctx context.Context, s *Step) {
	settings := d.announced(ctx)
	for _, name := range []string{"GONOSUMDB", "GOPRIVATE"} {
		patterns := settings[name]
		if patterns == "" {
			continue
		}
		s.saw("the proxy says: %s=%s", name, oneLine(patterns))
		have := d.settings.get(name)
		var missing []string
		for pattern := range strings.SplitSeq(patterns, ",") {
			if pattern = strings.TrimSpace(pattern); pattern != "" && !covers(have.Value, pattern) {
				missing = append(missing, oneLine(pattern))
			}
		}
		if len(missing) == 0 {
			continue
		}
		value := strings.Join(missing, ",")
		if have.Value != "" {
			value = have.Value + "," + value
		}
		d.found(s, PatternMissing, name+"="+have.Value+" ("+have.From+"); the proxy says "+name+"="+oneLine(patterns),
			"variable", name, "value", strings.Join(missing, ","), "setting", shellWord(name+"="+value), "from", have.From)
		d.unannounced = append(d.unannounced, missing...)
	}
	if g := d.settings.get("GONOPROXY"); settings["GONOPROXY"] == "none" && g.Value != "none" && g.Value != "" {
		d.report.Findings = slices.DeleteFunc(d.report.Findings, func(f Finding) bool { return f.Code == NoproxyBypass }) // said better now
		d.found(s, NoproxyBypassed, "GONOPROXY="+g.Value+" ("+g.From+"); the proxy says GONOPROXY=none", "value", g.Value, "from", g.From)
	}
}

// covers reports whether everything that pattern matches is matched by list, as
// far as that can be told without knowing all modules.
func covers(list, pattern string) bool {
	entries := strings.Split(list, ",")
	if slices.Contains(entries, pattern) || slices.Contains(entries, strings.TrimSuffix(pattern, "/*")) {
		return true
	}
	// A pattern taken as a path stands for all that it matches where the list
	// has a wider one.
	return module.MatchPrefixPatterns(list, strings.NewReplacer("*", "x", "?", "x").Replace(pattern))
}

// shellWord quotes s for a shell, PowerShell included, if it would change it.
func shellWord(s string) string {
	if strings.ContainsAny(s, "*?[]{}$`\"\\ !~,;&|<>()") && !strings.Contains(s, "'") {
		return "'" + s + "'"
	}
	return s
}

// isUnannounced reports whether m is private at the proxy, and not here.
func (d *Doctor) isUnannounced(m module.Version) bool {
	return module.MatchPrefixPatterns(strings.Join(d.unannounced, ","), m.Path)
}
