package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modgate/modgate/internal/ziphash"
)

// hashes are the h1 hashes of what the proxy serves; "" if it was not had.
type hashes struct{ zip, mod string }

// examineHTTP asks for a module, step by step as the go command does.
func (d *Doctor) examineHTTP(ctx context.Context) {
	m := d.cfg.Module
	if d.private(m) {
		s := d.step("module", "nothing: "+m.Path+" is private")
		s.Verdict = Skip
		d.found(s, ModulePrivate, "GONOPROXY="+d.settings.get("GONOPROXY").Value, "value", m.Path)
		return
	}
	s := d.step("module", "list, latest, info, mod and zip of "+m.String())
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return // checked by New
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return
	}
	base := path + "/@v/" + version
	var got hashes
	ok := d.ask(ctx, s, path+"/@v/list", nil, isList) &&
		d.ask(ctx, s, path+"/@latest", nil, isInfo("")) &&
		d.ask(ctx, s, base+".info", nil, isInfo(m.Version)) &&
		d.ask(ctx, s, base+".mod", nil, isMod(&got)) &&
		d.askZip(ctx, s, base+".zip", &got)
	d.checkOurClock(ctx, s)
	if ok {
		d.checkAnnounced(ctx, s)
	}
	if ok && got != (hashes{}) {
		d.examineSumdb(ctx, got)
	}
	d.reportSpeed()
}

// required are the paths whose absence is a finding.
func required(path string) bool {
	return !strings.HasSuffix(path, "/list") && !strings.HasSuffix(path, "/@latest")
}

// ask asks for one path and judges the answer. It reports whether to go on.
func (d *Doctor) ask(ctx context.Context, s *Step, path string, also io.Writer, judge func(*answer) error) bool {
	a := d.fetch(ctx, path, also)
	name := path[strings.Index(path, "/@")+1:]
	if a.err == nil {
		s.saw("%s: %s, %d bytes, first byte after %v", name, a.text, a.size, a.first)
		d.speed.sample(a)
		if d.speed.offset == nil {
			d.speed.offset = a.offset
		}
	}
	if !d.good(ctx, s, a) {
		return false
	}
	if a.status != http.StatusOK {
		if required(path) {
			d.absent(ctx, s, a)
		}
		return !required(path)
	}
	err := judge(a)
	if err != nil && strings.Contains(err.Error(), "unexpected EOF") {
		d.found(s, AnswerCut, name+": "+err.Error())
		return false
	}
	if err != nil {
		d.found(s, BadAnswer, name+": "+err.Error(), "value", err.Error(), "url", plainURL(a.url))
		return false
	}
	return true
}

// notProtocol is in modgate's answer to a path that is no request of the
// protocol, as below a base path that it does not have.
const notProtocol = "not a path of the GOPROXY protocol"

// absent tells a module that is not there from a proxy that is not there.
func (d *Doctor) absent(ctx context.Context, s *Step, a *answer) {
	m, known := d.cfg.Module, wellKnown()
	text := string(a.body)
	// A proxy knows what was asked for; modgate says so of what is none of its paths.
	stranger := strings.Contains(text, notProtocol)
	isProxy := a.kind == "text/plain" && !stranger && strings.Contains(text, m.Path)
	if !isProxy && !stranger && m != known {
		other := d.fetch(ctx, known.Path+"/@v/"+known.Version+".mod", nil)
		isProxy = other.err == nil && other.status == http.StatusOK
	}
	switch {
	case isProxy && m == known:
		d.found(s, WellKnownAbsent, a.line(), "value", m.Path)
	case isProxy:
		d.found(s, ModuleNotFound, a.line(), "value", m.String())
	default:
		where, value := d.whatElse(ctx)
		d.found(s, NotAProxy, a.line(), "where", where, "value", value)
	}
}

// whatElse says which part of modgate is asked in the place of the proxy: its
// "admin" listener, a "path" below the proxy, or "other". With a path comes the
// URL of the proxy.
func (d *Doctor) whatElse(ctx context.Context) (where, value string) {
	root := *d.target
	root.User, root.Path = nil, ""
	page := d.get(ctx, root.String()+"/", nil)
	if strings.HasPrefix(string(page.body), "modgate: /metrics ") {
		return "admin", ""
	}
	if d.target.Path == "" {
		return "other", ""
	}
	for _, m := range []module.Version{wellKnown(), d.cfg.Module} {
		path, perr := module.EscapePath(m.Path)
		version, verr := module.EscapeVersion(m.Version)
		if perr != nil || verr != nil || d.private(m) {
			continue
		}
		mod := d.get(ctx, root.String()+"/"+path+"/@v/"+version+".mod", nil)
		if mod.err == nil && mod.status == http.StatusOK && mod.kind != "text/html" {
			return "path", root.String()
		}
	}
	return "other", ""
}

