package doctor

import (
	"fmt"
	"go/version"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// foolable reports whether a version of go is below the releases that have the
// fixes of CVE-2026-56865 and CVE-2026-56864.
func foolable(v string) bool {
	v, _, _ = strings.Cut(v, " ")
	if !version.IsValid(v) {
		return false // a development version
	}
	if version.Lang(v) == "go1.25" {
		return version.Compare(v, "go1.25.13") < 0
	}
	return version.Compare(v, "go1.26.6") < 0
}

// checkSettings looks at what decides about checksums and toolchains.
func (d *Doctor) checkSettings() {
	s := d.step("verification", "what is verified, and with what")
	sumdb := d.settings.get("GOSUMDB")
	s.saw("GOSUMDB=%s (%s)", hidePasswords(sumdb.Value), sumdb.From)
	if sumdb.Value == "off" {
		d.found(s, SumdbOff, "GOSUMDB=off ("+sumdb.From+")", "from", sumdb.From)
	} else if !validSumdb(sumdb.Value) || !validSumdbURL(sumdb.Value) {
		d.found(s, SumdbInvalid, "GOSUMDB="+hidePasswords(sumdb.Value)+" ("+sumdb.From+")", "from", sumdb.From)
	}
	d.checkPatterns(s)
	d.checkInsecure(s)
	d.checkDebug(s)
	tc := d.settings.get("GOTOOLCHAIN")
	s.saw("GOTOOLCHAIN=%s (%s)", tc.Value, tc.From)
	if name, ok := d.toolchainMissing(tc.Value); ok {
		d.found(s, ToolchainMissing, "GOTOOLCHAIN="+tc.Value+" ("+tc.From+")", "value", name, "from", tc.From)
	}
	if !validToolchain(tc.Value) {
		d.found(s, ToolchainInvalid, "GOTOOLCHAIN="+tc.Value+" ("+tc.From+")", "value", tc.Value, "from", tc.From)
	}
}

// validSumdb reports whether the go command would take a value of GOSUMDB.
func validSumdb(value string) bool {
	fields := strings.Fields(value)
	if len(fields) == 0 || len(fields) > 2 {
		return false
	}
	if fields[0] == "sum.golang.org" || value == "sum.golang.google.cn" {
		return true
	}
	_, err := note.NewVerifier(fields[0])
	return err == nil
}

// validSumdbURL reports whether the address in a value of GOSUMDB, if it has one, is
// a URL.
func validSumdbURL(value string) bool {
	fields := strings.Fields(value)
	if len(fields) < 2 {
		return true
	}
	u, err := url.Parse(fields[1])
	return err == nil && (u.Scheme == "" || u.Scheme == "http" || u.Scheme == "https")
}

// validToolchain reports whether the go command would take a value of
// GOTOOLCHAIN.
func validToolchain(value string) bool {
	name, suffix, plus := strings.Cut(value, "+")
	if plus && suffix != "auto" && suffix != "path" {
		return false
	}
	if name == "local" || !plus && (name == "auto" || name == "path") {
		return true
	}
	_, after, custom := strings.Cut(name, "-go")
	if custom {
		name = "go" + after
	}
	return version.IsValid(name)
}

// toolchainMissing returns the toolchain that a value of GOTOOLCHAIN demands from the
// PATH, where it is not there.
func (d *Doctor) toolchainMissing(value string) (name string, missing bool) {
	name, suffix, _ := strings.Cut(value, "+")
	if suffix != "path" || !version.IsValid(name) || d.settings.version == "" || name == d.settings.version {
		return "", false
	}
	return name, d.program(name) == ""
}

func (d *Doctor) checkPatterns(s *Step) {
	wide := func(list string) bool { return slices.Contains(strings.Split(list, ","), "*") }
	private, nosum := d.settings.get("GOPRIVATE"), d.settings.get("GONOSUMDB")
	if private.Value != "" {
		s.saw("GOPRIVATE=%s (%s)", private.Value, private.From)
	}
	switch {
	case wide(private.Value) && private.Value == nosum.Value:
		d.found(s, NosumdbWide, "GOPRIVATE="+private.Value+" ("+private.From+")", "variable", "GOPRIVATE", "from", private.From)
	case wide(nosum.Value):
		d.found(s, NosumdbWide, "GONOSUMDB="+nosum.Value+" ("+nosum.From+")", "variable", "GONOSUMDB", "from", nosum.From)
	}
	for _, name := range []string{"GOPRIVATE", "GONOPROXY", "GONOSUMDB"} {
		if g := d.settings.get(name); !strings.HasPrefix(g.From, "GOPRIVATE, ") {
			d.checkPattern(s, g)
		}
	}
	for _, name := range []string{"GONOSUMDB", "GONOPROXY"} {
		if g := d.settings.get(name); d.cfg.envSet(name) && d.cfg.env(name) == "" && g.Value != "" {
			d.found(s, VariableEmpty, name+"= (environment), but "+name+"="+g.Value+" is used ("+g.From+")", "variable", name)
		}
	}
}

// checkPattern finds patterns that no module path can match.
func (d *Doctor) checkPattern(s *Step, g setting) {
	var useless, mended []string
	for pattern := range strings.SplitSeq(g.Value, ",") {
		good := strings.TrimSpace(pattern)
		if words := strings.Fields(good); len(words) > 1 { // the go command splits at commas alone
			useless, mended = append(useless, good), append(mended, words...)
			continue
		}
		if _, behind, ok := strings.Cut(good, "://"); ok {
			good = behind
		}
		if host, path, _ := strings.Cut(good, "/"); strings.Contains(host, ":") {
			name, _, _ := strings.Cut(host, ":")
			good = strings.TrimSuffix(name+"/"+path, "/")
		}
		good = strings.TrimSuffix(strings.TrimPrefix(good, "."), "/...")
		if _, err := path.Match(pattern, ""); pattern != "" && (err != nil || good != pattern) {
			useless = append(useless, strings.TrimSpace(strings.ReplaceAll(pattern, "\r", "\\r")))
		}
		if good != "" {
			mended = append(mended, good)
		}
	}
	if len(useless) > 0 {
		d.found(s, PatternUseless, fmt.Sprintf("%s=%q (%s)", g.Name, hidePasswords(g.Value), g.From),
			append([]string{"variable", g.Name, "value", hidePasswords(strings.Join(useless, ","))}, d.fit(g.Name, strings.Join(mended, ","), hidePasswords(g.Value) == g.Value)...)...)
	}
}

// checkInsecure finds a GOINSECURE that was meant for the proxy.
func (d *Doctor) checkInsecure(s *Step) {
	g := d.settings.get("GOINSECURE")
	if g.Value == "" {
		return
	}
	s.saw("GOINSECURE=%s (%s)", g.Value, g.From)
	for pattern := range strings.SplitSeq(g.Value, ",") {
		host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(pattern, "https://"), "http://"), "/")
		if pattern == "*" || d.target != nil && (host == d.target.Host || host == d.target.Hostname()) {
			d.found(s, InsecureUseless, "GOINSECURE="+g.Value+" ("+g.From+")", "from", g.From)
		}
	}
}

