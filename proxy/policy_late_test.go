package proxy_test

import (
	"testing"

	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
	"github.com/modgate/modgate/proxy"
	"github.com/modgate/modgate/proxy/proxytest"
)

// TestRuleComesWhileFetching: a rule that comes into force while the upstream is
// being asked holds for whoever waits for the answer, whether that would be sent
// while it comes or when it is here.
func TestRuleComesWhileFetching(t *testing.T) {
	t.Parallel()
	live := new(swapped)
	load := func(rules ...policy.Rule) {
		p, err := policy.New(policy.Config{Rules: policy.Rules{Rules: rules}})
		if err != nil {
			t.Error(err)
		}
		live.Store(p)
	}
	big, other, small := proxytest.Big(t, "example.com/m", "v1.0.0", 4<<20), proxytest.Big(t, "example.com/m", "v1.0.1", 4<<20), proxytest.Simple(t, "example.com/m", "v1.1.0")
	w := newWorld(t, options{config: func(c *proxy.Config) { c.Policy = live }}, big, other, small, proxytest.Simple(t, "example.com/n", "v1.0.0"))
	for _, file := range []struct{ path, header, value string }{
		{"/" + w.name(big, "zip"), "", ""},
		{"/" + w.name(other, "zip"), "Range", "bytes=0-99"},
		{"/" + w.name(small, "zip"), "", ""},
		{"/" + w.name(small, "info"), "", ""},
		{"/example.com/n/@v/list", "", ""},
	} {
		load()
		w.up.SetFault(file.path, func(x proxytest.Exchange) {
			load(policy.Rule{Name: "late", Action: deny, Reason: "because"})
			x.Honest.ServeHTTP(x.W, x.R)
		})
		var header []string
		if file.header != "" {
			header = []string{file.header, file.value}
		}
		w.wantNo(w.get(file.path, header...), 403, access.Denied, "by rule late")
		w.up.SetFault(file.path, nil)
	}
}
