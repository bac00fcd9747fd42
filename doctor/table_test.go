package doctor_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/modgate/modgate/doctor"
)

func TestDocsAreMadeFromTheTable(t *testing.T) {
	golden(t, filepath.Join("..", "docs", "doctor.md"), doctor.Markdown())
}

// Codes are what scripts ask for: none goes away, and none becomes more or less
// than it was, without somebody meaning it. -update adds the new ones.
func TestCodesStay(t *testing.T) {
	var lines []string
	for _, e := range doctor.Table() {
		lines = append(lines, string(e.Code)+" "+string(e.Severity))
	}
	slices.Sort(lines)
	golden(t, filepath.Join("testdata", "codes.golden"), strings.Join(lines, "\n")+"\n")
}

// What is to be typed can be: each command is one that a shell understands.
func TestCommandsParse(t *testing.T) {
	first := strings.Fields("go export unset sudo cat getent curl openssl ls chmod df install modgate ping apt-get apk dnf dmesg docker kubectl date cp dig nslookup ss dscacheutil scutil systemctl")
	words := map[string]string{"host": "go.corp", "port": "443", "url": "https://go.corp", "machine": "go.corp", "file": "/tmp/x", "key": "/tmp/y", "advice": "x", "value": "x", "variable": "GONOSUMDB", "setting": "GONOSUMDB=x"}
	n := 0
	for _, e := range doctor.Table() {
		for _, m := range e.Mend {
			do := m.Do
			for name, value := range words {
				do = strings.ReplaceAll(do, "{"+name+"}", value)
			}
			do, _, _ = strings.Cut(do, "   (") // an explanation
			do = strings.ReplaceAll(do, "…", "x")
			word, _, _ := strings.Cut(do, " ")
			if m.On == doctor.Windows || !slices.Contains(first, word) {
				continue
			}
			n++
			if out, err := exec.Command("sh", "-n", "-c", do).CombinedOutput(); err != nil {
				t.Errorf("%s: %s: %v\n%s", e.Code, do, err, out)
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d commands were looked at", n)
	}
}

func TestEntriesAreComplete(t *testing.T) {
	code := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`)
	brace := regexp.MustCompile(`\{([a-z]+)\}`)
	words := []string{"host", "port", "url", "machine", "file", "key", "value", "variable", "setting", "advice", "command", "nosumdb", "noproxy", "bypass"}
	seen := map[doctor.Code]bool{}
	for _, e := range doctor.Table() {
		if !code.MatchString(string(e.Code)) || seen[e.Code] {
			t.Errorf("code %q is malformed or there twice", e.Code)
		}
		seen[e.Code] = true
		if e.Title == "" || strings.HasSuffix(e.Title, ".") || e.Cause == "" || e.Severity != doctor.Note && len(e.Mend) == 0 {
			t.Errorf("%s: a title without a full stop, a cause, and what mends it are needed", e.Code)
		}
		texts := []string{e.Title, e.Cause}
		for _, m := range e.Mend {
			texts = append(texts, m.Do)
		}
		for _, m := range brace.FindAllStringSubmatch(strings.Join(texts, " "), -1) {
			if !slices.Contains(words, m[1]) {
				t.Errorf("%s: nobody replaces %s", e.Code, m[0])
			}
		}
	}
}

// Every code is in the table, and every one is reported somewhere.
func TestCodesAreUsed(t *testing.T) {
	declared := map[string]string{} // constant → code
	used := map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				if id, ok := n.Type.(*ast.Ident); ok && id.Name == "Code" {
					value, err := strconv.Unquote(n.Values[0].(*ast.BasicLit).Value)
					if err != nil {
						t.Fatal(err)
					}
					declared[n.Names[0].Name] = value
				}
			case *ast.Ident:
				if !strings.HasPrefix(name, "codes_") {
					used[n.Name] = true
				}
			}
			return true
		})
	}
	var table []string
	for _, e := range doctor.Table() {
		table = append(table, string(e.Code))
	}
	for constant, code := range declared {
		if !slices.Contains(table, code) {
			t.Errorf("%s (%s) is not in the table", constant, code)
		}
		if !used[constant] {
			t.Errorf("%s (%s) is never reported", constant, code)
		}
	}
	if len(declared) != len(table) {
		t.Errorf("%d codes are declared, %d are in the table", len(declared), len(table))
	}
}
