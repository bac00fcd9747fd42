package sumdb

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Database is what a GOSUMDB setting says.
type Database struct {
	// Name is a host, or host/path.
	Name string
	// Key is the verifier key, "name+hash+key".
	Key string
	// URL is where to ask instead of the proxies and https://<Name>; empty if
	// the setting has none.
	URL string
}

// keySumGolangOrg is the key of Go's checksum database as the go command has
// it built in (cmd/go/internal/modfetch/key.go).
const keySumGolangOrg = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

// Parse reads a setting as the go command reads GOSUMDB: "sum.golang.org",
// "name+hash+key", either of them followed by a URL, or the alias
// "sum.golang.google.cn". "off" is an error: whoever may say so must not get
// here.
func Parse(gosumdb string) (Database, error) {
	if gosumdb == "sum.golang.google.cn" {
		gosumdb = "sum.golang.org https://sum.golang.google.cn"
	}
	fields := strings.Fields(gosumdb)
	switch {
	case len(fields) == 0:
		return Database{}, errors.New("checksum database: missing name")
	case len(fields) > 2:
		return Database{}, fmt.Errorf("checksum database %q: too many fields", gosumdb)
	case fields[0] == "off":
		return Database{}, errors.New(`checksum database "off" is not a database`)
	case fields[0] == "sum.golang.org":
		fields[0] = keySumGolangOrg
	}
	verifier, err := note.NewVerifier(fields[0])
	if err != nil {
		return Database{}, fmt.Errorf("checksum database %q: %w (want sum.golang.org or name+hash+key)", fields[0], err)
	}
	db := Database{Name: verifier.Name(), Key: fields[0]}
	if err := checkName(db.Name); err != nil {
		return Database{}, err
	}
	if len(fields) == 2 {
		u, err := url.Parse(fields[1])
		if err != nil || u.Scheme == "" {
			return Database{}, fmt.Errorf("checksum database %s: invalid URL %q", db.Name, fields[1])
		}
		db.URL = fields[1]
	}
	return db, nil
}

// checkName is the go command's rule (host[/path]), and what it takes for the
// name to be a folder.
func checkName(name string) error {
	bad := fmt.Errorf("checksum database %q: the name must be host[/path]", name)
	u, err := url.Parse("https://" + name)
	if err != nil || u.Host == "" || u.RawPath != "" || *u != (url.URL{Scheme: "https", Host: u.Host, Path: u.Path}) {
		return bad
	}
	if !fs.ValidPath(name) || name == "." || strings.Contains("/"+name, "/.") || len(name) > 200 {
		return bad
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == '\\' || c == '!' {
			return bad
		}
	}
	return nil
}
