package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

const modulePath = "github.com/modgate/modgate"

// dependencies are the modules that we may use directly, each with its reason.
// A new one is a decision: what does it save, who keeps it, what does it drag in?
var dependencies = map[string]string{
	"github.com/goccy/go-yaml":            "configuration: errors with line and column",
	"github.com/maypok86/otter/v2":        "bounded maps in memory",
	"github.com/prometheus/client_golang": "metrics",
	"github.com/rogpeppe/go-internal":     "tests: scripts of real commands, txtar",
	"github.com/schollz/progressbar/v3":   "warm and verify on a terminal",
	"github.com/sony/gobreaker/v2":        "circuit breaker of an upstream",
	"github.com/spf13/cobra":              "sub-commands and help",
	"go.uber.org/goleak":                  "tests: no goroutine without an owner",
	"golang.org/x/crypto":                 "ssh to private repositories",
	"golang.org/x/net":                    "doctor: which HTTP proxy applies, by the rules of net/http; messages of DNS",
	"golang.org/x/mod":                    "names, zips, hashes and the checksum database, as the go command has them",
	"golang.org/x/sync":                   "errgroup",
	"golang.org/x/sys":                    "free space, record locks",
	"pgregory.net/rapid":                  "tests: generated cases",

	"github.com/caddyserver/certmagic": "ACME",
	"github.com/libdns":                "challenge dns-01: one small module for each provider",
	"github.com/mholt/acmez/v3":        "what certmagic is built on: the types of its errors",
	"go.uber.org/zap":                  "what certmagic logs by",
	"github.com/goproxy/goproxy":       "fetching private modules with the go command; pinned, see facts",
	"github.com/redis/go-redis/v9":     "the shared tier",

	"github.com/aws/aws-sdk-go-v2":             "the bucket of the shared tier",
	"github.com/aws/aws-sdk-go-v2/config":      "its credential chain",
	"github.com/aws/aws-sdk-go-v2/credentials": "static credentials of it",
	"github.com/aws/aws-sdk-go-v2/service/s3":  "S3",
	"github.com/aws/smithy-go":                 "the codes of its errors",
}

// mayImport says which folders of ours a folder may import, beside internal/…
// and itself: the map of the README as a table. cmd may import everything.
var mayImport = map[string][]string{
	"auth":                   {"policy"}, // policy.Caller
	"cache":                  {},
	"cache/cachetest":        {"cache"},
	"cache/disk":             {"cache"},
	"cache/mem":              {"cache"},
	"cache/redis":            {"cache"},
	"cache/s3":               {"cache"},
	"cache/sharedtest":       {},
	"doctor":                 {"tlsmgr"},
	"policy":                 {},
	"proxy":                  {"cache", "policy"}, // for their value types
	"proxy/proxytest":        {},
	"proxy/upstream":         {},
	"proxy/upstream/gittest": {"proxy/proxytest"}, // for its faults
	"sumdb":                  {},
	"sumdb/sumdbtest":        {"sumdb"},
	"tlsmgr":                 {},
	"tlsmgr/redis":           {},
	"tlsmgr/tlstest":         {},
}

// onlyIn says where alone something may be used, in production code.
var onlyIn = map[string][]string{
	`import "os/exec"`:                  {"proxy/upstream", "tlsmgr/dns_exec.go", "cmd/modbench"}, // a server that starts processes can be made to start others
	`import "flag"`:                     {"cmd"},
	`import "github.com/goccy/go-yaml"`: {"cmd"},
	`import "github.com/spf13/cobra"`:   {"cmd"},
	`import "github.com/spf13/pflag"`:   {"cmd"},
	`import "log"`:                      {}, // log/slog
	`import "testing"`:                  {},
	`import "unsafe"`:                   {},
	"context.Background":                {"cmd/modgate/main.go", "cmd/modbench/main.go", "proxy/flight.go", "sumdb/life.go", "cache/spools.go", "cache/tiered.go"}, // a fetch belongs to the server
	"http.Client":                       {"proxy/upstream", "cmd", "tlsmgr/acme.go", "cache/s3", "doctor"},
	"http.DefaultClient":                {"cmd/modbench"},
	"http.DefaultTransport":             {"proxy/upstream", "cmd"},
	"http.Get":                          {},
	"http.Transport":                    {"proxy/upstream", "cmd", "tlsmgr/acme.go", "cache/s3", "doctor"},
	"net.Dial":                          {"proxy/upstream", "cmd"},
	"net.Dialer":                        {"proxy/upstream", "cmd", "cache/s3"},
	"os.Exit":                           {"cmd/modgate/main.go", "cmd/modbench/main.go"},
	"os.Getenv":                         {"cmd"},
	"os.LookupEnv":                      {"cmd"},
	"slog.Default":                      {},
	"cache.NewChecked":                  {"cmd", "cache"},
	"cache.NewLimit":                    {"cmd", "cache"},
	"cache.NewTiered":                   {"cmd", "cache"},
	"policy.New":                        {"cmd", "policy"},
}

// Ceilings of the style. Long is no virtue below them either.
const (
	maxFileLines = 400
	maxFuncLines = 80
	maxMethods   = 4
)

