package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/modgate/modgate/auth"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// tokensFor writes a file of tokens, one for each name, in a group of that name. It
// returns the file and the tokens by their names.
func tokensFor(t *testing.T, names ...string) (file string, tokens map[string]string) {
	t.Helper()
	text, tokens := "tokens:\n", make(map[string]string)
	for _, name := range names {
		tokens[name] = auth.NewToken()
		text += tokenEntry(auth.Token{Name: name, SHA256: auth.Sum(tokens[name]), Groups: []string{name}})
	}
	file = filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, tokens
}

// guarded is a server with TLS and tokens.
type guarded struct {
	*instance
	world  *world
	tokens map[string]string
	root   string // file of the authority
	client *http.Client
}

func newGuarded(t *testing.T, rules string, args ...string) *guarded {
	t.Helper()
	w := newWorld(t)
	return guard(t, w, w.start, rules, args...)
}

// guard starts a server of w, by start, with TLS, tokens of dev and ci, and rules.
func guard(t *testing.T, w *world, start func(*testing.T, ...string) *instance, rules string, args ...string) *guarded {
	t.Helper()
	pki, dir := tlstest.New(t), t.TempDir()
	cert, key := pki.Write(dir, "server", pki.Issue(tlstest.Leaf{}))
	g := &guarded{world: w, root: pki.WriteRoot(dir)}
	file, tokens := tokensFor(t, "dev", "ci")
	g.tokens = tokens
	policy := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(policy, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	g.instance = start(t, append([]string{"--tls-mode=files", "--tls-files=" + cert + ":" + key, "--auth-file=" + file, "--policy-file=" + policy}, args...)...)
	g.url = https(g.url)
	pem, err := os.ReadFile(g.root)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	g.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	t.Cleanup(g.client.CloseIdleConnections)
	return g
}

// ask sends one request with a token, "" for none.
func (g *guarded) ask(t *testing.T, method, path, token string) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, g.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.SetBasicAuth("whoever", token)
	}
	resp, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), resp.Header
}

