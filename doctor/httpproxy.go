package doctor

import (
	"errors"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// checkHTTPProxy finds out which HTTP proxy applies to the target, by the rules
// of net/http.
func (d *Doctor) checkHTTPProxy() {
	s := d.step("HTTP proxy", "HTTPS_PROXY, HTTP_PROXY, NO_PROXY")
	value := func(upper string) string {
		if v := d.cfg.env(upper); v != "" {
			return v
		}
		return d.cfg.env(strings.ToLower(upper))
	}
	c := httpproxy.Config{HTTPProxy: value("HTTP_PROXY"), HTTPSProxy: value("HTTPS_PROXY"), NoProxy: value("NO_PROXY"), CGI: d.cfg.env("REQUEST_METHOD") != ""}
	d.via = c.ProxyFunc()
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"} {
		v := value(name)
		if v == "" {
			continue
		}
		s.saw("%s=%s", name, hidePasswords(v))
		lower := d.cfg.env(strings.ToLower(name))
		if upper := d.cfg.env(name); d.cfg.OS != "windows" && upper != "" && lower != "" && upper != lower {
			d.found(s, HTTPProxyCase, name+"="+hidePasswords(upper)+", "+strings.ToLower(name)+"="+hidePasswords(lower),
				"variable", name, "value", strings.ToLower(name)+`="$`+name+`"`)
		}
		if name == "NO_PROXY" {
			d.checkNoProxy(s, v)
		} else {
			d.checkProxyURL(s, name, v)
		}
	}
	for _, name := range []string{"ALL_PROXY", "all_proxy"} {
		if v := d.cfg.env(name); v != "" && value("HTTPS_PROXY") == "" && value("HTTP_PROXY") == "" {
			d.checkProxyURL(s, name, v)
			d.found(s, AllProxyUnread, name+"="+hidePasswords(v), "variable", name)
			break
		}
	}
	if d.target == nil {
		return
	}
	name := strings.ToUpper(d.target.Scheme) + "_PROXY"
	d.proxyVariable = name
	if d.cfg.env(name) == "" && d.cfg.env(strings.ToLower(name)) != "" {
		d.proxyVariable = strings.ToLower(name)
	}
	switch via, err := d.via(d.target); {
	case err != nil || via != nil && !usable(via, value(name)):
		d.found(s, HTTPProxyInvalid, d.proxyVariable+"="+hidePasswords(value(name)))
		d.via = func(*url.URL) (*url.URL, error) { return nil, errNoProxy }
	case via != nil && hostPort(via) == hostPort(d.target):
		name := strings.ToUpper(d.target.Scheme) + "_PROXY"
		d.found(s, HTTPProxySelf, name+"="+hidePasswords(value(name)))
		d.via = func(*url.URL) (*url.URL, error) { return nil, errNoProxy }
	case via != nil:
		s.saw("%s is reached through %s", d.target.Hostname(), via.Host)
	default:
		text := ""
		if other, err := (&httpproxy.Config{HTTPProxy: c.HTTPProxy, HTTPSProxy: c.HTTPSProxy, CGI: c.CGI}).ProxyFunc()(d.target); err == nil && other != nil {
			d.excepted = other.Host
			text = ": NO_PROXY has it"
		}
		s.saw("%s is reached without one%s", d.target.Hostname(), text)
	}
}

// errNoProxy keeps everything behind an HTTP proxy from being tried without it.
var errNoProxy = errors.New("the HTTP proxy that applies has no valid URL")

// usable reports whether a URL can be one of an HTTP proxy. A value that is no
// URL is taken for a host and a port, which can make a strange one. A path is
// passed over, but a file with settings for browsers is no proxy.
func usable(via *url.URL, value string) bool {
	u, err := url.Parse(value)
	isURL := err == nil && u.Host == via.Host
	return via.Hostname() != "" && (via.Path == "" || via.Path == "/" || isURL && !strings.HasSuffix(via.Path, ".pac"))
}

// checkProxyURL remembers the password in the URL of an HTTP proxy.
func (d *Doctor) checkProxyURL(s *Step, name, value string) {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" {
		if u, err = url.Parse("http://" + value); err != nil {
			return // found where it applies
		}
	}
	d.hide(u)
}

func (d *Doctor) checkNoProxy(s *Step, value string) {
	for entry := range strings.SplitSeq(value, ",") {
		entry = strings.TrimSpace(entry)
		if strings.Contains(entry, "://") || strings.Contains(entry, "/") && !strings.ContainsAny(entry[:1], "0123456789[:") && !strings.Contains(entry, "::") || strings.Contains(entry, " ") {
			d.found(s, NoProxyEntry, "NO_PROXY="+hidePasswords(value), "value", hidePasswords(entry))
		}
	}
}
