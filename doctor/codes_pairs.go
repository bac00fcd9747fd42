package doctor

import "github.com/modgate/modgate/tlsmgr"

// forDefect is the place of remedies for one kind of trouble with a certificate.
func forDefect(d tlsmgr.Defect) Place { return of(string(d)) }

// pairRemedies say, for each defect of a pair of files, what mends it. {file} is
// that of the certificate, {key} that of the key.
var pairRemedies = []Remedy{
	{forDefect(tlsmgr.KeyMismatch), "openssl x509 -in {file} -noout -pubkey; openssl pkey -in {key} -pubout   (the two must be equal: name the key that the certificate was made for, and put the server's own certificate first)"},
	{forDefect(tlsmgr.Unreadable), "ls -lL {file} {key}   (both must be there, and readable for the user of the server)"},
	{forDefect(tlsmgr.NoCertificate), "openssl x509 -inform der -in {file} -out {file}.pem   (if it is DER; PEM begins with -----BEGIN CERTIFICATE-----)"},
	{forDefect(tlsmgr.NoKey), "openssl pkey -inform der -in {key} -out {key}.pem && chmod 600 {key}.pem   (if it is DER; PEM begins with -----BEGIN PRIVATE KEY-----)"},
	{forDefect(tlsmgr.EncryptedKey), "openssl pkey -in {key} -out {key}.plain && chmod 600 {key}.plain   (and name that file)"},
	{forDefect(tlsmgr.Malformed), "copy {file} and {key} anew, whole and in PEM"},
}

// chainRemedies are the same for what clients refuse.
var chainRemedies = []Remedy{
	{forDefect(tlsmgr.MissingIntermediate), "cat intermediate.crt >> {file}   (the certificate of the authority that signed it, in PEM)"},
	{forDefect(tlsmgr.MissingIntermediate), "if the authority that signed it is itself the root that clients trust: name its file under tls.trust"},
	{forDefect(tlsmgr.WrongOrder), "put the certificates in {file} in order: the server's own first, then each that signed the one before it"},
	{forDefect(tlsmgr.SelfSigned), "a certificate from the company's authority, or tls.mode: internal; until then, on each client: export SSL_CERT_FILE=/path/to/a/copy/of/{file}"},
	{forDefect(tlsmgr.NoNames), "issue it anew with a name: openssl req … -addext subjectAltName=DNS:NAME-OF-THIS-SERVER"},
	{forDefect(tlsmgr.NotForServers), "issue it anew from the authority's template for servers (extendedKeyUsage=serverAuth)"},
	{forDefect(tlsmgr.NotYetValid), "date -u   (if that is wrong, set the clock of this machine; else wait, or issue it anew)"},
	{forDefect(tlsmgr.Expired), "openssl x509 -in {file} -noout -dates   (put one there that is still good)"},
}
