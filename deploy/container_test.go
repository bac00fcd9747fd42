package deploy_test

import (
	"debug/elf"
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// stage is one FROM of the Dockerfile with the instructions behind it.
type stage struct {
	base, name   string
	instructions [][2]string // upper-case name, rest of the line
}

// last returns the rest of the last instruction called name.
func (s stage) last(name string) string {
	for _, in := range slices.Backward(s.instructions) {
		if in[0] == name {
			return in[1]
		}
	}
	return ""
}

// list returns the last instruction called name, which is a JSON array.
func (s stage) list(t *testing.T, name string) []string {
	t.Helper()
	var words []string
	if err := json.Unmarshal([]byte(s.last(name)), &words); err != nil {
		t.Errorf("%s of %s: %v", name, s.name, err)
	}
	return words
}

func readStages(t *testing.T) []stage {
	t.Helper()
	text := strings.ReplaceAll(read(t, "../Dockerfile"), "\\\n", " ")
	var stages []stage
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		if name == "FROM" {
			m := regexp.MustCompile(`^(?:--platform=\S+ )?(\S+) AS (\S+)$`).FindStringSubmatch(rest)
			if m == nil {
				t.Fatalf("FROM %s: want an image AS a name", rest)
			}
			stages = append(stages, stage{base: m[1], name: m[2]})
			continue
		}
		if len(stages) == 0 {
			t.Fatalf("%s before the first FROM", line)
		}
		s := &stages[len(stages)-1]
		s.instructions = append(s.instructions, [2]string{name, rest})
	}
	return stages
}

func findStage(t *testing.T, name string) stage {
	t.Helper()
	stages := readStages(t)
	i := slices.IndexFunc(stages, func(s stage) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("the Dockerfile has no stage %s", name)
	}
	return stages[i]
}

// buildLine is the go build command of the build stage and where it writes to.
func buildLine(t *testing.T) (line, output string) {
	t.Helper()
	for _, in := range findStage(t, "build").instructions {
		if _, cmd, ok := strings.Cut(in[1], "CGO_ENABLED=0"); ok && in[0] == "RUN" {
			m := regexp.MustCompile(` -o (\S+) `).FindStringSubmatch(cmd)
			if m == nil {
				t.Fatalf("no -o in %s", cmd)
			}
			return "CGO_ENABLED=0" + cmd, m[1]
		}
	}
	t.Fatal("the build stage has no RUN with CGO_ENABLED=0")
	return "", ""
}

func TestImagesRunTheBinary(t *testing.T) {
	_, built := buildLine(t)
	for _, name := range []string{"modgate", "modgate-vcs"} {
		t.Run(name, func(t *testing.T) {
			s := findStage(t, name)
			entry := s.list(t, "ENTRYPOINT")
			if len(entry) != 1 || !slices.Contains(s.instructions, [2]string{"COPY", "--from=build " + built + " " + entry[0]}) {
				t.Errorf("ENTRYPOINT %q is not the copy of %s", entry, built)
			}
			env := strings.Fields(s.last("ENV"))
			config := effective(t, checkServe(t, env, s.list(t, "CMD")))
			if config["cache.dir"] != s.last("VOLUME") {
				t.Errorf("the cache is in %s, the volume is %s", config["cache.dir"], s.last("VOLUME"))
			}
			if want := ":" + s.last("EXPOSE"); config["listen"] != want {
				t.Errorf("listens on %s, want %s", config["listen"], want)
			}
			user, _, _ := strings.Cut(s.last("USER"), ":")
			if uid, err := strconv.Atoi(user); err != nil || uid < 1000 {
				// Kubernetes' runAsNonRoot cannot judge a name.
				t.Errorf("USER %s: want the number of a user without rights", s.last("USER"))
			}
			if owner := "--from=build --chown=" + s.last("USER") + " /out/cache " + s.last("VOLUME"); !slices.Contains(s.instructions, [2]string{"COPY", owner}) {
				t.Errorf("no COPY %s: the volume would belong to root", owner)
			}
		})
	}
}

