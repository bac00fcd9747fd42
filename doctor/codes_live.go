package doctor

// Findings that a running server makes by itself.
const (
	ReloadFailed Code = "server-reload"
	CacheBroken  Code = "server-cache"
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
}
