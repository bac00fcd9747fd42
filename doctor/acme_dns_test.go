package doctor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modgate/modgate/tlsmgr"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// byDNS is the machine of a server with dns-01 and a real name server.
func byDNS(t *testing.T, names []string, records ...string) (*acmeWorld, *tlstest.Bind) {
	bind := tlstest.StartBind(t, records...) // sets PATH: not in parallel
	a := newACMEWorld(t, tlsmgr.DNS01)
	a.keeper.Domains, a.server.ACME.Names = names, names
	a.server.ACME.Resolvers = []string{bind.Addr}
	a.names["app.zone.test"] = "127.0.0.1"
	a.provider("rfc2136", map[string]string{"server": bind.Addr, "key_name": bind.KeyName, "key": bind.Key}, bind.Addr)
	return a, bind
}

func (a *acmeWorld) provider(name string, settings map[string]string, resolvers ...string) {
	a.t.Helper()
	var err error
	a.keeper.ACME.DNS, err = tlsmgr.NewDNS(tlsmgr.DNSConfig{Provider: name, Settings: settings, Resolvers: resolvers})
	a.check(err)
}

// hook is a program in place of a provider.
func (a *acmeWorld) hook(script string) {
	a.t.Helper()
	name := filepath.Join(a.t.TempDir(), "hook")
	a.check(os.WriteFile(name, []byte("#!/bin/sh\n"+script), 0o700))
	a.provider("exec", map[string]string{"command": name})
}

// The zone is found, the record is made, seen and removed again; a name and a
// wildcard.
func TestACMEByDNS(t *testing.T) {
	a, _ := byDNS(t, []string{"app.zone.test", "*.zone.test"}, `@ IN CAA 0 issue "pebble.letsencrypt.org"`)
	r := a.want("")
	says(t, r, "zone zone.test, name servers ns.zone.test")
	says(t, r, `zone.test: CAA 0 issue "pebble.letsencrypt.org"`)
	says(t, r, "--probe makes a record there")
	a.server.ACME.Probe = true
	for range 2 { // nothing is left that disturbs
		r = a.want("")
		says(t, r, " has it after ")
		says(t, r, " has it no more after ")
	}
}

// Each thing that can be wrong with records is found, and what developers meet is
// recorded, of a server that goes to the CA all the same.
func TestACMEDNSDefects(t *testing.T) {
	told := newSayings(t)
	for _, test := range []struct {
		name, want string
		client     string
		names      []string
		records    []string
		spoil      func(*acmeWorld, *tlstest.Bind)
	}{
		{"CAA in the zone", "acme-caa", "", []string{"app.zone.test"}, []string{`@ IN CAA 0 issue "other.example"`}, nil},
		{"CAA for wildcards", "acme-caa", "", []string{"*.zone.test"}, []string{`@ IN CAA 0 issue "pebble.letsencrypt.org"`, `@ IN CAA 0 issuewild ";"`}, nil},
		{"no such zone", "acme-zone", "tls-no-certificate", []string{"app.elsewhere.test"}, nil, nil},
		{"wrong key", "acme-record", "tls-no-certificate", []string{"app.zone.test"}, nil, func(a *acmeWorld, b *tlstest.Bind) {
			a.provider("rfc2136", map[string]string{"server": b.Addr, "key_name": b.KeyName, "key": "d3Jvbmcga2V5LCBidXQgbG9uZyBlbm91Z2ggZm9yIG9uZSwgdG9v"}, b.Addr)
		}},
		{"wrong name of the key", "acme-record", "tls-no-certificate", []string{"app.zone.test"}, nil, func(a *acmeWorld, b *tlstest.Bind) {
			a.provider("rfc2136", map[string]string{"server": b.Addr, "key_name": "nobody", "key": b.Key}, b.Addr)
		}},
		{"the server for updates is down", "acme-record", "tls-no-certificate", []string{"app.zone.test"}, nil, func(a *acmeWorld, b *tlstest.Bind) {
			a.provider("rfc2136", map[string]string{"server": "127.0.0.1:" + closedPort, "key_name": b.KeyName, "key": b.Key}, b.Addr)
		}},
		{"a name that the key may not touch", "acme-record", "tls-no-certificate", []string{"other.zone.test"}, nil, nil},
		{"one server does not get it", "acme-record-unseen", "", []string{"app.zone.test"}, nil, func(a *acmeWorld, b *tlstest.Bind) {
			a.server.ACME.Resolvers = append(a.server.ACME.Resolvers, tlstest.StartBind(a.t).Addr)
		}},
		{"a hook that does nothing", "acme-record-unseen", "tls-no-certificate", []string{"app.zone.test"}, nil, func(a *acmeWorld, _ *tlstest.Bind) { a.hook("exit 0\n") }},
		{"a hook that cannot clean up", "acme-probe-left acme-record-unseen", "tls-no-certificate", []string{"app.zone.test"}, nil, func(a *acmeWorld, _ *tlstest.Bind) { a.hook("[ $1 = present ]\n") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, bind := byDNS(t, test.names, test.records...)
			if test.spoil != nil {
				test.spoil(a, bind)
				a.server.Machine.Patience /= 8 // as long as we wait for what does not come
			}
			a.server.ACME.Probe = true
			a.want(test.want)
			a.other(tlstest.PebbleConfig{DNS: bind.Addr})
			a.name = strings.Replace(test.names[0], "*", "any", 1)
			a.names[a.name] = "127.0.0.1"
			a.start()
			a.developer(told, test.name, test.client)
		})
	}
}

// An alias leads the record to another zone.
func TestACMEAlias(t *testing.T) {
	a, bind := byDNS(t, []string{"alias.zone.test"}, "_acme-challenge.alias IN CNAME _acme-challenge.app.zone.test.")
	a.names["alias.zone.test"] = "127.0.0.1"
	a.provider("rfc2136", map[string]string{"server": bind.Addr, "key_name": bind.KeyName, "key": bind.Key, "override_domain": "_acme-challenge.app.zone.test"}, bind.Addr)
	a.server.ACME.Probe = true
	says(t, a.want(""), "an alias (CNAME) leads to _acme-challenge.app.zone.test")
}
