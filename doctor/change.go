package doctor

import (
	"strings"
)

// source is the place of the remedies for a value that is from there: what
// changes it depends on that. With GOENV=off, and without a home directory, the
// go command reads nothing that go env -w writes.
func (d *Doctor) source(from string) Place {
	switch {
	case strings.HasSuffix(from, fromEnvironment), d.settings != nil && d.settings.envFile == "":
		return InEnvironment
	case strings.HasSuffix(from, fromGoroot):
		return InGoroot
	}
	return ByGoEnv
}

// change returns the command that gives a variable of the go command a value, where
// it has its present one from.
func (d *Doctor) change(name, value string) string {
	if d.settings != nil && d.source(d.settings.get(name).From) == InEnvironment {
		return "export " + shellWord(name+"="+value)
	}
	return "go env -w " + shellWord(name+"="+value)
}

// remove returns the command that takes away what a variable has, where it has it
// from.
func (d *Doctor) remove(name string) string {
	switch d.source(d.settings.get(name).From) {
	case InEnvironment:
		return "unset " + name
	case InGoroot:
		return "go env -w " + name + "="
	}
	return "go env -u " + name
}

// bypass returns the value of NO_PROXY with which host is reached without an HTTP
// proxy. The variable in upper case hides the other.
func (d *Doctor) bypass(host string) string {
	switch {
	case d.cfg.env("NO_PROXY") == "" && d.cfg.env("no_proxy") != "":
		return `"$no_proxy,` + host + `"`
	case d.cfg.env("NO_PROXY") == "" && d.settings != nil:
		return host
	}
	return `"$NO_PROXY,` + host + `"`
}

// fit returns the words for a remedy whose command sets a variable of the go command
// to a value, or takes it away where value is "". A value with a part that must not
// be printed leaves the sentence instead.
func (d *Doctor) fit(name, value string, shown bool) []string {
	switch {
	case !shown:
		return []string{"where", unshown}
	case value == "":
		return []string{"command", d.remove(name)}
	}
	return []string{"command", d.change(name, value)}
}

// generalWords are what the words that depend on the settings of a machine stand for
// in docs/doctor.md.
func generalWords() map[string]string {
	return map[string]string{
		"nosumdb": "go env -w GONOSUMDB=your-private-pattern", "noproxy": "go env -w GONOPROXY=none", "bypass": `"$NO_PROXY,{host}"`,
	}
}

// inShell writes a command that changes the environment, alone or behind a colon,
// for the shell of the system.
func inShell(system, do string) string {
	if system != "windows" {
		return do
	}
	before := ""
	for _, word := range []string{": export ", ": unset "} {
		if i := strings.Index(do, word); i >= 0 {
			before, do = do[:i+2], do[i+2:]
		}
	}
	do, note, noted := strings.Cut(do, "   (")
	if name, value, ok := assignment(do); ok {
		value = strings.NewReplacer("$"+name, "$env:"+name, "$"+strings.ToLower(name), "$env:"+name).Replace(value)
		do = `$env:` + name + ` = "` + value + `"`
	} else if name, ok := strings.CutPrefix(do, "unset "); ok {
		do = "Remove-Item Env:" + name
	}
	if noted {
		do += "   (" + note
	}
	return before + do
}

// assignment splits a command that sets a variable of the environment.
func assignment(do string) (name, value string, ok bool) {
	word, ok := strings.CutPrefix(do, "export ")
	if !ok {
		return "", "", false
	}
	name, value, _ = strings.Cut(strings.Trim(word, "'"), "=")
	return name, strings.Trim(value, `"`), true
}

// lasting returns what makes a command that changes the environment last where jobs
// and containers get it from; nothing on other machines.
func (d *Doctor) lasting(do string) []string {
	name, value, set := assignment(do)
	if !set {
		var unset bool
		if name, unset = strings.CutPrefix(do, "unset "); !unset {
			return nil
		}
	}
	var all []string
	for _, p := range d.places {
		text := ""
		switch {
		case !set && p == GitHub:
			text = "take " + name + " out of env: in the workflow"
		case !set && p == GitLab:
			text = "take " + name + " out of variables:"
		case !set && p == Docker:
			text = "take ENV " + name + " out of the Dockerfile, or -e " + name + " out of docker run"
		case !set && p == Kubernetes:
			text = "take " + name + " out of env: of the container"
		case p == GitHub:
			text = "a step before the build: echo " + shellWord(name+"="+value) + " >> \"$GITHUB_ENV\""
		case p == GitLab:
			text = name + ": \"" + value + "\" under variables:"
		case p == Docker:
			text = "docker run -e " + shellWord(name+"="+value) + " …, or ENV in the Dockerfile"
		case p == Kubernetes:
			text = name + " with the value " + value + " under env: of the container"
		}
		if text != "" {
			all = append(all, string(p)+": "+text)
		}
	}
	return all
}