// isList says what is wrong with a list of versions.
func isList(a *answer) error {
	for line := range strings.Lines(string(a.body)) {
		if v := strings.Fields(line); len(v) > 0 && !semver.IsValid(v[0]) {
			return fmt.Errorf("%q is no version", oneLine(line))
		}
	}
	return nil
}

// isInfo says what is wrong with an .info; of any version if version is "".
func isInfo(version string) func(*answer) error {
	return func(a *answer) error {
		var info struct {
			Version string
			Time    time.Time
		}
		if err := json.Unmarshal(a.body, &info); err != nil {
			return fmt.Errorf("the answer is not JSON (%w)", err)
		}
		if !semver.IsValid(info.Version) || version != "" && info.Version != version {
			return fmt.Errorf("the answer is about version %q", oneLine(info.Version))
		}
		return nil
	}
}

func isMod(got *hashes) func(*answer) error {
	return func(a *answer) error {
		if _, err := modfile.ParseLax("go.mod", a.body, nil); err != nil {
			return fmt.Errorf("the answer is no go.mod (%s)", oneLine(err.Error()))
		}
		if a.size <= maxKept {
			got.mod = ziphash.Mod(a.body)
		}
		return nil
	}
}

// askZip reads the zip while its hash is made.
func (d *Doctor) askZip(ctx context.Context, s *Step, path string, got *hashes) bool {
	h := newZipHasher()
	defer h.finish()
	return d.ask(ctx, s, path, h, func(*answer) error {
		h1, err := h.finish()
		if err != nil && !errors.Is(err, ziphash.ErrNotStreamable) {
			return fmt.Errorf("the answer is no zip of a module (%s)", oneLine(err.Error()))
		}
		got.zip = h1
		return nil
	})
}

// zipHasher makes the hash of the zip that is written to it.
type zipHasher struct {
	in   *io.PipeWriter
	done chan struct{} // closed when the rest is final
	h1   string
	err  error
}

func newZipHasher() *zipHasher {
	out, in := io.Pipe()
	h := &zipHasher{in: in, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		listing, err := ziphash.Stream(out)
		if h.err = err; err == nil {
			h.h1 = listing.H1()
		}
		out.Close()
	}()
	return h
}

// Write takes a part of the zip. What is no zip is taken to its end as well.
func (h *zipHasher) Write(p []byte) (int, error) {
	h.in.Write(p)
	return len(p), nil
}

// finish ends the zip and returns its hash.
func (h *zipHasher) finish() (string, error) {
	h.in.Close()
	<-h.done
	return h.h1, h.err
}

// checkOurClock compares our clock with that of the proxy, where nothing else
// has cast doubt on it.
func (d *Doctor) checkOurClock(ctx context.Context, s *Step) {
	o := d.speed.offset
	if o == nil || o.Abs() <= tolerance {
		return
	}
	if offset, sure := d.offset(ctx, s, o); sure && len(d.cfg.ClockURLs) > 0 {
		d.clockFound(s, offset)
	}
}

// speed is how long things took.
type speed struct {
	name, connect, handshake time.Duration
	offset                   *time.Duration // of the proxy's clock
	first                    []time.Duration
	bytes                    int64
	took                     time.Duration
}

func (v *speed) sample(a *answer) {
	v.first = append(v.first, a.first)
	if a.size > 64<<10 && a.total > a.first {
		v.bytes, v.took = v.bytes+a.size, v.took+a.total-a.first
	}
}

// reportSpeed says how long everything took, and what is normal.
func (d *Doctor) reportSpeed() {
	v := d.speed
	s := d.step("speed", "how long each part takes, and what is normal")
	line := func(what string, took, normal time.Duration, much time.Duration) {
		if took == 0 {
			return
		}
		s.saw("%-12s %10v   normal: below %v", what, took.Round(100*time.Microsecond), normal)
		if took > much {
			text := fmt.Sprintf("%s takes %v; normal is below %v", what, took.Round(time.Millisecond), normal)
			d.found(s, Slow, text, "value", text)
		}
	}
	line("name", v.name, 50*time.Millisecond, time.Second)
	line("connection", v.connect, 100*time.Millisecond, time.Second)
	line("handshake", v.handshake, 200*time.Millisecond, 2*time.Second)
	for i, name := range []string{"list", "latest", "info", "mod", "zip"} {
		if i < len(v.first) {
			line(name, v.first[i], time.Second, 10*time.Second) // a cold one is fetched first
		}
	}
	if v.took > 0 {
		s.saw("%-12s %6.1f MB/s   normal: above 5", "throughput", float64(v.bytes)/1e6/v.took.Seconds())
	}
}
