package doctor

import "slices"

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

	CertificateExpired Code = "server-certificate-expired"
	RenewalDue         Code = "server-certificate-due"
	StoredSpoilt       Code = "server-certificate-stored"
	PairFails          Code = "server-certificate-pair"
	StorageFails       Code = "server-storage"
	OtherUser          Code = "server-user"
	SharedFails        Code = "server-shared"
	SharedDown         Code = "server-shared-down"
	SharedSlow         Code = "server-shared-slow"
	RedisEvicts        Code = "server-redis-evicts"
	RedisFull          Code = "server-redis-full"
	RedisNoRoom        Code = "server-redis-no-room"
	RedisUnbounded     Code = "server-redis-unbounded"
	RedisForgets       Code = "server-redis-forgets"
	RedisDisk          Code = "server-redis-disk"
	CredentialFails    Code = "server-credential"
)

// Findings about certificates by ACME.
const (
	ACMEProblem   Code = "acme-problem"
	ACMEDown      Code = "acme-ca-down"
	ACMEDirectory Code = "acme-directory"
	ACMENoName    Code = "acme-name"
	ACMEElsewhere Code = "acme-name-elsewhere"
	ACMEPort      Code = "acme-port"
	ACMEAddress   Code = "acme-address"
	ACMEStranger  Code = "acme-stranger"
	ACMEALPN      Code = "acme-alpn"
	ACMEAccount   Code = "acme-account"
	ACMELimited   Code = "acme-limited"
	ACMEAttempts  Code = "acme-attempts"
	CAAForbids    Code = "acme-caa"
	CAAFails      Code = "acme-caa-lookup"
	ZoneMissing   Code = "acme-zone"
	RecordRefused Code = "acme-record"
	RecordUnseen  Code = "acme-record-unseen"
	ProbeFails    Code = "acme-probe"
	ProbeLeft     Code = "acme-probe-left"
	StagingFails  Code = "acme-staging"
)

// Why a private module cannot be had.
const (
	unmatched  = "a module that no pattern under private matches"
	notFetched = "a server with direct.go off"
	notGiven   = "a repository that does not give it"
)

// Where a certificate comes from.
const (
	fromFiles = "a certificate from files"
	renewable = "one that the server gets or makes by itself"
)

