package main

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with the file, or writes the file with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; if the change is meant, go test ./cmd/modgate -run '^%s$' -update\ngot:\n%s\nwant:\n%s", file, t.Name(), got, want)
	}
}

// alone are layers in which nobody says anything.
func alone(environ ...string) layers {
	return layers{file: "off", environ: append(environ, "XDG_CACHE_HOME=/xdg/cache", "XDG_CONFIG_HOME=/xdg/config")}
}

func TestDefaults(t *testing.T) {
	s, err := load(alone())
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Listen: "127.0.0.1:8080", Admin: Admin{"127.0.0.1:8081"}, BasePath: "/",
		Upstream: "https://proxy.golang.org", SumDB: "sum.golang.org", LookAhead: 16,
		Auth: Auth{Required: "true"},
		Cache: Cache{
			Dir: "/xdg/cache/modgate", MaxSize: 10 << 30, Memory: 64 << 20,
			Scrub: Scrub{4 << 20, Duration(720 * time.Hour)},
			S3:    S3{PathStyle: "off", SSE: "bucket", Redirect: "off", Timeout: Duration(3 * time.Second)},
			Redis: Redis{Mode: "standalone", TLS: "off", Namespace: "modgate", TTL: Duration(24 * time.Hour), Timeout: Duration(250 * time.Millisecond)},
		},
		TTL:    TTL{List: Duration(time.Minute), Private: Duration(5 * time.Second), Negative: Duration(10 * time.Second)},
		Direct: Direct{Go: "go", Fetches: 8, Timeout: Duration(10 * time.Minute)},
		TLS:    TLS{Mode: "off", CA: "letsencrypt", Challenge: "tls-alpn-01", MinVersion: "1.2"},
		Log:    Log{Format: "text"},
		Drain:  Drain{0, Duration(25 * time.Second)},
	}
	if !reflect.DeepEqual(s.Config, want) {
		t.Errorf("got %+v\nwant %+v", s.Config, want)
	}
	if len(s.origin) != 0 || len(s.warnings) != 0 {
		t.Errorf("origin %v, warnings %v", s.origin, s.warnings)
	}
}

func TestFlagsBeatEnvironmentBeatsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("listen: file:1\nbase_path: /file\nttl:\n  list: 1s\nprivate: [a.example, b.example/*]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := load(layers{
		environ: []string{"HOME=/h", "MODGATE_CONFIG=" + file, "MODGATE_LISTEN=env:2", "MODGATE_TTL_LIST=2s"},
		flags:   map[string]string{"listen": "flag:3"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Listen != "flag:3" || s.TTL.List != Duration(2*time.Second) || s.BasePath != "/file" || s.Private.String() != "a.example,b.example/*" {
		t.Errorf("got %+v", s.Config)
	}
	want := map[string]string{"listen": "--listen", "ttl.list": "MODGATE_TTL_LIST", "base_path": file + ":2", "private": file + ":5"}
	if !maps.Equal(s.origin, want) {
		t.Errorf("origin %v\nwant %v", s.origin, want)
	}
	t.Run("an empty value is a value", func(t *testing.T) {
		s, err := load(layers{file: file, environ: []string{"HOME=/h", "MODGATE_ADMIN_LISTEN=", "MODGATE_PRIVATE="}})
		if err != nil || s.Admin.Listen != "" || len(s.Private) != 0 {
			t.Errorf("%v, %+v", err, s.Config)
		}
	})
}

func TestFileInItsUsualPlace(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "modgate", "modgate.yaml")
	env := []string{"HOME=/h", "XDG_CONFIG_HOME=" + dir}
	if s, err := load(layers{environ: env}); err != nil || s.file != "" {
		t.Fatalf("without a file: %v, %q", err, s.file)
	}
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("base_path: /go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := load(layers{environ: env}); err != nil || s.file != file || s.BasePath != "/go" {
		t.Errorf("with a file: %v, %q, %q", err, s.file, s.BasePath)
	}
	if s, err := load(layers{environ: append(env, "MODGATE_CONFIG=off")}); err != nil || s.BasePath != "/" {
		t.Errorf("off: %v, %q", err, s.BasePath)
	}
	if _, err := load(layers{environ: env, file: file + "x"}); err == nil {
		t.Error("a file that is named must exist")
	}
}