// goAs runs the go command as the developer whose netrc has the token, "" for none.
func (g *guarded) goAs(t *testing.T, token string, args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	if token != "" {
		line := "machine " + strings.TrimPrefix(g.url, "https://") + " login me password " + token + "\n"
		if err := os.WriteFile(filepath.Join(home, ".netrc"), []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = home
	cmd.Env = append(goEnv(home, g.url, g.world.log.Key()), "SSL_CERT_FILE="+g.root)
	out, err := cmd.CombinedOutput()
	return strings.ReplaceAll(string(out), g.url, "https://modgate.corp.example"), err
}

const groupRules = `
owner: security@corp.example
rules:
  - {name: not-in-ci, modules: example.com/greet, versions: v1.1.0, groups: ci, action: deny, reason: it asks questions}
`

// TestGroupsEndToEnd: two developers with the same go command and other tokens get
// what rules give to their groups, and who has none gets nothing.
func TestGroupsEndToEnd(t *testing.T) {
	g := newGuarded(t, groupRules)
	var all strings.Builder
	for _, who := range []struct {
		name, token string
		fine        bool
	}{{"dev", g.tokens["dev"], true}, {"ci", g.tokens["ci"], false}, {"nobody", "", false}, {"wrong", "modgate_wrong", false}, {"dev again", g.tokens["dev"], true}} {
		out, err := g.goAs(t, who.token, "mod", "download", "example.com/greet@v1.1.0")
		if (err == nil) != who.fine {
			t.Errorf("%s: %v\n%s", who.name, err, out)
		}
		if !who.fine {
			fmt.Fprintf(&all, "-- %s --\n%s", who.name, regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(out, "modgate.corp.example"))
		}
	}
	golden(t, filepath.Join("testdata", "auth.golden"), all.String())
	if out, err := g.goAs(t, g.tokens["ci"], "list", "-m", "-versions", "example.com/greet"); err != nil || strings.Contains(out, "v1.1.0") || !strings.Contains(out, "v1.0.0") {
		t.Errorf("ci sees %q, %v", out, err)
	}
	if out, err := g.goAs(t, g.tokens["dev"], "list", "-m", "-versions", "example.com/greet"); err != nil || !strings.Contains(out, "v1.1.0") {
		t.Errorf("dev sees %q, %v", out, err)
	}
	g.await(t, `kind=(zip|info) .*status=403 .*caller=ci`)
	g.await(t, `kind=zip .*status=200 .*caller=dev`)
	g.await(t, `action=deny rule=not-in-ci .*caller=ci`)
	for name, token := range g.tokens {
		if strings.Contains(g.log(), token) {
			t.Errorf("the token of %s is in the log", name)
		}
	}
	_, text := get(t, g.admin+"/metrics")
	if strings.Contains(text, `"ci"`) || strings.Contains(text, `"dev"`) {
		t.Error("a label holds a caller or a group")
	}
}

// TestEveryPathWantsAToken: what belongs to the proxy is covered, and what tells load
// balancers how it is, is not.
func TestEveryPathWantsAToken(t *testing.T) {
	g := newGuarded(t, groupRules)
	for _, path := range []string{"/", "/example.com/greet/@v/list", "/example.com/greet/@v/v1.0.0.zip", "/sumdb/log.example.com/supported", "/sumdb/log.example.com/latest", "/nothing", "/github.com/@v/list", "/%2e%2e/"} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			status, body, header := g.ask(t, method, path, "")
			if status != 401 || header.Get("WWW-Authenticate") == "" || method != "HEAD" && !strings.Contains(body, "netrc") {
				t.Errorf("%s %s without a token: %d %q", method, path, status, body)
			}
			if status, _, _ := g.ask(t, method, path, g.tokens["dev"]); status == 401 {
				t.Errorf("%s %s with a token: %d", method, path, status)
			}
		}
	}
	// What git asks that checks credentials (GOAUTH=git).
	if status, _, _ := g.ask(t, "HEAD", "/", g.tokens["dev"]); status != 200 {
		t.Errorf("HEAD / with a token: %d", status)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, _, _ := g.ask(t, "GET", path, ""); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
	if status, _ := get(t, g.admin+"/metrics"); status != 200 {
		t.Errorf("metrics: %d", status)
	}
	// What the server asks itself for an operator needs none either.
	if status, text := post(t, g.admin+"/-/warm", "example.com/greet@v1.0.0\n"); status != 200 || !strings.Contains(text, ", 0 failed") {
		t.Errorf("warm: %d %s", status, text)
	}
}

// TestAuthKeepsAnswersFromCaches: a cache in front must not keep for all what was for
// who showed a token.
func TestAuthKeepsAnswersFromCaches(t *testing.T) {
	g := newGuarded(t, groupRules)
	name, _, _ := strings.Cut(g.world.log.Key(), "+")
	for path, want := range map[string]int{
		"/sumdb/" + name + "/supported": 200, "/sumdb/" + name + "/lookup/example.com/greet@v1.0.0": 200, "/sumdb/" + name + "/tile/8/0/000.p/1": 200,
		"/example.com/greet/@v/v1.0.0.mod": 200, "/example.com/greet/@v/list": 200, "/example.com/nope/@v/v1.0.0.info": 404, "/example.com/nope/@v/list": 404,
	} {
		for range 2 { // the second one may be remembered
			status, body, header := g.ask(t, "GET", path, g.tokens["dev"])
			if kept := header.Get("Cache-Control"); status != want || kept != "private, no-cache" && kept != "no-cache" && kept != "no-store" {
				t.Errorf("%s: %d with Cache-Control %q, want %d: %.100q", path, status, kept, want, body)
			}
		}
	}
}

// TestGroupsAndTheCache: the server fills its cache with what one group may have, and
// with nothing that all are refused.
func TestGroupsAndTheCache(t *testing.T) {
	g := newGuarded(t, `
owner: security@corp.example
default: deny
reason: ask first
rules:
  - {name: nobody, modules: example.com/greet, versions: v1.1.0, action: deny, reason: it is broken}
  - {name: not-in-ci, modules: example.com/*, groups: ci, action: deny, reason: it asks questions}
  - {name: devs, modules: example.com/*, groups: dev, action: allow}
`)
	for version, want := range map[string]string{"v1.0.0": ", 0 failed", "v1.1.0": "nobody"} {
		if _, text := post(t, g.admin+"/-/warm", "example.com/greet@"+version+"\n"); !strings.Contains(text, want) {
			t.Errorf("%s: no %q in %s", version, want, text)
		}
	}
	for name, want := range map[string]int{"dev": 200, "ci": 403} {
		if status, body, _ := g.ask(t, "GET", "/example.com/greet/@v/v1.0.0.zip", g.tokens[name]); status != want {
			t.Errorf("%s: %d, want %d: %.200q", name, status, want, body)
		}
	}
}

// TestAnonymousCallers: where no token is required, who shows none is in no group.
func TestAnonymousCallers(t *testing.T) {
	g := newGuarded(t, groupRules, "--auth-required=false")
	for token, want := range map[string]int{"": 200, g.tokens["dev"]: 200, g.tokens["ci"]: 403, "modgate_wrong": 401} {
		for range 2 {
			if status, body, _ := g.ask(t, "GET", "/example.com/greet/@v/v1.1.0.zip", token); status != want {
				t.Errorf("%d, want %d: %.200q", status, want, body)
			}
		}
	}
}

// TestTokensAreReloaded: a good file counts at once, also one without any token; a bad
// one raises an alarm, and revokes what is gone.
func TestTokensAreReloaded(t *testing.T) {
	file, tokens := tokensFor(t, "dev", "left")
	i := newWorld(t).start(t, "--auth-file="+file)
	status := func(token string) int {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, i.url+"/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = i.cmd.Process.Signal(syscall.SIGHUP)
	}
	// Of what is no YAML, nothing can be said to be gone.
	write("tokens:\n\t- [\n")
	i.await(t, "a changed file cannot be used")
	for name, token := range tokens {
		if status(token) != 200 {
			t.Errorf("what is no YAML has revoked %s", name)
		}
	}
	fresh := auth.NewToken()
	write("tokens:\n  - name: dev\n    sha256: " + strings.ToUpper(auth.Sum(tokens["dev"])) + "\n  - name: fresh\n    sha265: " + auth.Sum(fresh) + "\n  # " + auth.Sum(tokens["left"]) + "\n")
	i.await(t, `tokens.yaml:5: `)
	i.await(t, `are revoked; .* names=\[left\]`)
	if n := i.metric(t, `modgate_reload_failed{key="auth.file"}`); n != 1 || status(tokens["dev"]) != 200 || status(tokens["left"]) != 401 || status(fresh) != 401 {
		t.Errorf("a bad file: alarm %v; dev %d, left %d, fresh %d", n, status(tokens["dev"]), status(tokens["left"]), status(fresh))
	}
	other, others := tokensFor(t, "dev")
	data, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	write(string(data))
	until(t, "the new token counts, the old one does not", func() bool {
		return status(others["dev"]) == 200 && status(tokens["dev"]) == 401
	})
	// A file that was cut off revokes nobody.
	for _, cut := range []string{"tokens:\n  # none is left\n", "tokens", "expires: 2030-01-01\n"} {
		write(cut)
		until(t, "the alarm is raised", func() bool { return i.metric(t, `modgate_reload_failed{key="auth.file"}`) == 1 })
		if status(others["dev"]) != 200 {
			t.Errorf("%q has revoked a token", cut)
		}
		write(string(data))
		until(t, "the alarm has ended", func() bool { return i.metric(t, `modgate_reload_failed{key="auth.file"}`) == 0 })
	}
	write("tokens: []\n")
	until(t, "no token counts", func() bool { return status(others["dev"]) == 401 })
	if n := i.metric(t, `modgate_reload_failed{key="auth.file"}`); n != 0 {
		t.Errorf("a file without tokens: alarm %v", n)
	}
}

// TestAuthCommands: what auth token prints works, and mistakes name lines and never
// a token.
func TestAuthCommands(t *testing.T) {
	out, err := modgate(t, "auth", "token", "ci", "--groups=build,release", "--expires=2999-12-31", "--url=https://go.corp.example:8443")
	m := regexp.MustCompile(`(?s)(  - name: .*?\n)\n.*\nmachine go\.corp\.example:8443 login ci password (modgate_\S+)\n$`).FindStringSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file := filepath.Join(t.TempDir(), "tokens.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("tokens: []\n")
	if out, err := modgate(t, "auth", "check", file); err != nil || !strings.Contains(out, ": 0 tokens") {
		t.Errorf("%v %s", err, out)
	}
	write("tokens:\n" + m[1])
	if out, err := modgate(t, "auth", "check", file); err != nil || !strings.HasSuffix(out, "tokens.yaml: 1 token\n") {
		t.Errorf("%v %s", err, out)
	}
	if !strings.Contains(m[1], auth.Sum(m[2])) || strings.Contains(m[1], m[2]) {
		t.Errorf("the entry %s is not for the token", m[1])
	}
	for text, want := range map[string]string{
		"tokens:\n  - name: ci\n    sha256: " + m[2] + "\n": "tokens.yaml:3: tokens[0].sha256: this is not the SHA-256 of a token",
		"":                        "tokens.yaml: the file has no key tokens: write tokens: [] if no token is to count",
		"tokens:\n":               "tokens.yaml:1: tokens: nothing stands behind the key",
		"{}\n":                    "tokens.yaml: the file has no key tokens",
		"tokens:\n" + m[1] + m[1]: "tokens.yaml:7: tokens[1].sha256: this is also the token in line 2",
		"tokens:\n" + strings.Replace(m[1], `["build", "release"]`, "[]", 1): "tokens[0].groups: the key is there and says nothing",
		"token:\n" + m[1]:          `tokens.yaml:1: token: "token" is not a key: did you mean tokens?`,
		"tokens:\n  - name: *ci\n": "tokens.yaml:2: tokens[0].name: a word that begins with * needs quotes",
		"tokens:\n  name: ci\n":    "tokens.yaml:2: tokens: a list is expected here",
	} {
		write(text)
		_, err := modgate(t, "auth", "check", file)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), m[2]) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	for _, day := range []string{"2020-01-01", "2020-01-01T10:00:00Z"} {
		if out, err := modgate(t, "auth", "token", "ci", "--url=https://go.corp.example", "--expires="+day); err == nil || out != "" || !strings.Contains(err.Error(), "--expires: "+day+" is over") {
			t.Errorf("%s: %v\n%s", day, err, out)
		}
	}
	write("tokens:\n" + m[1] + tokenEntry(auth.Token{Name: "old", SHA256: auth.Sum("modgate_old"), Expires: "2020-01-01"}))
	var stdout, stderr strings.Builder
	if err := run(t.Context(), []string{"auth", "check", file}, []string{"MODGATE_CONFIG=off"}, &stdout, &stderr); err != nil || !strings.HasSuffix(stdout.String(), ": 2 tokens\n") {
		t.Errorf("%v: %s", err, &stdout)
	}
	if want := "tokens.yaml:6: the token old has expired (2020-01-01)\n  → "; !strings.Contains(stderr.String(), want) || strings.Count(stderr.String(), "expired") != 1 {
		t.Errorf("got %s; want %s", &stderr, want)
	}
	if _, err := modgate(t, "auth", "token", "c i"); err == nil || !strings.Contains(err.Error(), `name: "c i" is not a name`) {
		t.Errorf("%v", err)
	}
}

// TestTokensInTheClear: the server says at its start that plain HTTP and tokens do
// not go together.
func TestTokensInTheClear(t *testing.T) {
	file, _ := tokensFor(t, "dev")
	i := newWorld(t).start(t, "--auth-file="+file, "--listen=0.0.0.0:0")
	i.await(t, "tokens travel in the clear")
}

// TestWarmShowsItsToken: a server that asks for tokens is warmed with one, and says
// so without.
func TestWarmShowsItsToken(t *testing.T) {
	g := newGuarded(t, groupRules)
	list, secret := filepath.Join(t.TempDir(), "list"), filepath.Join(t.TempDir(), "token")
	for name, text := range map[string]string{list: "example.com/greet@v1.0.0\n", secret: g.tokens["ci"] + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	warm := func(args ...string) (string, error) {
		cmd := exec.Command("modgate", append([]string{"warm", "--url=" + g.url}, append(args, list)...)...)
		cmd.Env = append(os.Environ(), "MODGATE_CONFIG=off", "SSL_CERT_FILE="+g.root, "OF_CI="+g.tokens["ci"])
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, ref := range []string{"file:" + secret, "env:OF_CI"} {
		if out, err := warm("--token=" + ref); err != nil || !strings.Contains(out, " 0 failed") {
			t.Errorf("%s: %v: %s", ref, err, out)
		}
	}
	if err := os.WriteFile(secret, []byte("modgate_wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]string{"": "show a token", "file:" + secret: "this is about the token of --token"} {
		if out, err := warm("--token=" + ref); err == nil || strings.Count(out, "401") != 1 || !strings.Contains(out, "\n  → "+want) {
			t.Errorf("want one 401 and %q: %v: %s", want, err, out)
		}
	}
	for ref, want := range map[string]string{"env:OF_NOBODY": "OF_NOBODY is not set", g.tokens["ci"]: "write file:NAME or env:NAME"} {
		if out, err := warm("--token=" + ref); err == nil || !strings.Contains(out, want) || strings.Contains(out, g.tokens["ci"]) {
			t.Errorf("%s: %v: %s", want, err, out)
		}
	}
}

// TestTokensOfTheManual reads the example that docs/auth.md gives.
func TestTokensOfTheManual(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/auth.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(data), "```yaml\n")
	example, _, ended := strings.Cut(example, "```\n")
	if err := readTokens("docs/auth.md", []byte(example), checkTokens); !ok || !ended || err != nil {
		t.Errorf("%v", err)
	}
}
