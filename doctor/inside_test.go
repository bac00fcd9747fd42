package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestVolumes(t *testing.T) {
	for _, test := range []struct {
		name string
		v    volume
		want []Code
	}{
		{"roomy", volume{100 << 30, 50 << 30, 1000, 500}, nil},
		{"large and four hundredths free", volume{1000 << 30, 40 << 30, 0, 0}, nil},
		{"small and full", volume{10 << 30, 300 << 20, 0, 0}, []Code{DiskLow}},
		{"tiny", volume{1 << 30, 100 << 20, 0, 0}, []Code{DiskLow}},
		{"no inodes", volume{100 << 30, 50 << 30, 1000, 10}, []Code{InodesLow}},
		{"too small for the cache", volume{10 << 30, 5 << 30, 0, 0}, nil},
	} {
		s := &Server{base: &Doctor{report: &Report{}}}
		s.judgeVolume(s.base.step("x", ""), Dir{Key: "cache.dir", Path: "/c", Max: 10 << 30}, test.v)
		var got []Code
		for _, f := range s.base.report.Findings {
			if f.Code != CacheTooBig {
				got = append(got, f.Code)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestFoolable(t *testing.T) {
	for v, want := range map[string]bool{
		"go1.26.8": false, "go1.26.6": false, "go1.26.5": true, "go1.26rc1": true, "go1.25.13": false, "go1.25.12": true, "go1.24.9": true, "go1.27rc1": false,
		"devel go1.28-abc": false, "go1.26.8 X:nocoverageredesign": false,
	} {
		if foolable(v) != want {
			t.Errorf("%s: %v", v, !want)
		}
	}
	for text, want := range map[string]string{"git version 2.39.5": "v2.39.5", "git version 2.50.1 (Apple Git-155)": "v2.50.1", "git version 2.47.windows.1": "v2.47.0", "?": ""} {
		if got := gitVersion(text); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func TestRoughly(t *testing.T) {
	for d, want := range map[time.Duration]string{90 * time.Second: "1m30s", 30 * time.Hour: "30h0m0s", 72 * time.Hour: "3 days", 365 * 24 * time.Hour: "365 days"} {
		if got := roughly(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

func FuzzNetrc(f *testing.F) {
	f.Add("machine a login b password c\n")
	f.Add("macdef x\n\nmachine")
	f.Add("default login a password b\nmachine h\nlogin l password p")
	f.Fuzz(func(t *testing.T, data string) {
		for _, e := range parseNetrc(data) {
			if e.machine == "" || e.login == "" || e.password == "" {
				t.Errorf("%q: an entry without all of its parts", data)
			}
		}
	})
}

func FuzzGoproxy(f *testing.F) {
	f.Add("https://a,b.corp|direct,off")
	f.Add(",|,")
	f.Fuzz(func(t *testing.T, list string) {
		for _, e := range splitGoproxy(list) {
			if u := proxyURL(e.text); u != nil && u.Scheme != "file" && u.Hostname() == "" {
				t.Errorf("%q has a URL without a host", list)
			}
		}
	})
}

// Who looks names up, by the settings of a machine: the cases are those of
// net/conf_test.go, as far as they are about Linux.
func TestWhoLooksNamesUp(t *testing.T) {
	const debian = "hosts: files mdns4_minimal [NOTFOUND=return] dns myhostname\n"
	for _, test := range []struct {
		host, system string
		cgo          bool
		environ      []string
		resolv, nss  string
		want         string // part of the reason, with system: in front if the system answers
		unasked      string
	}{
		{"go.corp", "linux", false, nil, "nameserver 10.0.0.1\n", debian, "built without cgo", "mdns4_minimal"},
		{"go.corp", "linux", true, nil, "nameserver 10.0.0.1\noptions edns0 trust-ad\n", debian, "neither resolv.conf nor nsswitch.conf", "mdns4_minimal"},
		{"go.corp", "linux", true, nil, "options inet6\n", debian, "system: /etc/resolv.conf has options inet6", ""},
		{"go.corp", "linux", true, nil, "sortlist 10.0.0.0\n", debian, "system: /etc/resolv.conf has sortlist", ""},
		{"go.corp", "linux", true, nil, "# none\n; none\n", "hosts: files dns\n", "neither", ""},
		{"go.corp", "linux", true, nil, "", "hosts: files resolve [!UNAVAIL=return] dns\n", "system: /etc/nsswitch.conf has resolve", ""},
		{"go.corp", "linux", true, nil, "", "hosts: files sss dns # by hand\n", "system: /etc/nsswitch.conf has sss", ""},
		{"go.corp", "linux", true, nil, "", "hosts: files [NOTFOUND=return] dns\n", "neither", ""},
		{"go.corp", "linux", true, nil, "", "hosts: files [!NOTFOUND=return] dns\n", "system: /etc/nsswitch.conf has files", ""},
		{"go.corp", "linux", true, nil, "", "hosts: files dns [NOTFOUND=return SUCCESS=continue] mdns4\n", "system: /etc/nsswitch.conf has dns", ""},
		{"printer.local", "linux", true, nil, "", debian, "system: /etc/nsswitch.conf has mdns4_minimal", ""},
		{"laptop", "linux", true, nil, "", debian, "system: /etc/nsswitch.conf has myhostname", ""},
		{"go.corp", "linux", true, []string{"LOCALDOMAIN="}, "", debian, "system: LOCALDOMAIN is set", ""},
		{"go.corp", "linux", true, []string{"RES_OPTIONS=ndots:2"}, "", debian, "system: RES_OPTIONS is set", ""},
		{"go.corp", "linux", true, []string{"GODEBUG=netdns=go+2"}, "", "hosts: files sss dns\n", "GODEBUG=netdns=go", "sss"},
		{"go.corp", "linux", true, []string{"GODEBUG=http2client=0,netdns=2+cgo"}, "", debian, "system: GODEBUG=netdns=cgo", ""},
		{"go.corp", "linux", false, []string{"GODEBUG=netdns=cgo"}, "", debian, "built without cgo", "mdns4_minimal"},
		{"go.corp", "linux", true, nil, "", "", "neither", ""}, // musl
		{"go.corp", "darwin", false, nil, "", "", "system: as always", ""},
		{"go.corp", "windows", false, nil, "", "", "system: as always", ""},
	} {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{resolvConf: test.resolv, nsswitchConf: test.nss} {
			if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); text != "" && err != nil {
				t.Fatal(err)
			}
		}
		d := &Doctor{cfg: Config{OS: test.system, Root: root, Environ: test.environ}, settings: &settings{goroot: "/usr/local/go", cgo: test.cgo}}
		got := d.chooseResolver(test.host)
		reason := got.why
		if got.system {
			reason = "system: " + reason
		}
		if !strings.Contains(reason, test.want) || got.system != strings.HasPrefix(test.want, "system: ") || strings.Join(got.unasked, " ") != test.unasked {
			t.Errorf("%s %q %q %q: %q, not asked: %q; want %q", test.host, test.environ, test.resolv, test.nss, reason, got.unasked, test.want)
		}
	}
}

// Old releases of git have holes; those of some distributions are mended without
// a new version.
func TestOldPrograms(t *testing.T) {
	for _, test := range []struct {
		git   string
		place Place
		want  []Code
	}{
		{"git version 2.51.0", Alpine, nil},
		{"git version 2.30.2", Alpine, []Code{ProgramOld}},
		{"git version 2.30.2", Debian, nil},
	} {
		s := &Server{cfg: new(ServerConfig), base: &Doctor{report: &Report{}, places: []Place{test.place}, settings: &settings{cfg: new(Config), version: "go1.26.8"}}}
		s.cfg.Git = func(context.Context) (string, error) { return test.git, nil }
		s.checkPrograms(t.Context())
		if got := s.base.report.Codes(); !slices.Equal(got, test.want) {
			t.Errorf("%s on %s: %v", test.git, test.place, got)
		}
		s.base.report, s.base.settings.version = &Report{}, "go1.24.1"
		if s.checkPrograms(t.Context()); !slices.Contains(s.base.report.Codes(), ProgramOld) {
			t.Error("an old go command is not told")
		}
	}
}
