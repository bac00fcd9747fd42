package doctor

// Findings about what a proxy answers.
const (
	ModulePrivate    Code = "module-private"
	ModuleNotFound   Code = "module-not-found"
	WellKnownAbsent  Code = "module-well-known-absent"
	BadAnswer        Code = "proxy-bad-answer"
	SumdbPassedOver  Code = "sumdb-not-mirrored"
	SumdbBroken      Code = "sumdb-broken"
	SumdbUnreachable Code = "sumdb-unreachable"
	SumdbMismatch    Code = "sumdb-mismatch"
	SumdbKey         Code = "sumdb-wrong-key"
	SumdbBehind      Code = "sumdb-behind"
	SumdbForged      Code = "sumdb-forged"
	SumdbUntrusted   Code = "sumdb-untrusted"
	Slow             Code = "speed-slow"
	Unfinished       Code = "speed-unfinished"
)

var protocolTable = []Entry{
	{ModulePrivate, Note, "{value} is private (GOPRIVATE, GONOPROXY): the go command asks no proxy for it, and so was none asked here", "",
		"modgate doctor tells a name to nobody to whom the go command would not tell it.",
		[]Remedy{{Do: "if the proxy serves private modules: {noproxy}"}}},
	{ModuleNotFound, Fail, "The proxy does not have {value}", "404 Not Found",
		"It is proven absent where the proxy looks: a slip in the name or the version, a tag that was never pushed, a private module that the proxy is not configured for.",
		[]Remedy{{Do: "compare the name and the version with the repository's tags"}, {Do: "for a private module: the server needs its pattern under private, and credentials (modgate doctor --server)"}}},
	{WellKnownAbsent, Note, "The proxy does not have {value}, which is asked for where no module is named", "",
		"That is right for a proxy that has the modules of one company alone.",
		[]Remedy{{Do: "name a module that it should have: modgate doctor {url} MODULE@VERSION"}}},
	{BadAnswer, Fail, "The proxy answers something that is not what was asked for: {value}", "",
		"Another program is at that address, or something between changes the answers.",
		[]Remedy{{Do: "open {url} in a browser"}}},
	{SumdbPassedOver, Note, "The proxy does not mirror the checksum database: the go command asks it directly", "",
		"That is allowed, as long as its host can be reached from here.", nil},
	{SumdbBroken, Fail, "The proxy claims to mirror the checksum database, but does not answer: {value}", "",
		"The go command asks the proxy alone once that has said yes, and takes only 404 and 410 for a no.",
		[]Remedy{{Do: "on the server: modgate doctor --server"}, {Do: "if it is not modgate: let it answer 404 under /sumdb/"}}},
	{SumdbUnreachable, Fail, "The checksum database {host} cannot be reached from here, and the proxy does not mirror it", "",
		"The go command verifies every new module with it.",
		[]Remedy{{Do: "allow {host}:443 in the firewall, or use a proxy that mirrors it, as modgate does"}, {Do: "for private modules alone: {nosumdb}"}}},
	{SumdbMismatch, Fail, "What the proxy serves is not what the checksum database has: {value}", "checksum mismatch",
		"The proxy, or something between, has changed the module, or the version was tagged anew after it had been published.",
		[]Remedy{{Do: "do not use it; tell who runs the proxy"}}},
	{SumdbKey, Fail, "The checksum database {host} signs with another key than the one in GOSUMDB", "note has no verifiable signatures",
		"The key behind the name in GOSUMDB is a wrong one or an old one, or somebody else answers in the place of the database.",
		append([]Remedy{{Do: "compare the key in GOSUMDB with what the owner of {host} has published"}}, setTo("GOSUMDB", "sum.golang.org   (the public one, whose key the go command knows)")...)},
	{SumdbForged, Fail, "An answer of the checksum database failed its proof, twice: {value}", "502 Bad Gateway",
		"Somebody between this server and the checksum database changes what it says, or the database is broken. Nothing of it is served.",
		[]Remedy{{Do: "look at what is kept as evidence: the cache has it, under the name that the text of the answer says"}, {Do: "compare over another network: curl -s https://sum.golang.org/latest"}, {Do: "tell security@golang.org if it is the database itself"}}},
	{SumdbUntrusted, Fail, "The checksum database has contradicted itself, and is not asked any more: {value}", "503 Service Unavailable",
		"It has signed two histories that cannot both be true. What was proven before is still served; nothing new is accepted.",
		[]Remedy{{Do: "look at the evidence in the cache, whose name the text says"}, {Do: "remove that file once it is understood, and restart the server"}}},
	{Slow, Note, "{value}", "",
		"Nothing is broken, but builds will feel it.", nil},
	{Unfinished, Warn, "Not everything was tried to its end in {value}", "",
		"Something is very slow, or does not answer. What is named here may be well or not.",
		[]Remedy{{Do: "mend first what else was found, then run modgate doctor again"}, {Do: "look for the slow one among the steps: each says how long answers took"}}},
	{SumdbBehind, Warn, "The checksum database that the proxy mirrors is many days old: {value}", "",
		"The proxy answers from an old tree head, and cannot get a new one. Versions that were published since are not found, or fail their proof.",
		[]Remedy{{Do: "on the server: modgate doctor --server, and its log"}}},
}