// source is one Go file of this repository.
type source struct {
	name string // from the root, with slashes
	dir  string
	test bool // of a test, or of a folder that serves tests
	file *ast.File
	fset *token.FileSet
}

func (s *source) line(p token.Pos) int { return s.fset.Position(p).Line }

// sources parses all Go files of the repository's main module.
func sources(t *testing.T) []*source {
	t.Helper()
	root := filepath.Join("..", "..")
	var all []*source
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); rel != "." && err == nil {
				return fs.SkipDir // a module of its own
			}
			return nil
		}
		if path.Ext(rel) != ".go" {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, &source{rel, path.Dir(rel), strings.HasSuffix(rel, "_test.go") || strings.HasSuffix(path.Dir(rel), "test"), file, fset})
		return nil
	})
	if err != nil || len(all) < 50 {
		t.Fatalf("%d files, %v", len(all), err)
	}
	return all
}

// within reports whether a file is in one of the places: a folder with all
// below it, or a file.
func within(name string, places []string) bool {
	return slices.ContainsFunc(places, func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") })
}

func TestImportsFollowTheMap(t *testing.T) {
	for _, s := range sources(t) {
		for _, spec := range s.file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			folder, ours := strings.CutPrefix(imported, modulePath+"/")
			if !ours || strings.HasSuffix(s.name, "_test.go") || within(s.name, []string{"cmd"}) || folder == s.dir {
				continue
			}
			allowed, known := mayImport[s.dir]
			if !known && !within(s.dir, []string{"internal"}) {
				t.Errorf("%s: the folder is not on the map (mayImport)", s.dir)
			}
			if !within(folder, []string{"internal"}) && !slices.Contains(allowed, folder) {
				t.Errorf("%s:%d imports %s", s.name, s.line(spec.Pos()), folder)
			}
		}
	}
}

func TestPlacesOfDangerousThings(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || within(s.name, []string{"tools"}) {
			continue
		}
		check := func(what string, pos token.Pos) {
			if places, ruled := onlyIn[what]; ruled && !within(s.name, places) {
				t.Errorf("%s:%d: %s belongs in %q alone", s.name, s.line(pos), what, places)
			}
		}
		for _, spec := range s.file.Imports {
			check("import "+spec.Path.Value, spec.Pos())
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok {
					check(x.Name+"."+sel.Sel.Name, sel.Pos())
				}
			}
			return true
		})
	}
}

func TestDirectDependencies(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		if !r.Indirect && !within(r.Mod.Path, slices.Collect(maps.Keys(dependencies))) {
			t.Errorf("%s is a direct dependency without a reason (dependencies)", r.Mod)
		}
	}
	if len(mod.Replace) > 0 {
		t.Error("a replace directive breaks go install of our commands")
	}
	// What is linked is what is imported, whatever go.mod says of it.
	for _, s := range sources(t) {
		for _, spec := range s.file.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			first, _, _ := strings.Cut(imported, "/")
			if !strings.Contains(first, ".") || within(imported, []string{modulePath}) {
				continue
			}
			if !within(imported, slices.Collect(maps.Keys(dependencies))) {
				t.Errorf("%s imports %s", s.name, imported)
			}
		}
	}
}

func TestStructure(t *testing.T) {
	for _, s := range sources(t) {
		switch s.file.Name.Name {
		case "util", "utils", "common", "helpers", "types", "models", "pkg", "misc":
			t.Errorf("%s: package %s says nothing", s.name, s.file.Name.Name)
		}
		if s.test {
			continue
		}
		if n := s.line(s.file.FileEnd); n > maxFileLines {
			t.Errorf("%s has %d lines", s.name, n)
		}
		for _, decl := range s.file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				s.checkFunc(t, d)
			case *ast.GenDecl:
				s.checkDecl(t, d)
			}
		}
	}
}

func (s *source) checkFunc(t *testing.T, f *ast.FuncDecl) {
	if f.Recv == nil && f.Name.Name == "init" {
		t.Errorf("%s:%d: init", s.name, s.line(f.Pos()))
	}
	if n := s.line(f.End()) - s.line(f.Pos()) + 1; n > maxFuncLines {
		t.Errorf("%s:%d: %s has %d lines", s.name, s.line(f.Pos()), f.Name.Name, n)
	}
}

// checkDecl looks for interfaces that are too wide, and for package variables
// without a value: those are there to be changed.
func (s *source) checkDecl(t *testing.T, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			i, ok := spec.Type.(*ast.InterfaceType)
			if ok && i.Methods.NumFields() > maxMethods {
				t.Errorf("%s:%d: interface %s has %d methods", s.name, s.line(spec.Pos()), spec.Name.Name, i.Methods.NumFields())
			}
		case *ast.ValueSpec:
			embedded := isEmbed(spec.Doc) || isEmbed(d.Doc)
			if d.Tok == token.VAR && len(spec.Values) == 0 && !embedded {
				t.Errorf("%s:%d: package variable %s can only be there to be changed", s.name, s.line(spec.Pos()), spec.Names[0].Name)
			}
		}
	}
}

func isEmbed(doc *ast.CommentGroup) bool {
	return doc != nil && strings.HasPrefix(doc.List[len(doc.List)-1].Text, "//go:embed ")
}
