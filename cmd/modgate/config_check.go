package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy/upstream"
	"github.com/modgate/modgate/sumdb"
)

// rule is a check of one key.
type rule struct {
	key   string
	check func() error
}

// check looks at the settings as a whole. Values that could not be read keep
// the one of a lower layer, and are in found, so that one slip is not reported
// twice.
func (s *settings) check(found mistakes) mistakes {
	var all mistakes
	rules := []rule{
		{"listen", func() error { return checkAddress(s.Listen) }},
		{"admin.listen", s.checkAdmin},
		{"base_path", func() error { return checkBasePath(s.BasePath) }},
		{"upstream", func() error { return checkUpstream(s.Upstream) }},
		{"private", func() error { return checkPrivate(s.Private.String()) }},
		{"direct.file", s.checkDirectFile},
		{"sumdb", func() error { return checkSumDB(s.SumDB) }},
		{"cache.dir", s.checkDir},
		{"cache.max_size", s.checkSize},
		{"cache.memory", s.checkMemory},
		{"tls.trust", func() error { _, err := trustPool(s.TLS.Trust); return err }},
	}
	rules = append(rules, s.sharedRules()...)
	if !slices.ContainsFunc(found, func(m mistake) bool { return m.key == "tls.mode" }) {
		rules = append(rules, s.tlsRules()...) // which follow from the mode
	}
	for _, r := range rules {
		k := find(r.key)
		all.add(r.check(), mistake{key: k.name, origin: s.where(k), value: k.shown(&s.Config), snippet: s.snippet[k.name]})
	}
	return all
}

// where says where the value of k came from.
func (s *settings) where(k key) string {
	if origin := s.origin[k.name]; origin != "" {
		return origin
	}
	return defaultOrigin
}

func find(name string) key {
	for _, k := range keys() {
		if k.name == name {
			return k
		}
	}
	return key{name: name}
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return remedied("is not an address", "write host:port: 127.0.0.1:8080, or :8080 for all interfaces")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return remedied("is not an address: there is no port "+port, "write a number from 0 to 65535 behind the last colon: 127.0.0.1:8080")
	}
	return nil
}

func (s *settings) checkAdmin() error {
	if s.Admin.Listen == "" {
		return nil
	}
	if s.Admin.Listen == s.Listen && !strings.HasSuffix(s.Listen, ":0") {
		return remedied("is taken by listen ("+s.where(find("listen"))+")", "choose another port, or leave it empty to turn the admin listener off")
	}
	return checkAddress(s.Admin.Listen)
}

func checkBasePath(path string) error {
	u, err := url.Parse(path)
	if err != nil || u.Path != path || !strings.HasPrefix(path, "/") || strings.Contains(path, "//") || strings.Contains(path+"/", "/./") || strings.Contains(path+"/", "/../") {
		return remedied("is not a path prefix", "write it as in a URL, beginning with /: /go")
	}
	return nil
}

func checkUpstream(list string) error {
	chain, err := upstream.New(upstream.Config{List: list})
	if err != nil {
		return remedied("is not a list of upstreams: "+err.Error(), "write https://host/path, several with commas between, or off to serve what is stored")
	}
	return chain.Close()
}

// checkDirectFile reads the rules for private modules. One problem is one
// mistake, without the lines around it: they may hold passwords.
func (s *settings) checkDirectFile() error {
	switch {
	case s.Direct.File == "":
		return nil
	case len(s.Private) == 0:
		return remedied("is for private modules, and private names none", "name their patterns under private")
	}
	data, err := readBounded(s.Direct.File, maxConfigFile)
	if err != nil {
		return remedied("cannot be read ("+err.Error()+")", "name a file that the server may read")
	}
	rules, err := parseDirectFile(s.Direct.File, data)
	if err == nil {
		err = atLines(s.Direct.File, data, rules.Check(s.Private.String()))
	}
	return err
}

func checkPrivate(patterns string) error {
	if _, err := policy.New(policy.Config{Private: patterns}); err != nil {
		return remedied("is not a list of patterns ("+err.Error()+")", "write globs as in GOPRIVATE: git.corp.example,github.com/corp/*")
	}
	return nil
}

func checkSumDB(text string) error {
	if _, err := parseSumDB(text); err != nil {
		return remedied("is not a checksum database: "+err.Error(), "write sum.golang.org, name+hash+key, or one of them and a URL behind a space; off turns verification off")
	}
	return nil
}

// parseSumDB reads a GOSUMDB value; off is nil.
func parseSumDB(text string) (*sumdb.Database, error) {
	if text == "off" {
		return nil, nil
	}
	db, err := sumdb.Parse(text)
	return &db, err
}

func (s *settings) checkDir() error {
	if s.Cache.Dir == "" {
		return remedied("is not a directory and there is no home directory to make one in", "set cache.dir")
	}
	if !filepath.IsAbs(s.Cache.Dir) {
		dir, err := filepath.Abs(s.Cache.Dir)
		if err != nil {
			return err
		}
		s.Cache.Dir = dir
	}
	return nil
}

// minSize is where a bound is no bound but a forgotten unit.
const minSize = 1 << 20

func (s *settings) checkSize() error {
	if s.Cache.MaxSize != 0 && s.Cache.MaxSize < minSize {
		return remedied("is too small to keep anything", fmt.Sprintf("give it %s or more, or 0 for no bound", Size(minSize)))
	}
	return nil
}

func (s *settings) checkMemory() error {
	if s.Cache.Memory != 0 && s.Cache.Memory < 4*maxInMemory {
		return remedied("is too small to keep anything", fmt.Sprintf("give it %s or more, or 0 to turn it off", Size(4*maxInMemory)))
	}
	return nil
}

// trustPool returns the system's roots and those in files, or nil if files is
// empty.
func trustPool(files []string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	return poolOf(pool, files)
}