// checkDebug finds settings of GODEBUG that do not exist. It is taken from the
// environment alone.
func (d *Doctor) checkDebug(s *Step) {
	value := d.cfg.env("GODEBUG")
	if value == "" {
		return
	}
	s.saw("GODEBUG=%s (%s)", value, fromEnvironment)
	entries := strings.Split(value, ",")
	unknown := func(entry string) bool {
		name, _, _ := strings.Cut(strings.TrimSpace(entry), "=")
		name = strings.TrimPrefix(name, "#")
		return name != "" && !godebugKnown(name)
	}
	for _, entry := range entries {
		if unknown(entry) {
			command := "unset GODEBUG"
			if rest := slices.DeleteFunc(slices.Clone(entries), unknown); len(rest) > 0 {
				command = "export " + shellWord("GODEBUG="+strings.Join(rest, ","))
			}
			d.found(s, DebugUnknown, "GODEBUG="+value+" ("+fromEnvironment+")", "value", entry, "command", command)
		}
	}
}

// netrcEntry is one machine of a netrc that the go command would use.
type netrcEntry struct {
	machine, login, password string
}

// checkCredentials looks at netrc and GOAUTH.
func (d *Doctor) checkCredentials() {
	s := d.step("credentials", "what the go command would send, and where to")
	file, given := d.netrcFile()
	data, err := d.cfg.readFile(file)
	if err != nil && given {
		d.found(s, NetrcMissing, err.Error(), "file", file)
	}
	d.netrc = parseNetrc(string(data))
	d.netrcDefault = slices.Contains(strings.Fields(string(data)), "default")
	for _, e := range d.netrc {
		d.secrets = append(d.secrets, e.password)
	}
	auth := d.settings.get("GOAUTH")
	s.saw("GOAUTH=%s (%s)", firstWords(auth.Value), auth.From)
	if err == nil {
		s.saw("%s has %s", file, counted(len(d.netrc), "machine"))
	}
	d.checkAuth(s, auth)
	if info, serr := os.Stat(d.cfg.file(file)); err == nil && serr == nil && len(d.netrc) > 0 && d.cfg.OS != "windows" && info.Mode().Perm()&0o077 != 0 {
		d.found(s, NetrcReadable, fmt.Sprintf("%s has mode %04o", file, info.Mode().Perm()), "file", file)
	}
	if d.target != nil && len(d.netrc) > 0 {
		d.checkNetrc(s, file, auth)
	}
}

// firstWords returns the first word of each command of GOAUTH: arguments may be
// secrets.
func firstWords(value string) string {
	var words []string
	for command := range strings.SplitSeq(value, ";") {
		if f := strings.Fields(command); len(f) > 0 {
			words = append(words, f[0])
		}
	}
	return strings.Join(words, "; ")
}

