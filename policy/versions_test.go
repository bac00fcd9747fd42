package policy

import (
	"testing"

	"golang.org/x/mod/module"
)

func TestRange(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text    string
		in, out []string
	}{
		{"v1.4.3", []string{"v1.4.3"}, []string{"v1.4.2", "v1.4.3-rc.1", "v1.4.4-0.20260101000000-abcdefabcdef"}},
		{"=v2.0.0", []string{"v2.0.0", "v2.0.0+incompatible"}, []string{"v2.0.1+incompatible"}},
		{"<v1.4.3", []string{"v1.4.2", "v0.1.0", "v1.4.3-rc.1", "v1.4.3-0.20260101000000-abcdefabcdef"}, []string{"v1.4.3", "v2.0.0"}},
		{">=v1.2.0 <v1.3.0", []string{"v1.2.0", "v1.2.9"}, []string{"v1.3.0", "v1.1.9", "v1.2.0-rc.1"}},
		{">= v1.2.0  < v1.3.0", []string{"v1.2.0"}, []string{"v1.3.0"}},
		{">v1.2.0 <=v1.3.0", []string{"v1.3.0", "v1.2.1"}, []string{"v1.2.0"}},
		{"pseudo", []string{"v0.0.0-20260101000000-abcdefabcdef", "v1.2.4-0.20260101000000-abcdefabcdef"}, []string{"v1.0.0", "v1.0.0-rc.1"}},
		{"incompatible", []string{"v2.0.0+incompatible"}, []string{"v2.0.0"}},
		{"prerelease", []string{"v1.0.0-rc.1"}, []string{"v1.0.0", "v0.0.0-20260101000000-abcdefabcdef"}},
		{"pseudo <v1.0.0", []string{"v0.0.0-20260101000000-abcdefabcdef"}, []string{"v1.2.4-0.20260101000000-abcdefabcdef", "v0.1.0"}},
		// One commit, whatever tag the pseudo-version builds on.
		{"v0.0.0-20260101000000-abcdefabcdef", []string{"v1.2.4-0.20260101000000-abcdefabcdef"}, []string{"v0.0.0-20260101000000-bbcdefabcdef"}},
	}
	for _, test := range tests {
		r, err := ParseRange(test.text)
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		for _, v := range test.in {
			if !r.Contains(v) {
				t.Errorf("%s is not in %q", v, test.text)
			}
		}
		for _, v := range test.out {
			if r.Contains(v) {
				t.Errorf("%s is in %q", v, test.text)
			}
		}
	}
}

func TestRangeRefusesWhatMeansNothing(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "1.4.3", "<1.4.3", "v1.4", "<v1", "v1.4.3+build", "<", "v1.0.0 <", "latest", "~v1.2.0", "<v1.0.0 >v2.0.0",
		">v1.0.0 <v1.0.0", "v1.0.0 v1.0.1", ">=v1.0.0 <v1.0.0", "<<v1.0.0", "v1.0.0||v1.1.0",
	} {
		if r, err := ParseRange(text); err == nil {
			t.Errorf("%q is accepted as %v", text, r.terms)
		}
	}
}

func TestToolchainVersion(t *testing.T) {
	t.Parallel()
	tests := []struct{ path, version, want string }{
		{"golang.org/toolchain", "v0.0.1-go1.26.6.linux-amd64", "go1.26.6"},
		{"golang.org/toolchain", "v0.0.1-go1.27rc1.windows-arm64", "go1.27rc1"},
		{"golang.org/toolchain", "v0.0.1-go1.26.6", "go1.26.6"},
		{"golang.org/toolchain", "v0.0.1", ""},
		{"golang.org/toolchain2", "v0.0.1-go1.26.6.linux-amd64", ""},
	}
	for _, test := range tests {
		got, ok := toolchainVersion(module.Version{Path: test.path, Version: test.version})
		if ok != (test.want != "") || ok && got != test.want {
			t.Errorf("%s@%s: %q, %v; want %q", test.path, test.version, got, ok, test.want)
		}
	}
	r, err := parseToolchain(">=go1.25 <go1.26.6")
	if err != nil || !r.containsGo("go1.26.5") || r.containsGo("go1.26.6") || r.containsGo("go1.24.9") {
		t.Errorf("range %v, %v", r, err)
	}
	for _, text := range []string{"<1.26", "pseudo", "", "<v1.26.0"} {
		if _, err := parseToolchain(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// FuzzRange looks for ranges that are read twice differently, or that panic.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"<v1.4.3", ">=v1.2.0 <v1.3.0", "pseudo", "v1.0.0-rc.1", "= v2.0.0+incompatible", "<", "v0.0.0-20260101000000-abcdefabcdef"} {
		f.Add(s, "v1.2.3")
	}
	f.Fuzz(func(t *testing.T, s, v string) {
		r, err := ParseRange(s)
		if err != nil {
			return
		}
		again, err := ParseRange(r.String())
		if err != nil {
			t.Fatalf("%q is read, %q is not: %v", s, r, err)
		}
		if module.CanonicalVersion(v) == v && r.Contains(v) != again.Contains(v) {
			t.Errorf("%q and %q differ about %s", s, r, v)
		}
	})
}
