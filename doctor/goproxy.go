package doctor

import (
	"context"
	"maps"
	"net/url"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strings"
)

// publicMirror is the host of the first entry of the go command's own default.
const publicMirror = "proxy.golang.org"

// proxyEntry is one entry of GOPROXY with the separator behind it.
type proxyEntry struct {
	text string
	next byte // , or |; 0 at the end
}

func splitGoproxy(list string) []proxyEntry {
	var entries []proxyEntry
	for list != "" {
		text, next := list, byte(0)
		if i := strings.IndexAny(list, ",|"); i >= 0 {
			text, next, list = list[:i], list[i], list[i+1:]
		} else {
			list = ""
		}
		if text = strings.TrimSpace(text); text != "" {
			entries = append(entries, proxyEntry{text, next})
		}
	}
	return entries
}

// proxyURL returns the URL that the go command makes of an entry of GOPROXY,
// which may be a host alone; nil if it would refuse it.
func proxyURL(text string) *url.URL {
	if slip.MatchString(text) {
		return nil // taken for a host of the name http
	}
	if strings.ContainsAny(text, ".:/") && !strings.Contains(text, ":/") && !strings.HasPrefix(text, "/") && !filepath.IsAbs(text) {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" {
			return nil
		}
	case "file":
		if u.Path == "" || u.Host != "" {
			return nil
		}
	default:
		return nil
	}
	return u
}

// checkGoproxy looks at GOPROXY and finds the target.
func (d *Doctor) checkGoproxy(ctx context.Context) {
	g := d.settings.get("GOPROXY")
	s := d.step("GOPROXY", "what decides which proxy is asked")
	s.saw("GOPROXY=%s (%s)", hidePasswords(g.Value), g.From)
	entries := splitGoproxy(g.Value)
	if len(entries) == 0 {
		d.found(s, GoproxyEmpty, "GOPROXY="+g.Value+" ("+g.From+")", "from", g.From)
	}
	var first *url.URL
	for _, e := range entries {
		u := proxyURL(e.text)
		if u != nil && first == nil && u.Scheme != "file" {
			first = u
		}
		if u != nil {
			d.hide(u)
		}
	}
	d.aim(first)
	if first != nil && d.cfg.URL == "" && len(entries) > 1 {
		s.saw("the first proxy is examined; others: modgate doctor URL")
	}
	d.checkEntries(s, g, entries)
	d.checkBypass(s)
	d.checkModulesOn(ctx, s)
	d.checkShadowed(s, "GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOFLAGS", "GOINSECURE")
	d.checkGoCommand(s)
}

// aim chooses the target: what the user has named, else the first proxy.
func (d *Doctor) aim(first *url.URL) {
	d.target = first
	if d.cfg.URL != "" {
		d.target, _ = url.Parse(d.cfg.URL) // checked by New
		d.hide(d.target)
	}
	if d.target != nil {
		d.target = d.target.JoinPath() // a copy with a clean path
		d.target.Path = strings.TrimSuffix(d.target.Path, "/")
		d.report.Subject = d.display()
	}
}

// hide remembers the password in u.
func (d *Doctor) hide(u *url.URL) {
	if u.User == nil {
		return
	}
	if password, ok := u.User.Password(); ok {
		d.secrets = append(d.secrets, password, url.QueryEscape(password))
	} else if u.Scheme != "ssh" {
		d.secrets = append(d.secrets, u.User.Username()) // a token alone
	}
}

func (d *Doctor) checkEntries(s *Step, g setting, entries []proxyEntry) {
	seen := "GOPROXY=" + hidePasswords(g.Value) + " (" + g.From + ")"
	own := false // a proxy that is not the public mirror comes before
	for i, e := range entries {
		word := !strings.ContainsAny(e.text, ".:/")
		u := proxyURL(e.text)
		switch {
		case e.text == "off" && i == 0:
			d.found(s, GoproxyOff, seen, "from", g.From)
		case e.text == "direct" && i == 0:
			d.found(s, GoproxyNone, seen, "from", g.From)
		case e.text == "direct" && own && entries[i-1].next == ',':
			d.found(s, GoproxyDirect, seen, "url", d.firstEntry(entries), "from", g.From)
		case e.text == "direct" || e.text == "off":
		case word:
			d.found(s, GoproxyWord, seen, append([]string{"value", e.text}, d.fitProxies(entries, i)...)...)
		case u == nil:
			d.found(s, GoproxyInvalid, seen, append([]string{"value", hidePasswords(e.text), "from", g.From}, d.fitCorrected(g.Value)...)...)
		default:
			own = own || u.Hostname() != publicMirror
			if e.next == '|' && i+1 < len(entries) && u.Hostname() != publicMirror {
				d.found(s, GoproxyPipe, seen, "url", d.firstEntry(entries), "from", g.From)
			}
			if _, password := u.User.Password(); password && u.Scheme == "http" {
				d.found(s, GoproxyPassword, seen, "url", "https://"+u.Host+u.Path, "machine", strings.TrimSuffix(u.Host, ":443"))
			}
		}
		if (e.text == "direct" || e.text == "off") && i+1 < len(entries) {
			d.found(s, GoproxyRest, seen, append([]string{"value", e.text}, d.fitProxies(entries, i)...)...)
			break
		}
	}
}

