package doctor

// Findings about GOPROXY and what else decides which proxy is asked.
const (
	GoproxyPipe      Code = "env-goproxy-pipe"
	GoproxyDirect    Code = "env-goproxy-direct"
	GoproxyOff       Code = "env-goproxy-off"
	GoproxyNone      Code = "env-goproxy-none"
	GoproxyWord      Code = "env-goproxy-word"
	GoproxyInvalid   Code = "env-goproxy-invalid"
	GoproxyEmpty     Code = "env-goproxy-empty"
	GoproxyRest      Code = "env-goproxy-rest"
	GoproxyPassword  Code = "env-goproxy-password"
	NoproxyBypass    Code = "env-gonoproxy-bypass"
	ModulesOff       Code = "env-go111module-off"
	FlagsInsecure    Code = "env-goflags-insecure"
	FlagsVendor      Code = "env-goflags-vendor"
	FlagsInvalid     Code = "env-goflags-invalid"
	GoproxyFile      Code = "env-goproxy-file"
	VariableShadowed Code = "env-shadowed"
	VariableUnknown  Code = "env-unknown-variable"
	GoMissing        Code = "env-go-missing"
	GoOld            Code = "env-go-old"
)

var environmentTable = []Entry{
	{GoproxyPipe, Warn, "GOPROXY has a | behind a proxy: any error of that proxy is passed over in silence", "",
		"A comma lets the go command go on to the next entry only if the proxy answers 404 or 410. A | lets it go on after every error: a refusal by policy (403), a certificate that is not trusted, an outage. With |direct, every rule of the proxy can be passed by, and the names of private modules go to their hosts or to the public.",
		setTo("GOPROXY", "{url}")},
	{GoproxyDirect, Warn, "GOPROXY has direct behind your own proxy", "",
		"Whatever the proxy answers with 404, the go command then fetches from the repository itself, around the proxy: without its rules and its cache, and telling the module's name to its host.",
		setTo("GOPROXY", "{url}")},
	{GoproxyOff, Fail, "GOPROXY is off: nothing may be downloaded", "module lookup disabled by GOPROXY=off",
		"With GOPROXY=off the go command uses what is in its cache and asks nobody.",
		setTo("GOPROXY", "https://your-proxy.example")},
	{GoproxyNone, Warn, "GOPROXY is direct: no proxy is asked", "",
		"The go command clones repositories itself. It needs git and credentials, and is slow.",
		setTo("GOPROXY", "https://your-proxy.example")},
	{GoproxyWord, Fail, "GOPROXY has a word that the go command does not know: {value}", "invalid proxy URL missing scheme: {value}",
		"GOPROXY is a list of URLs and of the words direct and off. Recipes with insecure as an entry are wrong: there is no such word, and no switch that makes the go command trust a bad certificate of a proxy.",
		append(fitted("take {value} out of GOPROXY"), Remedy{Do: "if a certificate is the trouble, run modgate doctor with the URL of the proxy"})},
	{GoproxyInvalid, Fail, "GOPROXY has an entry that is no URL: {value}", "",
		"Entries are URLs that begin with https://, http:// or file:///, or host names, with commas between them.",
		fitted("correct {value} in GOPROXY")},
	{GoproxyEmpty, Fail, "GOPROXY has separators, but no entry", "GOPROXY list is not the empty string, but contains no entries",
		"The value is made of commas or spaces alone, often because a variable in it was empty.",
		setTo("GOPROXY", "https://your-proxy.example")},
	{GoproxyRest, Warn, "GOPROXY has entries behind {value} that are never used", "",
		"direct and off end the list.",
		fitted("put the proxies in front of {value}, or take them out")},
	{GoproxyPassword, Fail, "GOPROXY has a password in an http:// URL", "refusing to pass credentials to insecure URL: {url}",
		"The go command sends no credentials without TLS.",
		also(setTo("GOPROXY", "{url}"), Remedy{Do: "and leave user and password to netrc: machine {machine} login USER password TOKEN in ~/.netrc"})},
	{NoproxyBypass, Note, "Modules that match {value} are fetched around the proxy", "",
		"GOPRIVATE is the default of GONOPROXY. If the proxy serves private modules, say that nothing goes around it.",
		setTo("GONOPROXY", "none")},
	{ModulesOff, Fail, "GO111MODULE is off: there are no modules, and no proxy is asked", "go: modules disabled by GO111MODULE=off; see 'go help modules'",
		"The variable is from 2018, when modules were new.",
		setTo("GO111MODULE", "on")},
	{FlagsInsecure, Fail, "GOFLAGS has -insecure: go get refuses it, and no other command knows it", "-insecure flag is no longer supported; use GOINSECURE instead",
		"go get -insecure was removed in Go 1.17. GOINSECURE replaced it for repositories; for a proxy there is no such switch.",
		fitted("take -insecure out of GOFLAGS")},
	{FlagsInvalid, Fail, "GOFLAGS has what the go command cannot read: {value}", "go: parsing $GOFLAGS: ",
		"Each word is a flag of some go command, which begins with -, as in -mod=mod; one with blanks stands in quotes as a whole.",
		append(fitted("take that out of GOFLAGS"), Remedy{Do: "or correct it: go help build has the usual ones"})},
	{GoproxyFile, Fail, "GOPROXY names a directory that is not there: {file}", "no such file or directory",
		"With file:// the go command reads modules from a directory laid out like the paths of a proxy, as GOMODCACHE/cache/download is.",
		[]Remedy{{Do: "ls -ld {file}"}, {Fitted, "{command}"}}},
	{FlagsVendor, Note, "GOFLAGS has -mod=vendor: builds ask no proxy", "",
		"With -mod=vendor everything comes from the vendor directory.", nil},
	{VariableShadowed, Note, "{variable} was set with go env -w, but the environment has another value, which wins", "",
		"The environment always wins over go env -w.",
		[]Remedy{{Do: "unset {variable}"}}},
	{VariableUnknown, Warn, "{variable} is set, but the go command does not know that name", "",
		"A wrong recipe, or a slip. What was meant has no effect.",
		[]Remedy{{Do: "{value}"}}},
	{GoMissing, Note, "There is no go command on the PATH", "", "The settings were read without it: those of its distribution (GOROOT/go.env) are missing.",
		[]Remedy{{Do: "run modgate doctor in the environment in which the builds run"}}},
	{GoOld, Warn, "The go command is {value}, which can be fooled by a forged checksum database", "",
		"Before 1.25.13 and 1.26.6 the go command accepts unrelated hashes from a forged checksum database (CVE-2026-56865, CVE-2026-56864).",
		[]Remedy{{Do: "install Go 1.26.6 or newer: https://go.dev/dl/"}}},
}
