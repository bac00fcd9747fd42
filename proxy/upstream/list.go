package upstream

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
)

// location is one entry of a GOPROXY list.
type location struct {
	url        *url.URL
	onAnyError bool // followed by "|"
}

var errDirect = errors.New(`"direct": only modules under the configured private patterns are fetched from their repositories, never others: leave "direct" out of the upstream list`)

// parseGOPROXY splits a GOPROXY list by the rules of the go command. off is true
// if the list begins with "off"; behind that word nothing is read. It returns
// all mistakes, without the credentials that a URL may hold.
func parseGOPROXY(list string) (locs []location, off bool, err error) {
	var mistakes []error
	for list != "" {
		text, sep, rest := list, byte(0), ""
		if i := strings.IndexAny(list, ",|"); i >= 0 {
			text, sep, rest = list[:i], list[i], list[i+1:]
		}
		list = rest
		switch text = strings.TrimSpace(text); text {
		case "":
			continue
		case "off":
			off, list = true, ""
			continue
		case "direct":
			mistakes = append(mistakes, errDirect)
			continue
		}
		u, err := parseLocation(text)
		if err != nil {
			mistakes = append(mistakes, err)
			continue
		}
		locs = append(locs, location{u, sep == '|'})
	}
	if len(locs) == 0 && !off && mistakes == nil {
		mistakes = append(mistakes, errors.New("the list of upstreams is empty"))
	}
	return locs, off && len(locs) == 0, errors.Join(mistakes...)
}

// parseLocation turns one entry into a URL whose path does not end in a
// slash. An entry without a scheme gets https, as in cmd/go/internal/modfetch.
func parseLocation(text string) (*url.URL, error) {
	if strings.ContainsAny(text, ".:/") && !strings.Contains(text, ":/") && !filepath.IsAbs(text) {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		// Its text quotes the URL, credentials and all.
		return nil, errors.New("an entry of the list is not a URL that can be parsed")
	}
	shown := u.Redacted()
	switch {
	case u.Scheme == "":
		return nil, fmt.Errorf("%q: want https://…, http://…, file:///… or \"off\"", shown)
	case u.Scheme == "file":
		if u.Host != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !filepath.IsAbs(filepath.FromSlash(u.Path)) {
			return nil, fmt.Errorf("%q: a file URL is file:/// and an absolute path", shown)
		}
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q: the scheme must be https, http or file", shown)
	case u.Host == "" || u.Hostname() == "":
		return nil, fmt.Errorf("%q: the host is missing", shown)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("%q: a GOPROXY URL has no query and no fragment", host(u))
	case u.User != nil && u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("%q: credentials would be sent unencrypted: use https", shown)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// host names an upstream in logs and metrics.
func host(u *url.URL) string {
	if u.Scheme == "file" {
		return "file"
	}
	return u.Host
}

// names returns one distinct name for each location: its host, with a number
// from the second of the same host on.
func names(locs []location) []string {
	seen := map[string]int{sumdbLabel: 1}
	list := make([]string, len(locs))
	for i, l := range locs {
		list[i] = host(l.url)
		if seen[list[i]]++; seen[list[i]] > 1 {
			list[i] = fmt.Sprintf("%s#%d", list[i], seen[list[i]])
		}
	}
	return list
}