// Bases are pinned by a tag that says a version, and the compiler is not older
// than go.mod demands.
func TestImagesArePinned(t *testing.T) {
	mod, err := modfile.ParseLax("go.mod", []byte(read(t, "../go.mod")), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range readStages(t) {
		name, tag, _ := strings.Cut(path.Base(s.base), ":")
		if tag == "" || tag == "latest" {
			t.Errorf("FROM %s has no tag that says which", s.base)
		}
		version, _, _ := strings.Cut(tag, "-")
		if name == "golang" && semver.Compare("v"+version, "v"+mod.Go.Version) < 0 {
			t.Errorf("FROM %s is older than go %s of go.mod", s.base, mod.Go.Version)
		}
	}
}

// The build command of the Dockerfile, run over what .dockerignore leaves.
func TestImageBuildCommand(t *testing.T) {
	dir := t.TempDir()
	if n := copyContext(t, "..", dir); n < 20 {
		t.Fatalf("only %d files are left for the build", n)
	}
	line, output := buildLine(t)
	bin := filepath.Join(t.TempDir(), binaryName)
	line = "cd '" + dir + "' && " + strings.Replace(line, output, bin, 1)
	if out, err := command(t, []string{"TARGETOS=" + runtime.GOOS, "TARGETARCH=" + runtime.GOARCH}, "sh", "-c", line); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	if out, err := command(t, nil, bin, "version"); err != nil {
		t.Errorf("modgate version: %v\n%s", err, out)
	}
	if runtime.GOOS != "linux" {
		return
	}
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 || f.Section(".interp") != nil {
		t.Errorf("not static: needs %q, %v", libs, err)
	}
}

// copyContext copies what .dockerignore does not name and counts the files.
func copyContext(t *testing.T, from, to string) int {
	t.Helper()
	ignored := strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(read(t, "../.dockerignore"), ""))
	files := 0
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(from, name)
		if err != nil || relErr != nil || rel == "." {
			return err
		}
		for _, pattern := range ignored {
			subject := filepath.ToSlash(rel)
			if deep, ok := strings.CutPrefix(pattern, "**/"); ok {
				pattern, subject = deep, path.Base(subject)
			}
			if ok, _ := path.Match(pattern, subject); ok {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		if d.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), 0o700)
		}
		files++
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// service is what compose.yaml may say of one.
type service struct {
	Build           struct{ Context, Target string } `yaml:"build"`
	Image           string                           `yaml:"image"`
	Command         []string                         `yaml:"command"`
	Ports           []string                         `yaml:"ports"`
	Volumes         []string                         `yaml:"volumes"`
	Restart         string                           `yaml:"restart"`
	StopGracePeriod string                           `yaml:"stop_grace_period"`
	ReadOnly        bool                             `yaml:"read_only"`
	Tmpfs           []string                         `yaml:"tmpfs"`
	CapDrop         []string                         `yaml:"cap_drop"`
	SecurityOpt     []string                         `yaml:"security_opt"`
	PidsLimit       int                              `yaml:"pids_limit"`
	MemLimit        string                           `yaml:"mem_limit"`
}

func TestCompose(t *testing.T) {
	var file struct {
		Name     string             `yaml:"name"`
		Services map[string]service `yaml:"services"`
		Volumes  map[string]any     `yaml:"volumes"`
	}
	if err := yaml.UnmarshalWithOptions([]byte(read(t, "compose.yaml")), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	s := file.Services["modgate"]
	image := findStage(t, s.Build.Target)
	text := checkServe(t, strings.Fields(image.last("ENV")), s.Command)
	config := effective(t, text)

	if want := "cache:" + image.last("VOLUME"); !slices.Contains(s.Volumes, want) || config["cache.dir"] != image.last("VOLUME") {
		t.Errorf("volumes are %q, the cache is in %s, the image has %s", s.Volumes, config["cache.dir"], image.last("VOLUME"))
	}
	if _, ok := file.Volumes["cache"]; !ok {
		t.Error("the volume cache is not declared")
	}
	if !slices.Contains(s.Volumes, "./modgate.yaml:/etc/modgate/modgate.yaml:ro") {
		t.Errorf("volumes are %q: the configuration is not among them", s.Volumes)
	}
	// Plain HTTP and the admin listener are for this host only.
	for _, key := range []string{"listen", "admin.listen"} {
		port := config[key]
		if !strings.HasPrefix(port, ":") || !slices.Contains(s.Ports, "127.0.0.1"+port+port) {
			t.Errorf("%s is %q, published are %q", key, config[key], s.Ports)
		}
	}
	grace, err := time.ParseDuration(s.StopGracePeriod)
	if err != nil || grace < drain(t, text)+5*time.Second {
		t.Errorf("stop_grace_period is %v, %v; draining takes %v", grace, err, drain(t, text))
	}
	if !slices.ContainsFunc(s.Tmpfs, func(m string) bool { return strings.HasPrefix(m, "/tmp:") }) {
		t.Errorf("tmpfs is %q: downloads have no place while the volume is full", s.Tmpfs)
	}
	if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
		t.Errorf("not fenced in: read_only %v, cap_drop %q, security_opt %q", s.ReadOnly, s.CapDrop, s.SecurityOpt)
	}
}