// firstEntry returns the first entry of GOPROXY, fit to be printed in a command.
func (d *Doctor) firstEntry(entries []proxyEntry) string {
	return userinfo.ReplaceAllString(entries[0].text, "${1}USER:PASSWORD@")
}

// checkBypass says which modules the go command fetches around the proxy.
func (d *Doctor) checkBypass(s *Step) {
	g := d.settings.get("GONOPROXY")
	if g.Value == "" || g.Value == "none" {
		return
	}
	s.saw("GONOPROXY=%s (%s)", g.Value, g.From)
	if d.target != nil && d.target.Hostname() != publicMirror {
		d.found(s, NoproxyBypass, "GONOPROXY="+g.Value+" ("+g.From+")", "value", g.Value, "from", g.From)
	}
}

func (d *Doctor) checkModulesOn(ctx context.Context, s *Step) {
	if g := d.settings.get("GO111MODULE"); g.Value == "off" {
		d.found(s, ModulesOff, "GO111MODULE=off ("+g.From+")", "from", g.From)
	}
	g := d.settings.get("GOFLAGS")
	if g.Value == "" {
		return
	}
	s.saw("GOFLAGS=%s (%s)", flagsShown(g.Value), g.From)
	d.checkFlags(ctx, s, g)
	flags := strings.Fields(g.Value)
	for _, flag := range flags {
		name := strings.TrimPrefix(strings.TrimPrefix(flag, "-"), "-")
		if name == "insecure" || strings.HasPrefix(name, "insecure=") {
			rest := strings.Join(slices.DeleteFunc(slices.Clone(flags), func(other string) bool { return other == flag }), " ")
			d.found(s, FlagsInsecure, "GOFLAGS="+flagsShown(g.Value)+" ("+g.From+")", d.fit("GOFLAGS", rest, flagsShown(rest) == rest)...)
		}
		if name == "mod=vendor" {
			d.found(s, FlagsVendor, "GOFLAGS="+flagsShown(g.Value)+" ("+g.From+")")
		}
	}
}

// checkShadowed finds values of go env -w that have no effect.
func (d *Doctor) checkShadowed(s *Step, names ...string) {
	for _, name := range names {
		inFile, inEnv := d.settings.userEnv[name], d.cfg.env(name)
		if inFile != "" && inEnv != "" && inFile != inEnv {
			if name == "GOFLAGS" {
				inFile, inEnv = flagsShown(inFile), flagsShown(inEnv)
			}
			d.found(s, VariableShadowed, name+"="+hidePasswords(inEnv)+" in the environment, "+hidePasswords(inFile)+" in "+d.settings.envFile, "variable", name)
		}
	}
}

// misnomers are variables that recipes name, and the go command does not know.
func misnomers() map[string]string {
	return map[string]string{
		"GO_PROXY":      "use GOPROXY",
		"GOPROXIES":     "use GOPROXY",
		"GO_SUMDB":      "use GOSUMDB",
		"GONOSUMCHECK":  "use GONOSUMDB with the pattern of your private modules",
		"GONOPRIVATE":   "use GOPRIVATE",
		"GOPROXYAUTH":   "use GOAUTH or netrc",
		"GOSUMDBOFF":    "use GOSUMDB=off",
		"GOTLSINSECURE": "there is no such switch: let this machine trust the authority",
	}
}

func (d *Doctor) checkGoCommand(s *Step) {
	names := misnomers()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if d.cfg.env(name) != "" {
			d.found(s, VariableUnknown, name+" is set in the environment", "variable", name, "value", names[name])
		}
	}
	switch {
	case d.settings.goroot == "":
		d.found(s, GoMissing, "PATH="+d.cfg.env("PATH"))
	case d.settings.version != "":
		s.saw("%s in %s", d.settings.version, d.settings.goroot)
		if foolable(d.settings.version) {
			d.found(s, GoOld, d.settings.goroot, "value", d.settings.version)
		}
	}
}

// godebugKnown reports whether a setting of GODEBUG exists: those with a metric,
// those without one, and those of the runtime itself.
func godebugKnown(name string) bool {
	for _, m := range metrics.All() {
		if m.Name == "/godebug/non-default-behavior/"+name+":events" {
			return true
		}
	}
	return strings.HasPrefix(name, "cpu.") || slices.Contains(strings.Fields(godebugWithoutMetric), name)
}

// godebugWithoutMetric are the settings that count nothing: of packages, of the
// runtime, and of the go command (Go 1.26).
const godebugWithoutMetric = `
	dataindependenttiming decoratemappings fips140 http2debug jstmpllitinterp netdns tlsmlkem tlssecpmlkem default
	adaptivestackstart asyncpreemptoff asynctimerchan cgocheck checkfinalizers clobberfree containermaxprocs
	disablethp dontfreezetheworld efence gccheckmark gcpacertrace gcshrinkstackoff gcstoptheworld gctrace
	harddecommit inittrace invalidptr madvdontneed panicnil profstackdepth sbrk scavtrace scheddetail schedtrace
	traceadvanceperiod traceallocfree tracebackancestors tracebacklabels tracecheckstackownership tracefpunwindoff updatemaxprocs
	cmdgonetlimit gofsystrace gofsystracelog gofsystracestack goindex gotoolchainexec toolchaintrace
	gocachehash gocachetest gocacheverify installgoroot allowmultiplevcs embedfollowsymlinks gotestjsonbuildtext`