var serverTable = []Entry{
	{ConfigMistake, Fail, "The configuration has a mistake: {value}", "",
		"modgate serve does not start with it.",
		append(ruleRemedies[:len(ruleRemedies):len(ruleRemedies)], Remedy{Do: "modgate config --check"})},
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
		"What only the server itself knows could not be asked: what requests have met, certificates and their problems, clients that refuse them.",
		[]Remedy{{Do: "start it (modgate serve), then run modgate doctor --server again"}}},
	{UpstreamDirect, Warn, "upstream has an entry that modgate does not use: {value}", "",
		"Public modules come from module proxies alone.",
		[]Remedy{{Do: "take it out of upstream; private modules belong under private"}}},
	{PrivateFails, Fail, "The private module {value} cannot be had from its repository", "",
		"The text says why: credentials, trust, network, or no such repository.",
		[]Remedy{
			{of(unmatched), "add {setting} to private   (MODGATE_PRIVATE, or private: in the configuration file), and start the server again"},
			{of(notFetched), "direct.go: go   (or leave private modules to the clients: GONOPROXY={value} there)"},
			{of(notGiven), "docs/private.md has the rules of direct.file: which credentials are used for which repository"},
		}},
	{CertificateAlarm, Warn, "The certificate for {host} has an alarm: {value}", "",
		"Clients fail now, or will.",
		slices.Concat([]Remedy{{AsTold, "{advice}"}}, pairRemedies, chainRemedies, []Remedy{{Do: "modgate tls status   (shows the state; what is mended is noticed within seconds)"}})},
	{CertificateExpired, Fail, "The certificate for {host} expired on {value}", "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time {now} is after {value}",
		"It was not renewed in time. What is served goes on being served, so that clients see why they fail.",
		[]Remedy{
			{of(fromFiles), "put a certificate that is still good into {host}, by what made it; it is read again within seconds"},
			{of(renewable), "modgate tls renew {host}"},
			{of(renewable), "the other findings say why it was not renewed"},
		}},
	{RenewalDue, Warn, "The certificate for {host} was to be renewed on {value}, and was not", "",
		"No server is running that would do it, or it cannot: its log says why.",
		[]Remedy{{Do: "modgate tls renew {host}"}, {Do: "see that the server runs; it tries by itself"}}},
	{StoredSpoilt, Warn, "The stored certificate for {host} cannot be used: {value}", "",
		"Certificate and key do not belong together, or a file is cut off. A server that starts puts it aside and orders another, which counts against the limits of the CA.",
		[]Remedy{{Do: "restore the directory of tls.storage from a backup, or let the server order anew: modgate tls renew {host}"}}},
	{PairFails, Fail, "The certificates cannot be served: {value}", "",
		"A server does not start with them. One that runs keeps those that it has, until it ends.",
		append(pairRemedies[:len(pairRemedies):len(pairRemedies)], Remedy{Do: "tls.files: CERT:KEY, the certificate of the server first in its file"})},
	{StorageFails, Fail, "The storage of certificates cannot be read: {value}", noCertificateText,
		"Nothing that is stored is served, nothing is ordered, and replicas cannot answer each other's challenges.",
		[]Remedy{{Do: "tls.storage names it: see that it is there, and that this user may read it"}}},
	{OtherUser, Note, "{file} ({variable}) belongs to the user {value}, and doctor runs as another", "",
		"What this user may read and write says little about what the server may.",
		[]Remedy{{Linux, "sudo -u {value} modgate doctor --server"}}},
	{SharedFails, Warn, "{host} ({variable}) answers, but cannot be used: {value}", "",
		"It is left alone until it answers as it should. Without a bucket or a Redis replicas fetch what others have; without the storage of certificates none is renewed.",
		[]Remedy{{AsTold, "{advice}"}, {Do: "compare user, password, names and rights under {variable} with what that server expects"}}},
	{SharedDown, Warn, "{host} ({variable}) cannot be reached: {value}", "",
		"Builds go on without it. Without a bucket or a Redis replicas fetch what others have; without the storage of certificates none is renewed.",
		[]Remedy{{AsTold, "{advice}"}, {Do: "on the machine of modgate: modgate doctor --server tries it"}}},
	{SharedSlow, Warn, "{host} ({variable}) takes {value} for an answer", "",
		"That is more than half of the time after which it is given up: what is slower by chance counts as trouble.",
		[]Remedy{{Do: "put it near the replicas; cache.s3.timeout and cache.redis.timeout say how long is waited"}}},
	{RedisEvicts, Warn, "The Redis at {host} ({variable}) may evict certificates and keys: {value}", "",
		"What it evicts is ordered again, which counts against the limits of the CA; a lost account or root is worse.",
		[]Remedy{{Do: "redis-cli config set maxmemory-policy noeviction, and in redis.conf; or another Redis for tls.storage"}}},
	{RedisFull, Warn, "The Redis at {host} ({variable}) refuses to write when it is full: {value}", "",
		"Small files, leases and news of the fleet then stop until something expires.",
		[]Remedy{{Do: "redis-cli config set maxmemory-policy allkeys-lru, and in redis.conf"}}},
	{RedisNoRoom, Fail, "The Redis at {host} ({variable}) has no room left: {value}", noCertificateText,
		"It refuses every change, and may not evict: no certificate is ordered that could not be kept.",
		[]Remedy{{Do: "redis-cli config set maxmemory 1gb, and in redis.conf; or another Redis for tls.storage"}}},
	{RedisUnbounded, Note, "The Redis at {host} ({variable}) has no bound for its memory", "",
		"It grows until what it keeps expires, or until its machine has no memory left.",
		[]Remedy{{Do: "redis-cli config set maxmemory 1gb; redis-cli config set maxmemory-policy allkeys-lru; and in redis.conf"}}},
	{RedisForgets, Warn, "The Redis at {host} ({variable}) forgets everything when it ends: {value}", "",
		"Certificates are ordered again then, and an authority of our own is made anew, which no client trusts.",
		[]Remedy{{Do: "redis-cli config set appendonly yes, and in redis.conf"}}},
	{RedisDisk, Warn, "The Redis at {host} ({variable}) cannot write to its disk: {value}", "",
		"It refuses changes until it can, unless it is told otherwise, and what it has is lost with it.",
		[]Remedy{{Do: "look at its log, and at the space of its disk"}}},
	{CredentialFails, Fail, "The credentials for {host} do not work: {value}", "",
		"Private modules of that host cannot be had with them. They may have expired, may be for another host or port, or may lack the right to read.",
		[]Remedy{{Do: "compare credentials in direct.file with what the host has given out; docs/private.md has the rules"}, {Do: "then with a module of that host: modgate doctor --server MODULE"}}},
}

// noCertificateText is what the go command says to a server that has no certificate
// yet, whatever the CA has against it.
const noCertificateText = "remote error: tls: internal error"

