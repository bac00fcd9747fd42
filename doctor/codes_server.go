package doctor

// Findings on the machine of a server.
const (
	ConfigMistake    Code = "server-config"
	SecretReadable   Code = "server-secret-mode"
	FileUnreadable   Code = "server-file"
	DirUnwritable    Code = "server-directory"
	DiskLow          Code = "server-disk"
	InodesLow        Code = "server-inodes"
	CacheTooBig      Code = "server-cache-size"
	FewFiles         Code = "server-open-files"
	ProgramMissing   Code = "server-program"
	ProgramOld       Code = "server-program-old"
	NotRunning       Code = "server-not-running"
	UpstreamDirect   Code = "server-upstream-direct"
	PrivateFails     Code = "server-private"
	CertificateAlarm Code = "server-certificate"
)

// Findings about certificates by ACME.
const (
	ACMEProblem   Code = "acme-problem"
	ACMEDirectory Code = "acme-directory"
	ACMENoName    Code = "acme-name"
	ACMEElsewhere Code = "acme-name-elsewhere"
	ACMEPort      Code = "acme-port"
)

var serverTable = []Entry{
	{ConfigMistake, Fail, "The configuration has a mistake: {value}", "",
		"modgate serve does not start with it.",
		[]Remedy{{Do: "modgate config --check"}}},
	{SecretReadable, Warn, "{file} ({variable}) can be read by every user of this machine", "",
		"It holds credentials or a private key.",
		[]Remedy{{Do: "chmod 600 {file}"}, {Do: "or chmod 640 {file}, and make the group that of the server"}}},
	{FileUnreadable, Fail, "{file} ({variable}) cannot be read", "",
		"It is not there, or this user may not read it. Run doctor as the user of the server.",
		[]Remedy{{Do: "ls -l {file}"}}},
	{DirUnwritable, Fail, "{file} ({variable}) cannot be written", "",
		"Nothing can be kept there: every request goes to the upstream, and new certificates are lost. Run doctor as the user of the server.",
		[]Remedy{{Do: "install -d -o modgate -m 700 {file}"}}},
	{DiskLow, Warn, "The disk of {file} ({variable}) is almost full: {value}", "",
		"modgate evicts to keep space free, and serves on without storing where there is none. Certificates that cannot be stored are lost.",
		[]Remedy{{Do: "df -h {file}"}, {Do: "lower cache.max_size, or give the cache a disk of its own"}}},
	{InodesLow, Warn, "The file system of {file} ({variable}) has almost no inodes left: {value}", "",
		"A cached module is six small files. There may be space and yet no room for another file.",
		[]Remedy{{Do: "df -i {file}"}, {Do: "make the file system with more inodes (mkfs.ext4 -i 8192), or use XFS"}}},
	{CacheTooBig, Warn, "cache.max_size is {value}, more than the disk of {file} has", "",
		"The disk is full before the limit is reached. modgate then evicts by free space.",
		[]Remedy{{Do: "lower cache.max_size"}}},
	{FewFiles, Warn, "This process may open {value} files only", "",
		"Each client and each file that is served is one. Limits of a service are not those of your shell: look at the service.",
		[]Remedy{{Do: "systemd: LimitNOFILE=65536 in the unit; Docker: --ulimit nofile=65536"}}},
	{ProgramMissing, Fail, "The command {value} is not there, and private modules need it", "",
		"modgate fetches private modules with the go and git commands of its machine.",
		[]Remedy{{Debian, "apt-get install -y git openssh-client, and Go from https://go.dev/dl/"}, {Alpine, "apk add go git openssh-client"}, {Do: "or leave private modules to the clients: direct.go: off"}}},
	{ProgramOld, Warn, "{value} has holes that are known", "",
		"Old releases of go and git run code of a repository while they clone it (git: CVE-2024-32002, CVE-2025-48384; go: CVE-2025-68119), and old go commands can be fooled by a forged checksum database (CVE-2026-56865).",
		[]Remedy{{Do: "install Go 1.26.6 or newer, and git 2.50.1 or newer, or the security update of your distribution"}}},
	{NotRunning, Note, "No server answers on the admin listener", "",
		"What only the server itself knows could not be asked: certificates, their problems, clients that refuse them.",
		[]Remedy{{Do: "modgate serve; then run modgate doctor --server again"}}},
	{UpstreamDirect, Warn, "upstream has an entry that modgate does not use: {value}", "",
		"Public modules come from module proxies alone.",
		[]Remedy{{Do: "take it out of upstream; private modules belong under private"}}},
	{PrivateFails, Fail, "The private module {value} cannot be had from its repository", "",
		"The text says why: credentials, trust, network, or no such repository.",
		[]Remedy{{Do: "docs/private.md has the rules of direct.file: which credentials are used for which repository"}}},
	{CertificateAlarm, Warn, "The certificate for {host} has an alarm: {value}", "",
		"Clients fail now, or will.",
		[]Remedy{{Do: "the text says what to do; modgate tls status shows the state"}}},
}

var acmeTable = []Entry{
	{ACMEProblem, Fail, "The CA has given no certificate for {host}: {value}", "",
		"The last attempt failed. It is repeated by itself, with growing pauses.",
		[]Remedy{{Do: "mend what the text says, then: modgate tls renew {host}"}, {Do: "after many failures, try with the staging CA first, whose limits are wide: tls.ca: letsencrypt-staging"}}},
	{ACMEDirectory, Fail, "{url} is no ACME directory: {value}", "",
		"The URL is wrong, or something between answers.",
		[]Remedy{{Do: "tls.ca: letsencrypt, or the URL of the directory as the CA gives it"}}},
	{ACMENoName, Fail, "{host} has no address in DNS", "",
		"The CA cannot find the server, and neither can clients.",
		[]Remedy{{Do: "add an A or AAAA record for {host}"}, {Do: "or use dns-01, which needs no address: tls.challenge"}}},
	{ACMEElsewhere, Note, "{host} leads to {value}, which is no address of this machine", "",
		"That is right behind a load balancer or NAT. Else the CA goes to another machine, and the challenge fails.",
		[]Remedy{{Do: "compare the address with that of the load balancer"}}},
	{ACMEPort, Warn, "{host} cannot be reached on port {port} from here, where the CA will come", "",
		"Nobody listens there, or a firewall or missing port forwarding is in the way. Some routers do not lead back in what comes from inside: then a test from outside decides.",
		[]Remedy{{Do: "open port {port}, and lead it to the listener of modgate"}, {Do: "or use dns-01: tls.challenge"}}},
}
