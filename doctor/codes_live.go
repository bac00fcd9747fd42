package doctor

// Findings that a running server makes by itself.
const (
	ReloadFailed Code = "server-reload"
	CacheBroken  Code = "server-cache"
	DirLost      Code = "server-directory-lost"
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
	{DirLost, Fail, "{file} ({variable}) is not the directory any more that the server has opened", "",
		"It was removed, renamed, replaced or mounted over while the server ran. What was cached is not found, and nothing can be kept: every request goes to the upstream, and private modules that only the cache has cannot be had.",
		[]Remedy{{Do: "put it back, if it was renamed or mounted over"}, {Do: "else restart the server: it makes the directory anew, and fills it (systemctl restart modgate)"}}},
}
