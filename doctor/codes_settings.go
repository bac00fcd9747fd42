package doctor

// Findings about checksums, credentials and HTTP proxies.
const (
	InsecureUseless  Code = "env-goinsecure"
	SumdbOff         Code = "env-gosumdb-off"
	SumdbInvalid     Code = "env-gosumdb-invalid"
	NosumdbWide      Code = "env-gonosumdb-wide"
	VariableEmpty    Code = "env-empty-variable"
	DebugUnknown     Code = "env-godebug-unknown"
	ToolchainInvalid Code = "env-gotoolchain-invalid"
	AuthOff          Code = "env-goauth-off"
	AuthInvalid      Code = "env-goauth-invalid"
	AuthCommand      Code = "env-goauth-command"
	AuthFails        Code = "env-goauth-fails"
	NetrcPort        Code = "env-netrc-port"
	NetrcMissing     Code = "env-netrc-missing"
	NetrcPlain       Code = "env-netrc-http"
	HTTPProxyCase    Code = "env-http-proxy-case"
	HTTPProxyInvalid Code = "env-http-proxy-invalid"
	NoProxyEntry     Code = "env-no-proxy-entry"
	PatternMissing   Code = "env-private-missing"
	NoproxyBypassed  Code = "env-gonoproxy-set"
	HTTPProxySelf    Code = "env-http-proxy-self"
	PatternUseless   Code = "env-private-pattern"
	AllProxyUnread   Code = "env-all-proxy"
	NetrcReadable    Code = "env-netrc-mode"
	ToolchainMissing Code = "env-gotoolchain-missing"
)

// How a command of GOAUTH gives nothing.
const (
	fails = "a command that fails"
	hangs = "a command that does not end"
)

