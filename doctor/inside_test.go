package doctor

import (
	"slices"
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