var acmeTable = []Entry{
	{ACMEProblem, Fail, "The CA has given no certificate for {host}: {value}", noCertificateText,
		"The last attempt failed. It is repeated by itself, with growing pauses.",
		[]Remedy{{AsTold, "{advice}"}, {Do: "mend what the text says, then: modgate tls renew {host}"}, {Do: "after many failures, try with the staging CA first, whose limits are wide: tls.ca: letsencrypt-staging"}}},
	{ACMEDown, Fail, "The CA ({url}) cannot be reached from here: {value}", noCertificateText,
		"No certificate can be ordered or renewed. What is served goes on being served.",
		[]Remedy{{Do: "tls.ca: letsencrypt, or the URL of the directory as the CA gives it; a CA of your own must run there"}, {Do: "open the way to {host}, port {port}, for this machine; where it goes through an HTTP proxy, set HTTPS_PROXY for modgate"}}},
	{ACMEDirectory, Fail, "{url} is no ACME directory: {value}", noCertificateText,
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
	{ACMEAddress, Warn, "{value}, one of the addresses of {host}, cannot be reached on port {port}", "",
		"A CA takes the address that it likes, IPv6 first where there is one. An AAAA record that leads nowhere is the usual reason why a challenge fails that can be fetched by hand.",
		[]Remedy{{Do: "let {value} lead to the listener of modgate, or take its record away"}}},
	{ACMEStranger, Warn, "What answers on port {port} of {host} is not this server: {value}", "",
		"The CA comes there, and finds no answer to its challenge. The record leads to another machine, another program has the port, or a router answers itself to what comes from inside (then look from outside).",
		[]Remedy{{Do: "lead port {port} of {host} to the listener of modgate: tls.http_listen for http-01, listen for tls-alpn-01"}, {Do: "modgate doctor --server --probe answers a made-up challenge and looks for it"}, {Do: "or use dns-01: tls.challenge"}}},
	{ACMEALPN, Warn, "What answers on port {port} of {host} does not know acme-tls/1", "",
		"TLS ends at something in front of modgate, so that the challenge tls-alpn-01 does not arrive.",
		[]Remedy{{Do: "let it pass TLS on without opening it (nginx: stream, HAProxy: mode tcp)"}, {Do: "or use http-01 or dns-01: tls.challenge"}}},
	{ACMEAccount, Warn, "The CA does not take the account that is stored: {value}", "",
		"The CA was rebuilt, or the account was deactivated. The server registers another with its next order, unless the CA wants to know it beforehand.",
		[]Remedy{{Do: "modgate tls renew NAME, and look at what it says; tls.eab_key_id and tls.eab_mac_key are for CAs that want them"}}},
	{ACMELimited, Fail, "The CA refuses orders for {host} until {value}", noCertificateText,
		"Too many orders or failures: a limit of the CA. More attempts make it last longer, and modgate makes none before that time.",
		[]Remedy{{Do: "wait until {value}; then: modgate tls renew {host}"}, {Do: "meanwhile find out with a CA for trials: modgate doctor --server --staging"}}},
	{ACMEAttempts, Note, "{host} was tried {value} times in the last hour, and failed", "",
		"Let's Encrypt lets five validations of a name fail in an hour, and signs the same names five times in a week.",
		[]Remedy{{Do: "mend what the other findings say before the next attempt: modgate doctor --server --staging shows whether it helps"}}},
	{CAAForbids, Fail, "The CAA records at {value} do not let the CA sign for {host}", noCertificateText,
		"A CA looks at them before it signs (RFC 8659): the nearest name with any counts, and one of its records must name the CA.",
		[]Remedy{{Do: "add to the zone: {value}. CAA 0 issue \"{url}\"   (issuewild for wildcards)"}, {Do: "or take a CA that the records name: tls.ca"}}},
	{CAAFails, Warn, "The CAA records of {host} cannot be looked up at {value}", "",
		"A CA that gets no answer does not sign. It is a fault of the zone's name servers, of DNSSEC, or of the resolver here.",
		[]Remedy{{Do: "dig CAA {value}"}}},
	{ZoneMissing, Fail, "The zone for the record _acme-challenge of {host} is not found: {value}", "",
		"dns-01 needs to know which zone the record goes into: the nearest name above it with an SOA record.",
		[]Remedy{{Do: "dig SOA _acme-challenge.{host}"}, {Do: "where the zone is seen inside the house alone: tls.dns_resolvers: its name servers"}}},
	{RecordRefused, Fail, "The DNS provider does not make the record for {host}: {value}", "",
		"The credentials are wrong, or may not change that name.",
		[]Remedy{{Do: "compare tls.dns_settings with what the provider gave out; docs/tls.md lists the settings"}}},
	{RecordUnseen, Fail, "The record that the provider made for {host} is not seen at {value}", "",
		"That server does not have the record, or has it late. A CA asks the servers of the zone, any of them.",
		[]Remedy{{Do: "see that all name servers of the zone get its changes (NOTIFY, zone transfer), and that the provider has the zone that the public sees"}}},
	{ProbeFails, Fail, "The answer to a challenge for {host} does not arrive through port {port}: {value}", "",
		"Doctor answered a made-up challenge and looked for it by name. A CA would see the same, unless it comes another way.",
		[]Remedy{{Do: "lead port {port} of {host} to the listener of modgate"}, {Do: "or use dns-01: tls.challenge"}}},
	{ProbeLeft, Warn, "What doctor made for {host} could not be taken back: {value}", "",
		"A file of a challenge is no harm, and neither is a TXT record that no CA asks for.",
		[]Remedy{{Do: "remove the TXT records _acme-challenge.{host} by hand, if there are any"}}},
	{StagingFails, Fail, "The CA for trials gives no certificate for {host}: {value}", "",
		"The CA of the server would say the same, without the chance to try again at will.",
		[]Remedy{{AsTold, "{advice}"}, {Do: "mend what the text says, then again: modgate doctor --server --staging"}}},
}
