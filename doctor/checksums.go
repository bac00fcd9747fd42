package doctor

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/note"
)

// examineSumdb asks the checksum database as the go command would: through the
// proxy if that says it can, else directly.
func (d *Doctor) examineSumdb(ctx context.Context, got hashes) {
	g := d.settings.get("GOSUMDB")
	s := d.step("checksum database", "through the proxy, or directly where that does not mirror it")
	name, address := sumdbOf(g.Value)
	if g.Value == "off" || name == "" || d.unverified(d.cfg.Module) {
		s.Verdict = Skip
		s.saw("not asked: GOSUMDB=%s, GONOSUMDB=%s", hidePasswords(g.Value), d.settings.get("GONOSUMDB").Value)
		return
	}
	ask := func(path string) *answer { return d.get(ctx, strings.TrimSuffix(address, "/")+"/"+path, nil) }
	if address == "" {
		a := d.fetch(ctx, "sumdb/"+name+"/supported", nil)
		s.saw("supported: %s", a.status200())
		switch {
		case a.err == nil && a.status == http.StatusOK && !a.isHTML():
			ask = func(path string) *answer { return d.fetch(ctx, "sumdb/"+name+"/"+path, nil) }
		case a.err == nil && (a.status == http.StatusNotFound || a.status == http.StatusGone):
			d.found(s, SumdbPassedOver, "supported: "+a.text)
			address = "https://" + name
		default:
			d.found(s, SumdbBroken, "supported: "+a.status200(), "value", "supported: "+a.status200())
			return
		}
	}
	d.askSumdb(ctx, s, name, address, ask, got)
}

// sumdbOf returns name and, where GOSUMDB has one, address of the checksum
// database.
func sumdbOf(value string) (name, address string) {
	if value == "sum.golang.google.cn" {
		return "sum.golang.org", "https://sum.golang.google.cn"
	}
	fields := strings.Fields(value)
	if len(fields) == 0 || !validSumdb(value) || !validSumdbURL(value) {
		return "", ""
	}
	if len(fields) == 2 {
		address = fields[1]
	}
	name, _, _ = strings.Cut(fields[0], "+")
	return name, address
}

// status200 is the text of the status, or why there is none.
func (a *answer) status200() string {
	if a.err != nil {
		return shortError(a.err)
	}
	return a.line()
}

// askSumdb asks for the tree head, for one module and for one tile. direct is
// the address of the database, "" if the proxy answers in its place.
func (d *Doctor) askSumdb(ctx context.Context, s *Step, name, direct string, ask func(path string) *answer, got hashes) {
	m := d.cfg.Module
	path, err := module.EscapePath(m.Path)
	if err != nil {
		return // checked by New
	}
	version, err := module.EscapeVersion(m.Version)
	if err != nil {
		return
	}
	answers := each([]string{"lookup/" + path + "@" + version, "latest", "tile/8/0/000"}, ask)
	lookup, latest, tile := answers[0], answers[1], answers[2]
	size := treeSize(latest)
	s.saw("lookup: %s", lookup.status200())
	s.saw("latest: %s, %d records", latest.status200(), size)
	if size >= 256 {
		s.saw("tile: %s", tile.status200())
	}
	if lookup.status == http.StatusForbidden && d.isUnannounced(m) {
		return // told already, with what mends it
	}
	for what, a := range map[string]*answer{"lookup": lookup, "latest": latest, "tile": tile} {
		if a.err == nil && a.status == http.StatusOK && !a.isHTML() || what == "tile" && size < 256 {
			continue
		}
		if text := what + ": " + a.status200(); direct != "" {
			d.found(s, SumdbUnreachable, text, "host", strings.TrimPrefix(direct, "https://"))
		} else {
			d.found(s, SumdbBroken, text, "value", text)
		}
		return
	}
	if !d.signedAsSet(latest) {
		d.found(s, SumdbKey, "latest: no signature by "+strings.Fields(d.settings.get("GOSUMDB").Value)[0], "host", name, "from", d.settings.get("GOSUMDB").From)
		return
	}
	compare := func(what, have string) {
		if want := recordHash(lookup, m.Path+" "+m.Version+what); have != "" && want != "" && have != want {
			text := fmt.Sprintf("%s%s is %s, and should be %s", m, what, have, want)
			d.found(s, SumdbMismatch, text, "value", m.String())
		}
	}
	compare("", got.zip)
	compare("/go.mod", got.mod)
	if direct == "" {
		d.compareHeads(ctx, s, name, size)
	}
}

// signedAsSet reports whether a tree head has a signature by the key in GOSUMDB, if
// that has one.
func (d *Doctor) signedAsSet(latest *answer) bool {
	fields := strings.Fields(d.settings.get("GOSUMDB").Value)
	if len(fields) == 0 || !strings.Contains(fields[0], "+") {
		return true
	}
	key, err := note.NewVerifier(fields[0])
	if err != nil {
		return true // found by checkSettings
	}
	_, err = note.Open(latest.body, note.VerifierList(key))
	return err == nil
}

// farBehind is how many records a tree head may lack. That of sum.golang.org
// grows by some ten thousand a day.
const farBehind = 500_000

// compareHeads asks the checksum database itself how large it is, which names
// no module. That it cannot be reached is no harm where the proxy mirrors it.
func (d *Doctor) compareHeads(ctx context.Context, s *Step, name string, size int) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout/2)
	defer cancel()
	latest := d.get(ctx, "https://"+name+"/latest", nil)
	now := treeSize(latest)
	if latest.err != nil || latest.status != http.StatusOK || now == 0 {
		s.saw("latest, asked of %s directly: %s; the proxy answers in its place", name, latest.status200())
		return
	}
	s.saw("latest, asked of %s directly: %d records, %d more than the proxy says", name, now, now-size)
	if now-size > farBehind {
		text := fmt.Sprintf("%d records, where %s has %d", size, name, now)
		d.found(s, SumdbBehind, text, "value", text)
	}
}

// treeSize returns the number of records of a signed tree head, or 0.
func treeSize(a *answer) int {
	lines := strings.Split(string(a.body), "\n")
	if a.err != nil || len(lines) < 2 {
		return 0
	}
	n, err := strconv.Atoi(lines[1])
	if err != nil {
		return 0
	}
	return n
}

// recordHash returns the hash behind prefix in a record, or "".
func recordHash(a *answer, prefix string) string {
	for line := range strings.Lines(string(a.body)) {
		if hash, ok := strings.CutPrefix(strings.TrimSpace(line), prefix+" "); ok {
			return hash
		}
	}
	return ""
}
