package doctor

import (
	"cmp"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path"
	"regexp"
	"strings"

	"golang.org/x/mod/module"
)

// slip is the beginning of a URL with a letter too little or too much.
var slip = regexp.MustCompile(`^(https?)(?://+|:/?)([^/:0-9])`)

// fitCorrected returns the words for a remedy that mends the usual slips of a list:
// quotes, semicolons, a colon or slash too little, a path without file://. Where
// nothing good comes of that, an example is put in.
func (d *Doctor) fitCorrected(list string) []string {
	list = strings.NewReplacer(`"`, "", "'", "", ";", ",").Replace(list)
	entries := splitGoproxy(list)
	corrected := ""
	for i, e := range entries {
		e.text = slip.ReplaceAllString(e.text, "$1://$2")
		if strings.HasPrefix(e.text, "/") {
			e.text = "file://" + e.text
		}
		if u := proxyURL(e.text); u == nil && e.text != "direct" && e.text != "off" {
			return d.fit("GOPROXY", "https://your-proxy.example", true)
		}
		if corrected += e.text; i+1 < len(entries) {
			corrected += string(e.next)
		}
	}
	return d.fit("GOPROXY", cmp.Or(corrected, "https://your-proxy.example"), hidePasswords(corrected) == corrected)
}

// fitProxies returns the words for a remedy that leaves the proxies of a list, without
// the entry at i. Where that is direct or off, the proxies behind it are meant.
func (d *Doctor) fitProxies(entries []proxyEntry, i int) []string {
	list, shown := "", true
	for j, e := range entries {
		u := proxyURL(e.text)
		if j == i || u == nil && e.text != "direct" && e.text != "off" || u == nil && (entries[i].text == "direct" || entries[i].text == "off") {
			continue
		}
		if list != "" {
			list += ","
		}
		list, shown = list+e.text, shown && (u == nil || u.User == nil)
	}
	return d.fit("GOPROXY", cmp.Or(list, "https://your-proxy.example"), shown)
}

// directory returns the directory that a file:// URL names.
func (d *Doctor) directory(u *url.URL) string {
	if d.cfg.OS == "windows" {
		return strings.TrimPrefix(u.Path, "/")
	}
	return u.Path
}

// checkDirectories looks at the directories in GOPROXY. What one lacks, the next
// entry is asked for. The module is looked for where nobody else is asked.
func (d *Doctor) checkDirectories() {
	entries := splitGoproxy(d.settings.get("GOPROXY").Value)
	if d.cfg.URL != "" {
		return
	}
	var dirs []string
	for i, e := range entries {
		u := proxyURL(e.text)
		if u == nil || u.Scheme != "file" {
			continue
		}
		s := d.step("directory", u.String())
		dir := d.directory(u)
		info, err := os.Stat(d.cfg.file(dir))
		if err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "open", Path: dir, Err: errors.New("it is no directory")}
		}
		if err != nil {
			d.found(s, GoproxyFile, strings.ReplaceAll(err.Error(), d.cfg.file(dir), dir), append([]string{"file", dir}, d.fitProxies(entries, i)...)...)
			return
		}
		dirs = append(dirs, dir)
	}
	if len(dirs) == 0 || d.target != nil || d.private(d.cfg.Module) {
		return
	}
	m := d.cfg.Module
	s := d.step("module", m.String()+" in what GOPROXY names")
	if i := strings.Index(d.settings.get("GOPROXY").Value, "direct"); i >= 0 {
		s.saw("what is not there, the go command fetches from the repositories")
		return
	}
	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		return // checked by New
	}
	for _, dir := range dirs {
		name := path.Join(dir, escaped, "@v", m.Version+".info")
		if _, err := os.Stat(d.cfg.file(name)); err == nil {
			s.saw("%s is there", name)
			return
		}
	}
	code := ModuleNotFound
	if m == wellKnown() {
		code = WellKnownAbsent
	}
	d.found(s, code, "it is in none of "+strings.Join(dirs, ", "), "value", m.String(), "url", "file://"+dirs[0])
}
