package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestTLSDocsNameTests holds the table of tests in docs/tls.md against the tests
// that there are.
func TestTLSDocsNameTests(t *testing.T) {
	docs, err := os.ReadFile("../../docs/tls.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for _, dir := range []string{".", "../../tlsmgr", "../../tlsmgr/redis", "../../doctor"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(source, -1) {
				exists[string(m[1])] = true
			}
		}
	}
	named := regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(docs), -1)
	if len(named) < 20 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, name := range named {
		if !exists[name] {
			t.Errorf("docs/tls.md names %s, which does not exist", name)
		}
	}
}