// netrcFile returns the name of the file, and whether NETRC names it.
func (d *Doctor) netrcFile() (file string, given bool) {
	if file := d.cfg.env("NETRC"); file != "" {
		return file, true
	}
	home := d.cfg.env("HOME")
	if d.cfg.OS == "windows" {
		home = d.cfg.env("USERPROFILE")
		legacy := filepath.Join(home, "_netrc")
		if _, err := os.Stat(d.cfg.file(legacy)); err == nil {
			return legacy, false
		}
	}
	return filepath.Join(home, ".netrc"), false
}

// parseNetrc returns the machines of a netrc as the go command reads it: a
// "default" is passed over, and so is a machine without login or password.
func parseNetrc(data string) []netrcEntry {
	var all []netrcEntry
	var now netrcEntry
	macro := false
	for line := range strings.SplitSeq(data, "\n") {
		if macro {
			macro = strings.TrimSuffix(line, "\r") != ""
			continue
		}
		words := strings.Fields(line)
		for i := 0; i+1 < len(words); i += 2 {
			switch words[i] {
			case "machine":
				now = netrcEntry{machine: words[i+1]}
			case "login":
				now.login = words[i+1]
			case "password":
				now.password = words[i+1]
			case "macdef":
				macro = true
			}
			if now.machine != "" && now.login != "" && now.password != "" {
				all = append(all, now)
				now = netrcEntry{}
			}
		}
	}
	return all
}

// credentials returns the user and password that the go command would send to
// the target: those in its URL, else those of netrc.
func (d *Doctor) credentials() (user, password string, ok bool) {
	if d.target.Scheme != "https" {
		return "", "", false
	}
	if u := d.target.User; u != nil {
		password, _ = u.Password()
		return u.Username(), password, true
	}
	auth := d.settings.get("GOAUTH").Value
	if !slices.Contains(strings.Split(firstWords(auth), "; "), "netrc") {
		return "", "", false
	}
	// The longest machine that is a prefix, by whole elements, wins.
	best := netrcEntry{}
	for _, e := range d.netrc {
		if whole := d.target.Host + d.target.Path; len(e.machine) > len(best.machine) && (whole == e.machine || strings.HasPrefix(whole, strings.TrimSuffix(e.machine, "/")+"/")) {
			best = e
		}
	}
	return best.login, best.password, best.machine != ""
}

func (d *Doctor) checkNetrc(s *Step, file string, auth setting) {
	host, port := d.target.Hostname(), d.target.Port()
	has := func(machine string) bool {
		return slices.ContainsFunc(d.netrc, func(e netrcEntry) bool {
			m, _, _ := strings.Cut(e.machine, "/")
			return m == machine
		})
	}
	switch {
	case !has(host) && !has(d.target.Host):
	case auth.Value == "off":
		d.found(s, AuthOff, "GOAUTH=off ("+auth.From+"), and "+file+" has a machine "+host, "from", auth.From)
	case d.target.Scheme == "http":
		d.found(s, NetrcPlain, file+" has a machine "+host)
	case port != "" && port != "443" && !has(d.target.Host):
		d.found(s, NetrcPort, file+" has \"machine "+host+"\"; the go command looks for \"machine "+d.target.Host+"\"", "file", file)
	}
}

// checkAuth looks at GOAUTH without running its commands.
func (d *Doctor) checkAuth(s *Step, auth setting) {
	commands := strings.Split(auth.Value, ";")
	for _, command := range commands {
		words := strings.Fields(command)
		switch {
		case len(words) == 0, words[0] == "off" && len(commands) > 1,
			words[0] == "git" && (len(words) != 2 || !filepath.IsAbs(words[1]) || !d.isDir(words[1])):
			d.found(s, AuthInvalid, "GOAUTH="+firstWords(auth.Value)+" ("+auth.From+")", "from", auth.From)
		case words[0] == "off", words[0] == "netrc", words[0] == "git":
		case d.program(words[0]) == "":
			d.found(s, AuthCommand, "GOAUTH="+firstWords(auth.Value)+" ("+auth.From+")", "value", words[0])
		}
	}
}

func (d *Doctor) isDir(name string) bool {
	info, err := os.Stat(d.cfg.file(name))
	return err == nil && info.IsDir()
}

// program returns the file of a program: a path, or on the PATH. "" if there is none.
func (d *Doctor) program(name string) string {
	names := []string{name}
	if d.cfg.OS == "windows" {
		names = append(names, name+".exe", name+".cmd", name+".bat")
	}
	dirs := filepath.SplitList(d.cfg.env("PATH"))
	if strings.ContainsAny(name, `/\`) {
		dirs = []string{""}
	}
	for _, dir := range dirs {
		for _, n := range names {
			if info, err := os.Stat(d.cfg.file(filepath.Join(dir, n))); err == nil && !info.IsDir() {
				return d.cfg.file(filepath.Join(dir, n))
			}
		}
	}
	return ""
}
