package doctor

// Findings about the authorities that this machine trusts.
const (
	CertFileUnreadable Code = "trust-cert-file"
	CertFileEmpty      Code = "trust-cert-file-empty"
	CertDirUnreadable  Code = "trust-cert-dir"
	CertFileIgnored    Code = "trust-ignored"
	TrustEmpty         Code = "trust-empty"
	NotInstalled       Code = "trust-not-installed"
)

// installRoot says how a machine learns to trust an authority, place by place.
var installRoot = []Remedy{
	{OnServer, "in the configuration of modgate: tls.trust: [/etc/modgate/corporate-root.pem]"},
	{Debian, "sudo cp corporate-root.pem /usr/local/share/ca-certificates/corporate-root.crt && sudo update-ca-certificates"},
	{Alpine, "apk add ca-certificates && cp corporate-root.pem /usr/local/share/ca-certificates/corporate-root.crt && update-ca-certificates"},
	{RHEL, "sudo cp corporate-root.pem /etc/pki/ca-trust/source/anchors/ && sudo update-ca-trust"},
	{Linux, "export SSL_CERT_FILE=/path/corporate-root.pem   (this shell or job alone; SSL_CERT_DIR unset)"},
	{MacOS, "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain corporate-root.pem"},
	{Windows, "certutil -addstore -f Root corporate-root.pem   (as administrator)"},
	{Docker, "COPY corporate-root.pem /usr/local/share/ca-certificates/corporate-root.crt and RUN update-ca-certificates, in the Dockerfile before go is called"},
	{GitHub, "a step before the build: echo \"$CORPORATE_ROOT\" > \"$RUNNER_TEMP/root.pem\"; echo \"SSL_CERT_FILE=$RUNNER_TEMP/root.pem\" >> \"$GITHUB_ENV\""},
	{GitLab, "make CORPORATE_ROOT a variable of type File, and set SSL_CERT_FILE: $CORPORATE_ROOT under variables"},
	{Kubernetes, "mount the root from a ConfigMap and set SSL_CERT_FILE to the mounted file in the pod's env"},
}

// fetchRoot is said before installRoot.
var fetchRoot = Remedy{Do: "get the root certificate from who runs {host}, by a way that you trust, as corporate-root.pem (of modgate's own authority: modgate ca root, on the server)"}

// trustRoot is both, with what speaks against the short cuts.
func trustRoot(first ...Remedy) []Remedy {
	return append(append(first, fetchRoot), installRoot...)
}

var trustTable = []Entry{
	{CertFileUnreadable, Fail, "SSL_CERT_FILE names a file that cannot be read: {file}", "tls: failed to verify certificate: x509: certificate signed by unknown authority",
		"Go then reads no bundle at all, and says nothing: what the system's own bundle has is missing too, unless the same certificates are in a directory.",
		[]Remedy{{Do: "ls -l {file}"}, {Do: "correct the path, or: unset SSL_CERT_FILE"}}},
	{CertFileEmpty, Fail, "SSL_CERT_FILE names a file without a certificate in PEM: {file}", "tls: failed to verify certificate: x509: certificate signed by unknown authority",
		"Go reads PEM (-----BEGIN CERTIFICATE-----) alone, and passes over everything else in silence. DER files and PKCS #12 stores have to be converted.",
		[]Remedy{
			{of("empty"), "{file} is empty: write the certificates into it, or: unset SSL_CERT_FILE"},
			{of("other"), "openssl x509 -inform der -in {file} -out corporate-root.pem && export SSL_CERT_FILE=$PWD/corporate-root.pem"}}},
	{CertDirUnreadable, Warn, "SSL_CERT_DIR names a directory that cannot be read: {file}", "",
		"The directories of the system are not read once SSL_CERT_DIR is set. Public hosts fail as \"signed by unknown authority\" if SSL_CERT_FILE replaces the system's bundle as well.",
		[]Remedy{{Do: "unset SSL_CERT_DIR"}}},
	{CertFileIgnored, Warn, "{variable} is set, but has no effect on this system", "",
		"On macOS and Windows, Go asks the system's store alone.",
		[]Remedy{{MacOS, "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {file}"}, {Windows, "certutil -addstore -f Root {file}   (as administrator)"}}},
	{TrustEmpty, Fail, "This machine trusts no authority at all", "tls: failed to verify certificate: x509: certificate signed by unknown authority",
		"There is no bundle of authorities where Go looks for one. Small container images come without.",
		[]Remedy{
			{Debian, "apt-get update && apt-get install -y ca-certificates"},
			{Alpine, "apk add ca-certificates"},
			{RHEL, "dnf install -y ca-certificates"},
			{Docker, "COPY --from=golang:1.26 /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/   (in an image made from scratch)"},
			{Linux, "install the package ca-certificates"},
		}},
	{NotInstalled, Warn, "A certificate in {file} was not taken into what Go trusts: {value}", "tls: failed to verify certificate: x509: certificate signed by unknown authority",
		"Somebody has put it where authorities of one's own belong, but the bundle was not made anew, or does not take that file: it takes PEM alone, on Debian and Alpine only from files that end in .crt.",
		[]Remedy{
			{Debian, "sudo update-ca-certificates"},
			{Alpine, "update-ca-certificates"},
			{RHEL, "sudo update-ca-trust"},
			{Linux, "if that is not enough: openssl x509 -in {file} -noout -subject   (it must be PEM, with a name that ends in .crt)"},
		}},
}
