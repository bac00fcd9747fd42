package doctor

// Findings about answers over HTTP.
const (
	HTTPToTLS        Code = "http-to-tls"
	Unauthorized     Code = "http-unauthorized"
	Forbidden        Code = "http-forbidden"
	NotAProxy        Code = "http-not-a-proxy"
	ServerError      Code = "http-server-error"
	TooMany          Code = "http-too-many"
	HTML             Code = "http-html"
	RedirectLoop     Code = "http-redirect-loop"
	RedirectBlocked  Code = "http-redirect-blocked"
	RedirectPlain    Code = "http-redirect-plain"
	RedirectTrust    Code = "http-redirect-certificate"
	RedirectRefused  Code = "http-redirect-refused"
	AnswerCut        Code = "http-cut"
	AnswerSilent     Code = "http-silent"
	UnexpectedStatus Code = "http-status"
)

// Where the credentials are from that a proxy does not accept.
const (
	sentByNetrc = "credentials of netrc that were sent"
	sentByURL   = "credentials of the URL that were sent"
	sentByAuth  = "credentials of GOAUTH that were sent"
	authSilent  = "a command of GOAUTH that has none for the proxy"
)

var httpTable = []Entry{
	{HTTPToTLS, Fail, "Port {port} of {host} speaks TLS, but the URL begins with http://", "400 Bad Request",
		"The server expects https://.",
		setTo("GOPROXY", "https://{host}:{port}")},
	{Unauthorized, Fail, "{host} wants credentials", "401 Unauthorized",
		"The go command has none for it, or the wrong ones. It takes them from netrc, from GOAUTH, or from the URL, over https alone.",
		[]Remedy{
			{of(sentByNetrc), "change the line \"machine {machine}\" in {file}, whose token is not accepted: put a new one in its place (a second line changes nothing, the first one counts)"},
			{of(sentByURL), "change user and password in the URL, which are not accepted: https://USER:TOKEN@{machine} in GOPROXY, or better a line of netrc"},
			{of(sentByAuth), "look why {host} does not accept what the command of GOAUTH gives: it may have expired, or be for another"},
			{of(authSilent), "let the command of GOAUTH print credentials for https://{machine}, or put netrc behind it: GOAUTH='COMMAND;netrc', and a line of netrc"},
			{of("http"), "let the server speak TLS (of modgate: tls.mode) and use https:// in GOPROXY: over http:// the go command sends no credentials, whatever netrc says"},
			{of("http"), "then add to {file} (mode 0600): machine {machine} login USER password TOKEN"},
			{of("https"), "add to {file} (mode 0600): machine {machine} login USER password TOKEN"},
			{OnServer, "upstream: https://USER:PASSWORD@{machine}   (in the configuration of the server, or MODGATE_UPSTREAM)"},
			{GitHub, "a step before the build: echo \"machine {machine} login ci password ${{ secrets.TOKEN }}\" > ~/.netrc"},
		}},
	{Forbidden, Fail, "{host} refuses: {value}", "403 Forbidden",
		"A rule of the proxy says no, or the credentials are good but not for this.",
		[]Remedy{{AsTold, "the proxy says: {advice}"}, {Do: "the text of the answer says which rule; ask who runs the proxy"}}},
	{NotAProxy, Fail, "{url} is no module proxy: it answers 404 to everything", "404 Not Found",
		"The path is wrong (a base path is missing or too much), or another program is there.",
		[]Remedy{
			{of("admin"), "that is the admin listener of modgate (admin.listen): name the address of listen in GOPROXY"},
			{of("path"), "take the path away, modgate is at: {value}"},
			{of("other"), "open {url} in a browser: modgate shows how to use it"},
			{Do: "on the server: modgate env prints the GOPROXY for clients"}, {Do: "on the server: modgate config | grep base_path"}}},
	{ServerError, Fail, "{host} is in trouble: {value}", "",
		"The proxy, its upstream, or a load balancer in front of it fails.",
		[]Remedy{{AsTold, "{advice}"}, {Do: "on the server: modgate doctor --server, and its log"}}},
	{TooMany, Fail, "{host} says that this machine asks too often", "429 Too Many Requests",
		"A rate limit. Machines behind one address share it.",
		[]Remedy{{Do: "wait, or ask who runs the proxy for a higher limit"}}},
	{HTML, Fail, "A web page comes where a module was expected", "invalid character '<' looking for beginning of value\n511 Network Authentication Required",
		"A captive portal, a sign-in page or a block page answers in the proxy's name: {value}",
		[]Remedy{{Do: "open {url} in a browser and sign in, or have {host} exempted"}, {Do: "if that page belongs to an HTTP proxy: export NO_PROXY={bypass}"}}},
	{RedirectLoop, Fail, "{host} sends us around in circles", "stopped after 10 redirects",
		"Two parts redirect to each other: often a load balancer that speaks TLS in front of a server that redirects to https.",
		[]Remedy{{Do: "let the load balancer say that the client came by TLS (X-Forwarded-Proto: https), or switch one redirect off"}}},
	{RedirectBlocked, Fail, "{host} redirects to {value}, which cannot be reached from here", "",
		"The proxy sends clients to another host, a bucket often, that a firewall does not allow.",
		[]Remedy{{Do: "allow {value} in the firewall, or let the proxy deliver the file itself"}}},
	{RedirectTrust, Fail, "{host} redirects to {value}, whose certificate is not accepted here", "tls: failed to verify certificate: x509",
		"The proxy sends clients to another host, and each host has a certificate of its own.",
		[]Remedy{{Do: "modgate doctor https://{value}   (says why, and what mends it)"}, {Do: "or let the proxy deliver the file itself"}}},
	{RedirectPlain, Fail, "{host} redirects from https to plain http: {value}", "redirected from secure URL {url} to insecure URL {value}",
		"The go command does not follow that.",
		[]Remedy{{Do: "let the load balancer say that the client came by TLS (X-Forwarded-Proto: https), or correct the redirect"}}},
	{RedirectRefused, Fail, "{host} redirects to where the server does not follow: {value}", "502 Bad Gateway",
		"A server of modgate follows few redirects, none from https to http or out of HTTP, and none into the networks of its own machine.",
		[]Remedy{{Do: "name under upstream the URL that it redirects to"}, {OnServer, "modgate doctor --server   (which redirect it is)"}}},
	{AnswerCut, Fail, "The answer of {host} ends in the middle", "unexpected EOF\nzip: not a valid zip file",
		"The server, or something between, ends connections early: a time limit of a load balancer, a crash, a virus scanner.",
		[]Remedy{{Do: "raise the time limit of the load balancer (proxy_read_timeout 300s), and switch buffering off"}}},
	{AnswerSilent, Fail, "{host} takes the request, but does not answer within {value}", "",
		"The proxy waits for its upstream, or hangs. The go command would wait for ever.",
		[]Remedy{{Do: "on the server: modgate doctor --server, and its log"}}},
	{UnexpectedStatus, Fail, "{host} answers {value}", "",
		"No module proxy answers that.",
		[]Remedy{{Do: "open {url} in a browser"}}},
}
