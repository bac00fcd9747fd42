package doctor

// Findings about handshakes that do not come to a certificate, or end after it.
const (
	PlainHTTP         Code = "tls-plain-http"
	OldVersion        Code = "tls-old-version"
	NoCipher          Code = "tls-no-cipher"
	NoCertificate     Code = "tls-no-certificate"
	NoProtocol        Code = "tls-no-protocol"
	ClientCertificate Code = "tls-client-certificate"
	HandshakeCut      Code = "tls-cut"
	HandshakeSilent   Code = "tls-silent"
	HandshakeRefused  Code = "tls-refused"
	ClientRefuses     Code = "tls-client-refuses"
)

var handshakeTable = []Entry{
	{PlainHTTP, Fail, "Port {port} of {host} speaks plain HTTP, not TLS", "http: server gave HTTP response to HTTPS client",
		"The URL begins with https://, the server has no TLS: it is switched off, or it is in front of another port.",
		also(setTo("GOPROXY", "http://{host}:{port}"), Remedy{Do: "or switch TLS on at the server: tls.mode"})},
	{OldVersion, Fail, "{host} speaks no TLS newer than {value}", "tls: protocol version not supported",
		"Go asks for TLS 1.2 or newer.",
		[]Remedy{{Do: "allow TLS 1.2 or 1.3 on the server, or on the load balancer in front of it"}}},
	{NoCipher, Fail, "{host} and Go have no cipher in common", "tls: handshake failure",
		"The server allows old ciphers alone, or its certificate does not go with those that it allows.",
		[]Remedy{{Do: "allow ECDHE ciphers with AES-GCM or ChaCha20 on the server, or TLS 1.3"}}},
	{NoCertificate, Fail, "{host} has no certificate for that name", "tls: internal error",
		"The server gives up because it has no certificate to show: the name is not configured there, or its certificate is still being obtained.",
		[]Remedy{{Do: "compare {host} with the names that the server is configured for"}, {Do: "on a modgate server: modgate doctor --server   (says why the CA has given none)"}}},
	{NoProtocol, Fail, "{host} offers neither HTTP/2 nor HTTP/1.1", "tls: no application protocol",
		"Its list of application protocols (ALPN) lacks h2 and http/1.1.",
		[]Remedy{{Do: "add h2 and http/1.1 to the ALPN list of the server"}}},
	{ClientCertificate, Fail, "{host} asks for a client certificate", "tls: certificate required",
		"The go command cannot show one.",
		[]Remedy{{Do: "switch client certificates off for the proxy's port (verify_client, ssl_verify_client)"}, {Do: "identify clients by a token instead: netrc, GOAUTH"}}},
	{HandshakeCut, Fail, "{host}:{port} ends the connection in the middle of the handshake", "EOF",
		"A firewall that reads the server's name, a load balancer without a backend, or a server that does not speak TLS at all.",
		[]Remedy{{Do: "openssl s_client -connect {host}:{port} -servername {host}   (and the same from another network)"}}},
	{HandshakeSilent, Fail, "{host}:{port} accepts the connection, but does not answer the handshake", "net/http: TLS handshake timeout",
		"The program behind the port hangs, does not speak TLS, or a middlebox swallows the handshake. Large packets lost on a VPN (MTU) look like this as well.",
		[]Remedy{{Do: "openssl s_client -connect {host}:{port} -servername {host}   (and the same on the server itself)"}, {Linux, "ping -M do -s 1400 {host}   (no answer, but ping does: lower the MTU)"}}},
	{HandshakeRefused, Fail, "{host} refuses the handshake: {value}", "",
		"The server sends an alert that says why.",
		[]Remedy{{Do: "read the log of the server"}}},
	{ClientRefuses, Warn, "A client does not accept the certificate of this server: {value}", "tls: failed to verify certificate",
		"The client knows why, and tells the server only that it does not: it does not trust the authority, asks for another name, or its clock is wrong.",
		[]Remedy{{Do: "on that client: modgate doctor URL-OF-THIS-SERVER"}, {Do: "where the authority is your own: modgate env says how clients learn to trust it"}}},
}
