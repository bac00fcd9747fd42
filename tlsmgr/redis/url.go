package redis

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// IsURL reports whether text is meant for ParseURL.
func IsURL(text string) bool {
	return strings.HasPrefix(text, "redis://") || strings.HasPrefix(text, "rediss://")
}

// ParseURL reads
//
//	redis://USER:PASSWORD@HOST:PORT/DB?namespace=NAME
//	rediss://…                                             over TLS
//	redis://…@HOST:PORT,HOST:PORT/DB?master=NAME           Sentinels
//	redis://…@HOST:PORT,HOST:PORT?cluster=true             a Cluster
//
// The port of a server is 6379, of a Sentinel 26379, unless it is named. Errors
// show nothing of the text, which may hold a password.
func ParseURL(text string) (Config, error) {
	u, err := url.Parse(text)
	if err != nil || !IsURL(text) || u.Host == "" || u.Opaque != "" || u.Fragment != "" {
		return Config{}, fmt.Errorf("not a URL of the form redis://USER:PASSWORD@HOST:PORT/DB")
	}
	c := Config{User: u.User.Username(), TLS: u.Scheme == "rediss"}
	c.Password, _ = u.User.Password()
	if db := strings.Trim(u.Path, "/"); db != "" {
		if c.DB, err = strconv.Atoi(db); err != nil || c.DB < 0 {
			return Config{}, fmt.Errorf("the path behind the host is not the number of a database")
		}
	}
	for name, values := range u.Query() {
		switch name {
		case "master":
			c.Master = values[0]
		case "namespace":
			c.Namespace = values[0]
		case "cluster":
			if c.Cluster, err = strconv.ParseBool(values[0]); err != nil {
				return Config{}, fmt.Errorf("cluster is not true or false")
			}
		default:
			return Config{}, fmt.Errorf("%q is not one of master, cluster, namespace", name)
		}
	}
	port := "6379"
	if c.Master != "" {
		port = "26379"
	}
	for host := range strings.SplitSeq(u.Host, ",") {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
		if h, _, err := net.SplitHostPort(host); err != nil || h == "" {
			return Config{}, fmt.Errorf("one of the hosts is not host:port")
		}
		c.Addrs = append(c.Addrs, host)
	}
	return c, nil
}