// TestMistakes runs the cases of testdata/config: the file and the environment
// of each archive, and what load says about them. What stands in "want" is
// read by people: review it as such.
func TestMistakes(t *testing.T) {
	cases, err := filepath.Glob("testdata/config/*.txtar")
	if err != nil || len(cases) < 5 {
		t.Fatal(cases, err)
	}
	for _, name := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			l := layers{file: "off", environ: []string{"HOME=/h"}, flags: map[string]string{}}
			var want *txtar.File
			for i, f := range archive.Files {
				switch f.Name {
				case "want":
					want = &archive.Files[i]
					continue
				case "env":
					l.environ = append(l.environ, strings.Split(strings.ReplaceAll(strings.TrimSpace(string(f.Data)), "$DIR", dir), "\n")...)
				case "flags":
					for pair := range strings.Lines(string(f.Data)) {
						k, v, _ := strings.Cut(strings.TrimSpace(pair), "=")
						l.flags[k] = v
					}
				case "modgate.yaml":
					l.file = filepath.Join(dir, f.Name)
				}
				if err := os.WriteFile(filepath.Join(dir, f.Name), bytes.ReplaceAll(f.Data, []byte("$DIR"), []byte(dir)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s, err := load(l)
			var b strings.Builder
			for _, w := range s.warnings {
				b.WriteString("warning: " + w + "\n")
			}
			if err != nil {
				b.WriteString(err.Error() + "\n")
			}
			got := strings.ReplaceAll(b.String(), dir+string(filepath.Separator), "")
			if want == nil {
				archive.Files = append(archive.Files, txtar.File{Name: "want"})
				want = &archive.Files[len(archive.Files)-1]
			}
			if *update && got != string(want.Data) {
				want.Data = []byte(got)
				if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got != string(want.Data) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want.Data)
			}
		})
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "1500000000": 1.5e9, "50GiB": 50 << 30, "50 GiB": 50 << 30, "1.5GB": 1.5e9,
		"64MiB": 64 << 20, "2KiB": 2048, "3kB": 3000, "1TiB": 1 << 40, "7B": 7, " 8 ": 8, "0.5MiB": 1 << 19,
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q: %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1e9", "50gib", "5 0GiB", "GiB", "0x10", "inf", "NaN", "1_000", "+1", "9999999TiB", "9223372036854775807KiB", "1.5.5GB", "5K"} {
		s := Size(7)
		if err := s.UnmarshalText([]byte(text)); err == nil || s != 7 {
			t.Errorf("%q is accepted as %d", text, s)
		}
	}
	for _, s := range []Size{0, 1, 1023, 1024, 1025, 10 << 30, 1 << 40, 1.5e9} {
		var back Size
		if err := back.UnmarshalText([]byte(s.String())); err != nil || back != s {
			t.Errorf("%d → %q → %d, %v", s, s, back, err)
		}
	}
}

func TestConfigPrintsAFileThatLoads(t *testing.T) {
	for name, environ := range map[string][]string{
		"defaults": nil,
		"everything": {
			"MODGATE_LISTEN=[::1]:0", "MODGATE_ADMIN_LISTEN=", "MODGATE_BASE_PATH=/go/mod", "MODGATE_PRIVATE=*.corp,x/y",
			"MODGATE_UPSTREAM=https://a.example|https://b.example/p,off", "MODGATE_SUMDB=off", "MODGATE_LOG_LEVEL=WARN",
			"MODGATE_CACHE_DIR=/tmp/ 'quoted\" \\ #x: y", "MODGATE_TTL_LIST=1h30m", "MODGATE_CACHE_MAX_SIZE=1234567",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := load(alone(environ...))
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			if err := s.write(&b); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "c.yaml")
			if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			again, err := load(layers{file: file, environ: []string{"HOME=/h"}})
			if err != nil {
				t.Fatalf("%v\n%s", err, b.String())
			}
			for _, k := range keys() {
				if got, want := k.text(&again.Config), k.text(&s.Config); got != want {
					t.Errorf("%s is %q, was %q", k.name, got, want)
				}
			}
		})
	}
}

func TestCredentialsAreHidden(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "upstream")
	if err := os.WriteFile(secret, []byte("https://tok3n@a.example,https://u:tok3n@b.example|http://c.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := load(alone("MODGATE_UPSTREAM=file:" + secret))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.Upstream, "https://tok3n@a.example,") {
		t.Errorf("the reference is not followed: %q", s.Upstream)
	}
	var b strings.Builder
	if err := s.write(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "tok3n") || !strings.Contains(b.String(), "https://hidden@a.example,https://hidden@b.example|http://c.example") {
		t.Error(b.String())
	}
	_, err = load(alone("MODGATE_UPSTREAM=https://u:tok3n@b.example?q", "MODGATE_LISTEN=http://u:tok3n@x"))
	if err == nil || strings.Contains(err.Error(), "tok3n") {
		t.Errorf("mistakes: %v", err)
	}
}

func TestKeysDoNotCollide(t *testing.T) {
	seen := map[string]string{"config": "", "check": "", "reference": "", "MODGATE_CONFIG": ""}
	for _, k := range keys() {
		for _, name := range []string{k.flag(), k.env()} {
			if other, ok := seen[name]; ok {
				t.Errorf("%s: %s is taken by %q", k.name, name, other)
			}
			seen[name] = k.name
		}
		if k.name == "port" || strings.HasPrefix(k.name, "port.") || strings.HasPrefix(k.name, "service.") {
			t.Errorf("%s: Kubernetes sets %s by itself", k.name, k.env())
		}
		if !strings.HasSuffix(k.doc, ".") || strings.Contains(k.doc, "\n") {
			t.Errorf("%s: doc is not a sentence: %q", k.name, k.doc)
		}
	}
}

func TestReference(t *testing.T) {
	var b strings.Builder
	writeReference(&b)
	golden(t, "../../docs/configuration.md", b.String())
}

func FuzzDecode(f *testing.F) {
	cases, _ := filepath.Glob("testdata/config/*.txtar")
	for _, name := range cases {
		if archive, err := txtar.ParseFile(name); err == nil {
			for _, file := range archive.Files {
				f.Add(file.Data)
			}
		}
	}
	f.Add([]byte("private: [a, b]\ncache: {dir: /x, max_size: 1.5GB}\nlog:\n  level: warn\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newSettings()
		found := s.decode("c.yaml", data)
		if len(found) > 0 && found.Error() == "" {
			t.Error("mistakes without words")
		}
		for name := range s.origin {
			if k := find(name); k.index == nil {
				t.Errorf("%q is set but is no key", name)
			} else if err := k.set(new(Config), k.text(&s.Config)); err != nil {
				t.Errorf("%s holds %q, which it would not take: %v", name, k.text(&s.Config), err)
			}
		}
	})
}
