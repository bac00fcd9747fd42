package doctor_test

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/modgate/modgate/doctor"
)

// TestDefectsAreTested holds the table of what can be wrong (testdata/defects.md)
// against the tests that there are, the codes, and what the go command has said.
func TestDefectsAreTested(t *testing.T) {
	read := func(name string) string {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	sources := map[string]string{} // of the file that has a test, by its name
	for _, dir := range []string{".", "../cmd/modgate"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(files) < 5 {
			t.Fatal(files, err)
		}
		all := ""
		for _, name := range files {
			text := read(name)
			all += text
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(text, -1) {
				sources[m[1]] = text
			}
		}
		if dir == "." {
			sources["TestDefects"] = all // its table is in several files
		}
	}
	said := map[string]map[string]string{} // what the go command says of each defect, by test
	recorded, err := filepath.Glob(filepath.Join(goSaid, "*.golden"))
	if err != nil || len(recorded) == 0 {
		t.Fatal(recorded, err)
	}
	for _, name := range recorded {
		test := strings.TrimSuffix(filepath.Base(name), ".golden")
		said[test] = readSayings(t, name)
		for about := range said[test] {
			if about != test && !strings.Contains(sources[test], `"`+about+`"`) {
				t.Errorf("%s has %q, and there is no such row", name, about)
			}
		}
	}
	n := 0
	for line := range strings.Lines(read("testdata/defects.md")) {
		cells := strings.Split(strings.ReplaceAll(strings.TrimSpace(line), `\|`, "¦"), "|")
		if len(cells) != 6 || !strings.Contains(cells[4], "Test") {
			continue
		}
		n++
		says, code := strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])
		test, sub, isSub := strings.Cut(strings.ReplaceAll(strings.TrimSpace(cells[4]), "¦", "|"), "/")
		source := sources[test]
		if source == "" || isSub && !strings.Contains(source, `"`+sub+`"`) {
			t.Errorf("there is no %s/%s", test, sub)
		}
		if code != "" && !slices.ContainsFunc(doctor.Table(), func(e doctor.Entry) bool { return string(e.Code) == code }) {
			t.Errorf("%s: there is no %s", cells[1], code)
		}
		recorded := source
		if text := cmp.Or(said[test][sub], said[test][test]); text != "" {
			recorded = text
			if says == "–" {
				t.Errorf("%s: the go command says %s", cells[1], text)
			}
		}
		if says != "–" && !strings.Contains(recorded, says) {
			t.Errorf("%s: the go command says nothing of %q: %.200s", cells[1], says, recorded)
		}
	}
	if n < 100 {
		t.Errorf("only %d defects are in the table", n)
	}
}
