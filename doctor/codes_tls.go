package doctor

// Findings about certificates.
const (
	UnknownAuthority    Code = "tls-unknown-authority"
	MissingIntermediate Code = "tls-missing-intermediate"
	SelfSigned          Code = "tls-self-signed"
	Middlebox           Code = "tls-middlebox"
	Expired             Code = "tls-expired"
	NotYetValid         Code = "tls-not-yet-valid"
	IssuerExpired       Code = "tls-issuer-expired"
	ClockWrong          Code = "clock-wrong"
	WrongName           Code = "tls-wrong-name"
	NoNames             Code = "tls-no-names"
	NoAddress           Code = "tls-no-address"
	KeyUsage            Code = "tls-key-usage"
	InvalidCertificate  Code = "tls-invalid"
	Revoked             Code = "tls-revoked"
	RevokedUnknown      Code = "tls-revocation-unknown"

	MalformedCertificate Code = "tls-malformed"
)

// unproved is where the issuer of the only certificate that is sent may be an authority
// that should be sent too, or one that is to be trusted.
const unproved = "one certificate alone is sent, and it does not say where that of its issuer is"

const unknownText = "tls: failed to verify certificate: x509: certificate signed by unknown authority"

var tlsTable = []Entry{
	{UnknownAuthority, Fail, "The certificate of {host} is from an authority that this machine does not trust", unknownText,
		"Nothing that is sent leads to a root of this machine. So it is with a company's own authority, and with one that modgate runs itself. GOINSECURE and GONOSUMDB change nothing here.",
		trustRoot(Remedy{of(unproved), "if {value} is an intermediate authority, whose root this machine trusts, on the server: cat server.crt intermediate.crt > fullchain.crt, and serve fullchain.crt; else:"})},
	{MissingIntermediate, Fail, "{host} does not send its intermediate certificate", unknownText,
		"This machine trusts the root, but the server does not send the certificate between it and its own (or another than the right one), so nothing leads there. Browsers hide it: they fetch or remember intermediates; Go does not. The mistake is on the server.",
		[]Remedy{{Do: "on the server: cat server.crt intermediate.crt > fullchain.crt, and serve fullchain.crt"}, {Do: "with modgate: tls.files: fullchain.crt:server.key (it is read again within seconds)"}, {Do: "with certbot: use fullchain.pem, not cert.pem"}}},
	{SelfSigned, Fail, "{host} has a self-signed certificate", unknownText,
		"It was signed by nobody but itself. It can be trusted as it is, like a root, on every client; an authority for all servers is less work.",
		trustRoot(Remedy{Do: "on the server, better: tls.mode: internal, or a certificate from the company's authority"})},
	{Middlebox, Fail, "Something between here and {host} re-signs TLS: {value}", unknownText,
		"The certificate that arrives here is not the one that the server has. A security product opens the connection and signs it anew with its own authority, which has to be trusted on this machine.",
		append([]Remedy{{Do: "get the root certificate of that product from your IT department as corporate-root.pem"}}, append(installRoot[:len(installRoot):len(installRoot)], Remedy{Do: "or have {host} exempted from TLS inspection"})...)},
	{Expired, Fail, "The certificate of {host} expired on {value}", "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time {now} is after {value}",
		"It was not renewed, or renewed and not loaded by the server.",
		[]Remedy{{Do: "renew the certificate on the server; modgate reads new files within seconds, other servers may need a reload"}, {Do: "on a modgate server: modgate doctor --server   (says why it was not renewed)"}}},
	{NotYetValid, Fail, "The certificate of {host} is not valid before {value}", "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time {now} is before {value}",
		"The clock of the authority that issued it is ahead, or the certificate was installed early.",
		[]Remedy{{Do: "wait, or issue it anew with the right time"}}},
	{IssuerExpired, Fail, "An authority in the chain of {host} has expired: {value}", "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
		"Clients accept the server's own certificate only while the one that it hangs on is valid too.",
		[]Remedy{{Do: "replace the intermediate certificate on the server by the current one of the same authority"}, {Do: "if it is a root of this machine: update the package ca-certificates"}}},
	{ClockWrong, Fail, "The clock of this machine is wrong by {value}", "x509: certificate has expired or is not yet valid",
		"Other machines agree on another time. Certificates are valid for a span of time; with a wrong clock good ones look expired or not yet valid.",
		[]Remedy{{Debian, "sudo timedatectl set-ntp true"}, {RHEL, "sudo timedatectl set-ntp true"}, {Linux, "date -u; timedatectl   (in a virtual machine: the host's clock; after a suspend: restart the time service)"}, {MacOS, "sudo sntp -sS time.apple.com"}, {Windows, "w32tm /resync   (as administrator)"}}},
	{WrongName, Fail, "The certificate is not for {host}, but for {value}", "tls: failed to verify certificate: x509: certificate is valid for {value}, not {host}",
		"The URL has another name than the certificate: an alias, a short name, or the wrong server.",
		[]Remedy{{Do: "use one of those names in GOPROXY"}, {Do: "or issue the certificate for {host} too"}}},
	{NoNames, Fail, "The certificate of {host} has no names but the common name", "tls: failed to verify certificate: x509: certificate relies on legacy Common Name field, use SANs instead",
		"Go, like browsers, reads the subject alternative names alone, since Go 1.15.",
		[]Remedy{{Do: "issue it anew with a name: openssl req … -addext subjectAltName=DNS:{host}"}}},
	{NoAddress, Fail, "The certificate is not for the IP address {host}", "tls: failed to verify certificate: x509: cannot validate certificate for {host} because it doesn't contain any IP SANs",
		"The URL has an address where the certificate has names.",
		[]Remedy{{Do: "use a name of the certificate in GOPROXY: {value}"}, {Do: "or issue it for the address too: subjectAltName=IP:{host}"}}},
	{KeyUsage, Fail, "The certificate of {host} is not for servers", "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage",
		"Its extended key usage, or that of an authority in the chain, lacks serverAuth: it was made for a client, for mail or for code.",
		[]Remedy{{Do: "issue it anew from the authority's template for servers (extendedKeyUsage=serverAuth)"}}},
	{InvalidCertificate, Fail, "The certificate chain of {host} cannot be verified: {value}", "tls: failed to verify certificate: x509",
		"Go refuses it for the reason that it gives. Old signatures (SHA-1), names outside an authority's constraints and authorities without CA:TRUE are like that.",
		[]Remedy{{Do: "issue the certificate anew"}}},
	{MalformedCertificate, Fail, "The certificate of {host} cannot be read: {value}", "tls: failed to parse certificate from server: x509: {value}",
		"Go reads certificates more strictly than others (RFC 5280): serial numbers below zero, broken names and dates that are none end the handshake. Old appliances and home-made authorities issue such.",
		[]Remedy{{Do: "issue the certificate anew with a current tool (openssl 3, step, modgate)"}, {Do: "openssl s_client -connect {host}:{port} -servername {host} </dev/null | openssl x509 -noout -text"}}},
	{Revoked, Fail, "The certificate of {host} was revoked on {value}", "",
		"Its authority has taken it back: the key was lost, or another certificate replaces it. The go command does not ask, and downloads all the same; curl, browsers and security products may refuse it.",
		[]Remedy{{Do: "issue a certificate with a new key, and install it on the server"}, {Do: "ask who runs the authority why it was revoked"}}},
	{RevokedUnknown, Note, "Whether the certificate of {host} was revoked cannot be told: {value}", "",
		"The place that the certificate names for that does not answer. The go command does not ask there; curl and browsers may, and wait.",
		nil},
}
