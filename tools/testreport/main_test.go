package main

import (
	"bytes"
	"strings"
	"testing"
)

// The inputs are what go 1.26 prints, shortened.
const (
	passing = `{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestA"}
{"Action":"output","Package":"m/a","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"pass","Package":"m/a","Test":"TestA","Elapsed":0.5}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t0.6s\n"}
{"Action":"pass","Package":"m/a","Elapsed":0.6}
`
	failing = `{"Action":"run","Package":"m/b","Test":"TestB"}
{"Action":"output","Package":"m/b","Test":"TestB","Output":"    b_test.go:7: want 1, got 2\n"}
{"Action":"fail","Package":"m/b","Test":"TestB","Elapsed":0}
{"Action":"fail","Package":"m/b","Elapsed":0.1}
`
	noBuild = `{"ImportPath":"m/c [m/c.test]","Action":"build-output","Output":"c.go:3: undefined: x\n"}
{"ImportPath":"m/c [m/c.test]","Action":"build-fail"}
{"Action":"fail","Package":"m/c","Elapsed":0,"FailedBuild":"m/c [m/c.test]"}
`
	crashed = `{"Action":"run","Package":"m/d","Test":"TestD"}
{"Action":"output","Package":"m/d","Test":"TestD","Output":"panic: boom\n"}
{"Action":"fail","Package":"m/d","Elapsed":0.1}
`
	noTool = `{"Action":"output","Package":"m/e","Test":"TestE","Output":"=== RUN   TestE\n"}
{"Action":"output","Package":"m/e","Test":"TestE","Output":"    e_test.go:9: needs strace\n"}
{"Action":"output","Package":"m/e","Test":"TestE","Output":"--- SKIP: TestE (0.00s)\n"}
{"Action":"skip","Package":"m/e","Test":"TestE","Elapsed":0}
{"Action":"output","Package":"m/e","Test":"TestF","Output":"    e_test.go:9: needs strace\n"}
{"Action":"skip","Package":"m/e","Test":"TestF","Elapsed":0}
{"Action":"pass","Package":"m/e","Elapsed":0.1}
`
	onPurpose = `{"Action":"output","Package":"m/f","Test":"TestF","Output":"    f_test.go:9: needs MODGATE_TEST_ONLINE=1\n"}
{"Action":"skip","Package":"m/f","Test":"TestF","Elapsed":0}
{"Action":"pass","Package":"m/f","Elapsed":0.1}
`
)

func TestReport(t *testing.T) {
	for _, tc := range []struct {
		name, in   string
		ok, strict bool     // passes without and with -strict
		want       []string // in the output
	}{
		{"pass", passing, true, true, []string{"ok    m/a  0.6s, 1 tests"}},
		{"fail", passing + failing, false, false, []string{"want 1, got 2", "FAIL  m/b", "failed: 2"}},
		{"does not build", noBuild, false, false, []string{"undefined: x", "FAIL  m/c"}},
		{"crash in a test", crashed, false, false, []string{"panic: boom"}},
		{"missing program", noTool, true, false, []string{"skip  m/e TestE and 1 more: needs strace", "installed: 2"}},
		{"skipped on purpose", onPurpose, true, true, []string{"skip  m/f TestF: needs MODGATE_TEST_ONLINE=1"}},
		{"words of go itself", "go: no such module\n" + passing, true, true, []string{"go: no such module"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, strict := range []bool{false, true} {
				want := tc.ok
				if strict {
					want = tc.strict
				}
				var out bytes.Buffer
				ok, err := report(strings.NewReader(tc.in), &out, strict)
				if err != nil || ok != want {
					t.Errorf("strict %v: got %v, %v; want %v\n%s", strict, ok, err, want, &out)
				}
				for _, s := range tc.want {
					if !strings.Contains(out.String(), s) {
						t.Errorf("output lacks %q:\n%s", s, &out)
					}
				}
			}
		})
	}
}

// No events at all is not a pass: go test itself could not start.
func TestReportNothing(t *testing.T) {
	var out bytes.Buffer
	if ok, err := report(strings.NewReader("go: cannot find main module\n"), &out, false); ok || err == nil {
		t.Errorf("got %v, %v; want an error", ok, err)
	}
}