var settingsTable = []Entry{
	{InsecureUseless, Warn, "GOINSECURE has no effect on a proxy", "",
		"GOINSECURE is about repositories that are fetched directly, by module path. The certificate of a proxy is always verified.",
		also(unset("GOINSECURE"), Remedy{Do: "let this machine trust the authority instead: modgate doctor says how where that is the trouble"})},
	{SumdbOff, Warn, "GOSUMDB is off: what is downloaded for the first time is not compared with the checksum database", "",
		"Only go.sum protects then, and a new line in it is believed without proof.",
		also(setTo("GOSUMDB", "sum.golang.org"), Remedy{Do: "for private modules alone: {nosumdb}"})},
	{SumdbInvalid, Fail, "GOSUMDB is not the name of a checksum database that the go command knows, and has no key", "invalid GOSUMDB",
		"GOSUMDB is a name that the go command knows (sum.golang.org), or name+key, or name+key and a URL.",
		setTo("GOSUMDB", "sum.golang.org")},
	{NosumdbWide, Warn, "{variable} covers every module: no checksum is compared with the checksum database", "",
		"The pattern * matches public modules as well.",
		setTo("{variable}", "your-private-pattern")},
	{VariableEmpty, Warn, "{variable} is empty in the environment, which the go command takes for not set", "",
		"An empty variable does not switch the pattern off: the value of go env -w, or of GOPRIVATE, is used.",
		[]Remedy{{Do: "export {variable}=none"}}},
	{DebugUnknown, Warn, "GODEBUG has a setting that does not exist: {value}", "",
		"Go ignores unknown settings in silence. None of them switches the verification of certificates off.",
		fitted("take {value} out of GODEBUG")},
	{ToolchainInvalid, Fail, "GOTOOLCHAIN has a value that the go command does not know: {value}", "go: invalid GOTOOLCHAIN \"{value}\"",
		"Values are local, auto, path, a version as in go1.26.8, or a version with +auto or +path behind it.",
		setTo("GOTOOLCHAIN", "auto")},
	{AuthOff, Warn, "GOAUTH is off, though netrc has credentials for {host}", "401 Unauthorized",
		"With GOAUTH=off the go command reads no netrc.",
		setTo("GOAUTH", "netrc")},
	{AuthInvalid, Fail, "GOAUTH has a value that ends every go command", "go: GOAUTH",
		"off stands alone, and git needs the absolute path of a directory that exists.",
		setTo("GOAUTH", "netrc")},
	{AuthCommand, Warn, "GOAUTH names a command that is not there: {value}", "401 Unauthorized",
		"The go command passes over it in silence, and then has no credentials.",
		[]Remedy{{Do: "install {value}, or correct its name in GOAUTH"}}},
	{AuthFails, Warn, "The command {value} of GOAUTH gives nothing that the go command can use", "401 Unauthorized",
		"The go command runs it before its first request, and again with a URL that was refused. That it fails is passed over in silence; where it does not end, neither does the go command. It must print URLs, an empty line, header lines, and an empty line (go help goauth).",
		[]Remedy{
			{of(fails), "run it as GOAUTH has it, then with {url} behind it, and mend what it says"},
			{of(hangs), "run it as GOAUTH has it: it must end by itself, and ask nobody for anything"},
			{Do: "go mod download -x prints what the go command makes of it, where a request is refused"},
		}},
	{NetrcPort, Warn, "netrc has credentials for {host}, but not for {host}:{port}", "401 Unauthorized",
		"The go command compares the machine with host and port together. \"machine {host}\" is for port 443 alone.",
		[]Remedy{{Do: "write \"machine {host}:{port}\" into {file}"}}},
	{NetrcMissing, Warn, "NETRC names a file that cannot be read: {file}", "401 Unauthorized",
		"The go command then has no credentials, and says nothing.",
		[]Remedy{{Do: "unset NETRC   (the file in the home directory is read then; or correct its name)"}}},
	{NetrcPlain, Warn, "netrc has credentials for {host}, but the URL begins with http://", "401 Unauthorized",
		"The go command sends credentials over TLS alone.",
		setTo("GOPROXY", "https://{host}")},
	{HTTPProxyCase, Warn, "{variable} is set twice, in upper and lower case, with different values", "",
		"The go command takes the one in upper case; curl takes the other. One works where the other does not.",
		[]Remedy{{Do: "set both to the same value: export {value}"}}},
	{HTTPProxyInvalid, Fail, "{variable} is no URL of a proxy", "",
		"The go command cannot make a request with it.",
		[]Remedy{{Do: "export {variable}=http://proxy.example:3128"}}},
	{NoProxyEntry, Warn, "NO_PROXY has an entry that can match nothing: {value}", "",
		"Entries are host names, .domains, IP addresses and CIDR blocks, each with a port if need be, without http:// and without a path.",
		[]Remedy{{Do: "write the host alone in NO_PROXY"}}},
	{PatternMissing, Warn, "{variable} lacks {value}, which is private at {host}", "403 Forbidden",
		"The go command would look such modules up in the public checksum database, which does not know them and must not hear of them. modgate refuses that lookup, and the go command stops.",
		[]Remedy{{InEnvironment, "export {setting}"}, {ByGoEnv, "go env -w {setting}"}, {InGoroot, "go env -w {setting}"}}},
	{NoproxyBypassed, Warn, "Modules that match {value} go around {host}, which would serve them", "",
		"GOPRIVATE is the default of GONOPROXY: the go command fetches such modules from their repositories itself, with git and credentials of this machine. The proxy says that it has them.",
		setTo("GONOPROXY", "none")},
	{HTTPProxySelf, Fail, "{variable} names the module proxy itself", "",
		"A module proxy is no HTTP proxy: it is named by GOPROXY alone, and passes no connections on. Asked to reach itself through itself, it refuses.",
		[]Remedy{{InEnvironment, "unset {variable}"}, {Do: "unless there is an HTTP proxy to go through: export {variable}=http://proxy.example:3128"}}},
	{PatternUseless, Warn, "{variable} has a pattern that can match no module: {value}", "",
		"Patterns are beginnings of module paths with * and ?, separated by commas alone. Blanks, https://, ports, /... and line ends of Windows (CR) are taken for a part of the path, and then nothing is private: the names are told to the proxy and to the checksum database.",
		fitted("write {variable} anew: a beginning of module paths, as git.corp.example/team")},
	{NetrcReadable, Warn, "{file} can be read by other users of this machine", "",
		"It holds passwords. The go command takes them all the same.",
		[]Remedy{{Do: "chmod 600 {file}"}}},
	{ToolchainMissing, Fail, "GOTOOLCHAIN demands {value} from the PATH, where it is not", "go: cannot find \"{value}\" in PATH",
		"With +path nothing is downloaded: the toolchain has to be a command of that name.",
		setTo("GOTOOLCHAIN", "auto")},
	{AllProxyUnread, Note, "{variable} is set, which curl obeys and the go command does not", "",
		"The go command reads HTTPS_PROXY, HTTP_PROXY and NO_PROXY alone.",
		[]Remedy{{Do: "if it is needed to reach {host}: export HTTPS_PROXY=\"${variable}\""}}},
}
