package doctor

// Findings on the way to the server.
const (
	DNSNotFound   Code = "dns-not-found"
	DNSNoServer   Code = "dns-no-server"
	DNSSilent     Code = "dns-silent"
	DNSFailure    Code = "dns-failure"
	DNSSlow       Code = "dns-slow"
	DNSSystemOnly Code = "dns-system-only"
	TCPRefused    Code = "tcp-refused"
	TCPFiltered   Code = "tcp-filtered"
	TCPNoRoute    Code = "tcp-no-route"
	TCPOneAddress Code = "tcp-one-address"
	ProxyDown     Code = "http-proxy-down"
	ProxyAuth     Code = "http-proxy-auth"
	ProxyDenied   Code = "http-proxy-denied"
	ProxyCannot   Code = "http-proxy-cannot"

	ProxyPlain       Code = "http-proxy-plain"
	ProxySecure      Code = "http-proxy-tls"
	ProxyCertificate Code = "http-proxy-certificate"
	ProxyCut         Code = "http-proxy-cut"
)

// Whose way to another ends.
const (
	atClient = "the way to a proxy"
	atServer = "the way from a server to another"
)

var networkTable = []Entry{
	{DNSNotFound, Fail, "The name {host} does not exist, says the name server", "no such host",
		"A slip in the name, a name that only the company's own name servers know (VPN, split DNS), or a container that does not ask them.",
		[]Remedy{
			{Do: "compare {host} with what the owner of the proxy says"},
			{Linux, "getent hosts {host}; cat /etc/resolv.conf"},
			{MacOS, "dscacheutil -q host -a name {host}; scutil --dns"},
			{Windows, "Resolve-DnsName {host}"},
			{Docker, "docker run --dns ADDRESS-OF-THE-COMPANYS-NAME-SERVER …"},
			{Kubernetes, "kubectl -n kube-system get configmap coredns -o yaml   (forward the company's zone to its name servers)"},
		}},
	{DNSNoServer, Fail, "This machine has no name server: {file} names none", "dial tcp: lookup {host}",
		"Go then asks 127.0.0.1:53 and [::1]:53. Containers without a network, and those whose host has an empty file, are like that.",
		[]Remedy{{Docker, "docker run --dns ADDRESS-OF-A-NAME-SERVER …"}, {Linux, "write \"nameserver ADDRESS\" into {file}, or mend what makes that file"}}},
	{DNSSilent, Fail, "The name server does not answer", "i/o timeout",
		"It is down, or a firewall keeps this machine from it.",
		[]Remedy{{Linux, "cat /etc/resolv.conf; getent hosts {host}"}, {MacOS, "scutil --dns"}, {Windows, "Get-DnsClientServerAddress"}}},
	{DNSFailure, Fail, "The name server cannot answer for {host}", "server misbehaving",
		"It answers with an error of its own (SERVFAIL, REFUSED): the zone is broken, DNSSEC fails, or the server may not answer this machine.",
		[]Remedy{{Do: "ask who runs the name server, and name {host}"}}},
	{DNSSlow, Note, "The name server takes long: {value}", "",
		"Often the first name server in the list is dead and each question waits for it, or a search domain is tried first.",
		[]Remedy{{Linux, "cat /etc/resolv.conf   (put the server that answers first)"}}},
	{TCPRefused, Fail, "{host} refuses connections on port {port}: nothing listens there", "connect: connection refused",
		"The machine is there, but no program listens on that port: the server is down, listens on another port or on loopback alone, or a firewall answers in its name.",
		[]Remedy{
			{of(atClient), "compare the port {port} with what the server says when it starts"},
			{of(atClient), "on the server: modgate config | grep listen; ss -ltn"},
			{of(atServer), "on {host}: see that its service runs and listens on port {port} (ss -ltn), and that no firewall refuses this machine"},
			{of(atServer), "or correct what names it: upstream, or repositories in direct.file; if it is reached through an HTTP proxy alone, HTTPS_PROXY of the server"},
		}},
	{TCPFiltered, Fail, "{host} does not answer on port {port}: packets are dropped", "i/o timeout",
		"A firewall or a security group drops them, or the machine is off. A server that is only down would refuse.",
		[]Remedy{{Do: "open port {port} of {host} for this machine in the firewall"}, {of("without"), "if this network reaches others only through an HTTP proxy: export HTTPS_PROXY=http://proxy.example:3128"}, {of("NO_PROXY"), "if it is to be reached through {value}: take {host} out of NO_PROXY"}}},
	{TCPNoRoute, Fail, "There is no way to {host} from here", "connect: network is unreachable",
		"This machine has no route to that address: no VPN, no IPv6, or no network at all.",
		[]Remedy{{of("IPv6"), "{host} has IPv6 addresses alone: give it an A record as well, or give this machine (its container, its VPN) IPv6"}, {Linux, "ip route get {host}"}, {Do: "connect the VPN, or mend the address in DNS"}}},
	{TCPOneAddress, Warn, "{value} of {host} does not answer, others do", "",
		"Each connection may try that address first and wait. Often an IPv6 address (AAAA) that nothing listens on.",
		[]Remedy{{Do: "take the address out of DNS, or let the server listen on it"}}},
	{ProxyDown, Fail, "The HTTP proxy {value} cannot be reached", "proxyconnect tcp",
		"{variable} applies to {host}, and that proxy does not answer.",
		[]Remedy{{Do: "correct {variable}: export {variable}=http://proxy.example:3128"}, {Do: "if {host} is reached without it: export NO_PROXY={bypass}"}}},
	{ProxyPlain, Fail, "The HTTP proxy {value} speaks plain HTTP, but {variable} begins with https://", "proxyconnect tcp: tls: first record does not look like a TLS handshake",
		"With https:// the connection to the proxy itself is by TLS, which few proxies speak. The connection through it is by TLS in either case.",
		[]Remedy{{Do: "export {variable}=http://{value}"}}},
	{ProxySecure, Fail, "The HTTP proxy {value} speaks TLS, but {variable} begins with http://", "EOF",
		"The proxy waits for a handshake, and ends the connection when something else comes.",
		[]Remedy{{Do: "export {variable}=https://{value}"}}},
	{ProxyCertificate, Fail, "The certificate of the HTTP proxy {value} is not accepted", "proxyconnect tcp: tls: failed to verify certificate: x509",
		"{variable} begins with https://: the connection to the proxy itself is by TLS, and its certificate is verified like any other.",
		append([]Remedy{{Do: "get the root certificate of that proxy from your IT department as corporate-root.pem"}}, append(installRoot[:len(installRoot):len(installRoot)], Remedy{Do: "where the proxy speaks plain HTTP as well: export {variable}=http://{value}"})...)},
	{ProxyCut, Fail, "The HTTP proxy {value} takes the connection, but gives no answer", "EOF",
		"What listens there is no HTTP proxy, or one that hangs or ends connections that it does not want.",
		[]Remedy{{Do: "correct {variable}: export {variable}=http://proxy.example:3128"}, {Do: "if {host} is reached without it: export NO_PROXY={bypass}"}}},
	{ProxyAuth, Fail, "The HTTP proxy {value} wants a user and a password", "Proxy Authentication Required",
		"The go command sends those in the URL of the proxy, as Basic. It cannot do NTLM or Kerberos.",
		[]Remedy{{of("sent"), "{variable} has a user and a password, which the proxy does not accept: correct them (with %40 for @, %3A for :, %2F for /)"}, {Do: "export {variable}=http://USER:PASSWORD@{value}"}, {Do: "if {host} is reached without it: export NO_PROXY={bypass}"}, {Do: "for NTLM or Kerberos: run cntlm or px on this machine and name that as the proxy"}}},
	{ProxyDenied, Fail, "The HTTP proxy {value} does not let us through to {host}:{port}", "Forbidden",
		"It answers CONNECT with an error: the host or the port is not allowed, or it cannot reach it.",
		[]Remedy{{Do: "have {host}:{port} allowed by who runs the proxy"}, {Do: "if {host} is reached without it: export NO_PROXY={bypass}"}}},
	{ProxyCannot, Fail, "The HTTP proxy {value} does not reach {host}:{port}", "Service Unavailable",
		"It would let us through, but finds nobody there: the name is not known to it, the port is closed, or a firewall stands behind it. Names of the inside are often not known to a proxy for the outside.",
		[]Remedy{{Do: "if {host} is reached without it: export NO_PROXY={bypass}"}, {Do: "else ask who runs the proxy whether it reaches {host}:{port}"}}},
	{DNSSystemOnly, Fail, "This system knows {host}, but the resolver of the go command does not", "no such host",
		"ping, curl and browsers ask the C library, which asks more than DNS: mDNS, a directory service, systemd. A go command that was built without cgo, as those from go.dev are, asks /etc/hosts and the name servers alone.",
		[]Remedy{{Linux, "getent hosts {host} | sudo tee -a /etc/hosts   (as long as the address stays)"}, {Do: "or have the name answered by DNS"}, {Do: "or build the go command with cgo, as distributions do"}}},
}
