package main

import (
	"runtime/debug"
	"testing"
)

func TestVersionOf(t *testing.T) {
	const revision = "5ab8b214cff51fa9f2a4a9fb77df7562529db8a2"
	for name, c := range map[string]struct {
		version            string
		revision, modified string
		want               string
	}{
		"a release":                     {"v1.2.3", revision, "false", "v1.2.3"},
		"go install of a commit":        {"v0.0.0-20261122074218-5ab8b214cff5", "", "", "v0.0.0-20261122074218-5ab8b214cff5"},
		"a repository without versions": {"(devel)", revision, "false", "5ab8b214cff5"},
		"with changes":                  {"(devel)", revision, "true", "5ab8b214cff5+dirty"},
		"no repository":                 {"(devel)", "", "", "devel"},
		"no build information":          {"", "", "", "devel"},
		"a short revision":              {"", "17", "false", "17"},
	} {
		info := &debug.BuildInfo{Main: debug.Module{Version: c.version}}
		if c.revision != "" {
			info.Settings = []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: c.revision}, {Key: "vcs.modified", Value: c.modified}}
		}
		version, rev := versionOf(info)
		if version != c.want || rev != c.revision {
			t.Errorf("%s: %q, %q, want %q", name, version, rev, c.want)
		}
	}
}
