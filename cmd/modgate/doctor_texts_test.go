package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// troubles are all places that write a 5xx for the go command, by file and the
// nearest words: each with the test case below that reaches it.
var troubles = map[string]string{
	"proxy/errors.go denied.Text":                                       "a rule without its facts",
	"proxy/errors.go unsure.Public()":                                   "no checksum database",
	"proxy/errors.go server busy or restarting: try again":              "", // TestCodes
	"proxy/errors.go the upstream took too long: try again":             "", // TestCodes
	"proxy/errors.go notZip.text":                                       "no zip",
	"proxy/errors.go cannot be fetched now: the server's log says why":  "an error of the upstream",
	"sumdb/refuse.go the request was cancelled":                         "", // nobody reads it
	"sumdb/refuse.go server restarting: try again":                      "", // TestCodes
	"sumdb/refuse.go d.alarmText(err) StatusServiceUnavailable":         "a checksum database that has two histories",
	"sumdb/refuse.go d.alarmText(err) StatusBadGateway":                 "a lookup that is forged",
	"sumdb/refuse.go %s took too long to answer; please try again":      "", // TestCodes
	"sumdb/refuse.go %s cannot be reached at present; please try again": "a lookup that is refused",
	"auth/auth.go no access record":                                     "", // a mistake of whoever builds the server
}

// written returns the places in a file that write a 5xx.
func written(t *testing.T, name string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", name), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	trouble := func(n ast.Node) string {
		s, ok := n.(*ast.SelectorExpr)
		if ok && slices.Contains(strings.Fields("StatusInternalServerError StatusNotImplemented StatusBadGateway StatusServiceUnavailable StatusGatewayTimeout StatusInsufficientStorage"), s.Sel.Name) {
			return s.Sel.Name
		}
		return ""
	}
	var all []string
	ast.Inspect(file, func(n ast.Node) bool {
		var args []ast.Expr
		switch n := n.(type) {
		case *ast.CallExpr:
			args = n.Args
		case *ast.CompositeLit:
			args = n.Elts
		}
		for _, a := range args {
			if status := trouble(a); status != "" {
				text := string(source[n.Pos()-1 : n.End()-1])
				if m := regexp.MustCompile(`"([^"]+)"`).FindStringSubmatch(text); m != nil {
					text = m[1]
				} else {
					for _, word := range []string{"denied.Text", "unsure.Public()", "notZip.text", "d.alarmText(err)"} {
						if strings.Contains(text, word) {
							text = word
						}
					}
				}
				if text == "d.alarmText(err)" {
					text += " " + status
				}
				all = append(all, name+" "+text)
			}
		}
		return true
	})
	return all
}

// TestEveryTroubleIsTried holds the places in the code against the cases.
func TestEveryTroubleIsTried(t *testing.T) {
	var found []string
	for _, dir := range []string{"proxy", "sumdb", "auth", "policy", "internal/access"} {
		files, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, name := range files {
			if !strings.HasSuffix(name, "_test.go") {
				found = append(found, written(t, dir+"/"+filepath.Base(name))...)
			}
		}
	}
	for _, place := range found {
		if name, ok := troubles[place]; !ok {
			t.Errorf("%s is written, and no case tries it", place)
		} else if name != "" && !slices.ContainsFunc(troubleCases(), func(c troubleCase) bool { return c.name == name }) {
			t.Errorf("there is no case %q", name)
		}
	}
	if len(found) != len(troubles) {
		t.Errorf("%d places are found, of %d: %q", len(found), len(troubles), found)
	}
}

type troubleCase struct {
	name   string
	spoil  func(*testing.T, *world)
	path   string
	flags  []string
	fork   bool // the checksum database, after it was asked once
	status int
	code   string
	text   string // is in the answer
}

