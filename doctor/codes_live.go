package doctor

// Findings that a running server makes by itself.
const (
	ReloadFailed Code = "server-reload"
	CacheBroken  Code = "server-cache"
	DirLost      Code = "server-directory-lost"

	ServerBusy    Code = "server-busy"
	Undecided     Code = "server-policy-undecided"
	ServerTrouble Code = "server-trouble"
)

// ruleRemedies are for files that have a command of their own.
var ruleRemedies = []Remedy{{of("policy.file"), "modgate policy check {file}"}, {of("auth.file"), "modgate auth check {file}"}}

var liveTable = []Entry{
	{ReloadFailed, Warn, "{file} ({variable}) was changed, and cannot be used as it is now", "",
		"It cannot be read, or has a mistake. What it said before stays in force.",
		append(ruleRemedies[:len(ruleRemedies):len(ruleRemedies)], Remedy{Do: "mend what the text says; it is read again within seconds"}, Remedy{Do: "modgate config --check"})},
	{CacheBroken, Warn, "The cache cannot be read or written: {value}", "",
		"The disk or its file system fails. Clients are served from the upstream meanwhile; what only the cache has cannot be had.",
		[]Remedy{{Linux, "dmesg --level=err,warn | tail   (what the kernel says of the disk)"}, {Do: "modgate cache verify"}}},
	{ServerBusy, Warn, "The server could not take a request: {value}", "503 Service Unavailable",
		"It was ending, or thousands of fetches were waiting already. The next build may find it well.",
		[]Remedy{{Do: "run the build again"}, {OnServer, "if it is so for long: look at the upstream, which all of them wait for (modgate doctor --server), and at modgate_requests_total"}}},
	{Undecided, Warn, "A rule of the policy could not be applied: facts that it needs were not to be had", "503 Service Unavailable",
		"When a version was made, say, is known from its .info, and that could not be fetched. What cannot be judged is not served.",
		[]Remedy{{Do: "modgate policy explain MODULE@VERSION   (which facts, and why there are none)"}, {Do: "run the build again when the upstream answers"}}},
	{ServerTrouble, Warn, "A request met with a trouble that has no name of its own: {value}", "502 Bad Gateway",
		"The line of the server's log with the number of the request, which the answer shows, has all that is known.",
		[]Remedy{{OnServer, "look for the number of the request in the log: journalctl -u modgate"}, {OnServer, "modgate doctor --server"}}},
	{DirLost, Fail, "{file} ({variable}) is not the directory any more that the server has opened", "",
		"It was removed, renamed, replaced or mounted over while the server ran. What was cached is not found, and nothing can be kept: every request goes to the upstream, and private modules that only the cache has cannot be had.",
		[]Remedy{{Do: "put it back, if it was renamed or mounted over"}, {Do: "else restart the server: it makes the directory anew, and fills it (systemctl restart modgate)"}}},
}
