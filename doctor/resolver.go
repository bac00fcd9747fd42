package doctor

import (
	"cmp"
	"slices"
	"strings"
)

const (
	resolvConf   = "/etc/resolv.conf"
	nsswitchConf = "/etc/nsswitch.conf"
)

// resolver says who looks a name up for the go command.
type resolver struct {
	system  bool // the C library, or the system's own
	why     string
	unasked []string // sources of nsswitch.conf that Go's own resolver does not ask
}

// chooseResolver decides as package net does (conf.go of Go 1.26) for the go
// command that is on this machine.
func (d *Doctor) chooseResolver(host string) resolver {
	c := &d.cfg
	mode := netdns(c.env("GODEBUG"))
	switch {
	case mode == "go":
		return resolver{why: "GODEBUG=netdns=go", unasked: foreign(d.nsswitch())}
	case c.OS == "darwin" || c.OS == "windows":
		return resolver{system: true, why: "as always on this system"}
	case d.settings.goroot == "":
		return resolver{why: "as far as can be told without a go command", unasked: foreign(d.nsswitch())}
	case !d.settings.cgo:
		return resolver{why: "the go command was built without cgo", unasked: foreign(d.nsswitch())}
	case mode == "cgo":
		return resolver{system: true, why: "GODEBUG=netdns=cgo"}
	}
	if why := cmp.Or(d.resolverVariable(), d.resolvOption(), d.nsswitchReason(host)); why != "" {
		return resolver{system: true, why: why}
	}
	return resolver{why: "neither resolv.conf nor nsswitch.conf asks for what Go does not know", unasked: foreign(d.nsswitch())}
}

// netdns returns who is to be asked by that setting of GODEBUG, without the
// number behind it that makes Go talk of it: go, cgo, or "".
func netdns(debug string) string {
	mode := ""
	for entry := range strings.SplitSeq(debug, ",") {
		if value, ok := strings.CutPrefix(entry, "netdns="); ok {
			mode = ""
			for part := range strings.SplitSeq(value, "+") {
				if part == "go" || part == "cgo" {
					mode = part
				}
			}
		}
	}
	return mode
}

// resolverVariable names a variable with which Go leaves names to the C library.
func (d *Doctor) resolverVariable() string {
	if d.cfg.envSet("LOCALDOMAIN") {
		return "LOCALDOMAIN is set"
	}
	for _, name := range []string{"RES_OPTIONS", "HOSTALIASES"} {
		if d.cfg.env(name) != "" {
			return name + " is set"
		}
	}
	return ""
}

// resolvOption names what resolv.conf has and Go does not know.
func (d *Doctor) resolvOption() string {
	data, err := d.cfg.readFile(resolvConf)
	if err != nil {
		return ""
	}
	known := []string{"ndots", "timeout", "attempts", "rotate", "single-request", "single-request-reopen", "use-vc", "usevc", "tcp", "trust-ad", "edns0", "no-reload"}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") || strings.HasPrefix(words[0], ";") {
			continue
		}
		switch words[0] {
		case "nameserver", "search", "domain", "lookup":
		case "options":
			for _, option := range words[1:] {
				if name, _, _ := strings.Cut(option, ":"); !slices.Contains(known, name) {
					return resolvConf + " has options " + oneLine(option)
				}
			}
		default:
			return resolvConf + " has " + oneLine(words[0])
		}
	}
	return ""
}

// nsswitch returns the sources of host names, each with its criteria behind it;
// none if the system has no such file, as those of musl.
func (d *Doctor) nsswitch() []string {
	data, err := d.cfg.readFile(nsswitchConf)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		if name, rest, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "hosts" {
			var sources []string
			for _, word := range strings.Fields(rest) {
				if n := len(sources); n > 0 && (strings.HasPrefix(word, "[") || strings.Contains(sources[n-1], "[") && !strings.HasSuffix(sources[n-1], "]")) {
					sources[n-1] += " " + word
				} else {
					sources = append(sources, word)
				}
			}
			return sources
		}
	}
	return nil
}

// nsswitchReason says why nsswitch.conf makes Go leave host to the C library.
func (d *Doctor) nsswitchReason(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, source := range d.nsswitch() {
		name, criteria, _ := strings.Cut(source, " ")
		unusual := false
		switch {
		case name == "files" || name == "dns":
			unusual = !standardCriteria(criteria)
		case name == "myhostname":
			unusual = host == "localhost" || strings.HasSuffix(host, ".localhost") || host == "_gateway" || !strings.Contains(host, ".")
		case strings.HasPrefix(name, "mdns"):
			_, err := d.cfg.readFile("/etc/mdns.allow")
			unusual = strings.HasSuffix(host, ".local") || err == nil
		default:
			unusual = true
		}
		if unusual {
			return nsswitchConf + " has " + oneLine(source)
		}
	}
	return ""
}

// standardCriteria reports whether criteria say what holds without them: an end
// behind the last of them is no surprise.
func standardCriteria(criteria string) bool {
	all := strings.Fields(strings.Trim(strings.ToLower(criteria), "[]"))
	for i, c := range all {
		status, action, _ := strings.Cut(c, "=")
		normal := "continue"
		if status == "success" {
			normal = "return"
		}
		if strings.HasPrefix(status, "!") || action != normal && (i+1 < len(all) || action != "return") {
			return false
		}
	}
	return true
}

// foreign returns the sources that Go's own resolver does not ask.
func foreign(sources []string) []string {
	var all []string
	for _, source := range sources {
		name, _, _ := strings.Cut(source, " ")
		if name != "files" && name != "dns" && name != "myhostname" {
			all = append(all, name)
		}
	}
	return all
}