func troubleCases() []troubleCase {
	const zip, lookup = "/example.com/greet/@v/v1.0.0.zip", "/sumdb/sum.example.com/lookup/example.com/greet@v1.0.0"
	fault := func(path string, f proxytest.Fault) func(*testing.T, *world) {
		return func(_ *testing.T, w *world) { w.upstream.SetFault(path, f) }
	}
	lie := func(l sumdbtest.Lie) func(*testing.T, *world) { return func(_ *testing.T, w *world) { w.log.Lie(l) } }
	return []troubleCase{
		{name: "an error of the upstream", spoil: fault("*", proxytest.Status(500, "down")), path: zip, status: 502, code: "http-server-error"},
		{name: "a redirect without end", spoil: fault("*", proxytest.Redirect(302, "/loop")), path: zip, status: 502, code: "http-redirect-refused"},
		{name: "a redirect to a file", spoil: fault("*", proxytest.Redirect(302, "file:///etc/passwd")), path: zip, status: 502, code: "http-redirect-refused"},
		{name: "no zip", spoil: fault(zip, proxytest.Bytes("application/zip", []byte("PK this is none"))), path: zip, status: 502, code: "proxy-bad-answer"},
		{name: "no info", spoil: fault("/example.com/greet/@v/v1.0.0.info", proxytest.Bytes("application/json", []byte(`{"Version":"v9.9.9"}`))), path: "/example.com/greet/@v/v1.0.0.info", status: 502, code: "proxy-bad-answer"},
		{name: "an endless go.mod", spoil: fault("/example.com/greet/@v/v1.0.0.mod", proxytest.Endless("text/plain", "module example.com/greet\n", "// and so on\n")), path: "/example.com/greet/@v/v1.0.0.mod", status: 502, code: "proxy-bad-answer"},
		{name: "a page", spoil: fault("*", proxytest.HTML()), path: zip, status: 502, code: "proxy-bad-answer"},
		{name: "half a zip", spoil: fault(zip, proxytest.Short(40)), path: zip, status: 502, code: "proxy-bad-answer"},
		{name: "no checksum database", spoil: lie(sumdbtest.Say("/", 500, "down")), path: zip, status: 503, code: "http-server-error"},
		{name: "a rule without its facts", spoil: fault("/example.com/greet/@v/list", proxytest.Status(500, "down")), path: zip, flags: []string{"--policy-file=RULES"}, status: 503, code: "server-policy-undecided"},
		{name: "a lookup that is refused", spoil: lie(sumdbtest.Say("/lookup/", 500, "down")), path: lookup, status: 502, code: "http-server-error"},
		{name: "a lookup that is forged", spoil: lie(sumdbtest.FlipBit("/lookup/", 900)), path: lookup, status: 502, code: "sumdb-forged"},
		{name: "a checksum database that has two histories", fork: true, path: strings.Replace(lookup, "greet", "late", 1), status: 503, code: "sumdb-untrusted"},
	}
}

// TestTroublesHaveCodes reaches each place that writes a 5xx, and looks for a code
// with an entry in the documentation.
func TestTroublesHaveCodes(t *testing.T) {
	documented, err := os.ReadFile(filepath.Join("..", "..", "docs", "doctor.md"))
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(rules, []byte("rules:\n  - {name: back, when: {retracted: true}, action: deny, reason: taken back}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range troubleCases() {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if test.spoil != nil {
				test.spoil(t, w)
			}
			var flags []string
			for _, f := range test.flags {
				flags = append(flags, strings.Replace(f, "RULES", rules, 1))
			}
			i, err := launch(nil, t.TempDir(), append(w.flags(), flags...)...)
			if err != nil {
				t.Fatal(err)
			}
			defer i.stop()
			if test.fork {
				other := w.log.Fork()
				w.log.AddText(module.Version{Path: "example.com/other", Version: "v1.0.0"}, "example.com/other v1.0.0 h1:"+strings.Repeat("B", 43)+"=\n")
				w.log.Fill(400)
				other.Fill(500)
				other.Add(module.Version{Path: "example.com/late", Version: "v1.0.0"}, "h1:"+strings.Repeat("A", 43)+"=", "h1:"+strings.Repeat("A", 43)+"=")
				get(t, i.url+"/sumdb/sum.example.com/latest")
				get(t, i.url+"/sumdb/sum.example.com/lookup/example.com/tool@v1.0.0")
				w.log.Lie(sumdbtest.As("/", other))
			}
			status, text := get(t, i.url+test.path)
			m := regexp.MustCompile(`\ncause: (\S+) \(on the server: modgate doctor --server\)\n(?:request \S+\n)?$`).FindStringSubmatch(text)
			if status != test.status || m == nil || !strings.Contains(text, test.text) {
				t.Fatalf("%d %q", status, text)
			}
			if test.code != "" && m[1] != test.code || m[1] == string(doctor.ServerTrouble) {
				t.Errorf("%q has the code %s, want %s", text, m[1], test.code)
			}
			if !strings.Contains(string(documented), "\n## "+m[1]+"\n") {
				t.Errorf("docs/doctor.md has no entry for %s", m[1])
			}
		})
	}
}
