package doctor

// Findings that a running server makes by itself.
const (
	ReloadFailed Code = "server-reload"
	CacheBroken  Code = "server-cache"
)

var liveTable = []Entry{
	{ReloadFailed, Warn, "{file} ({variable}) was changed, and cannot be used as it is now", "",
		"It cannot be read, or has a mistake. What it said before stays in force.",
		[]Remedy{{Do: "mend what the text says; it is read again within seconds"}, {Do: "modgate config --check"}}},
	{CacheBroken, Warn, "The cache cannot be read or written: {value}", "",
		"The disk or its file system fails. Clients are served from the upstream meanwhile; what only the cache has cannot be had.",
		[]Remedy{{Linux, "dmesg --level=err,warn | tail   (what the kernel says of the disk)"}, {Do: "modgate cache verify"}}},
}
