package doctor_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/modgate/modgate/tlsmgr"
)

// two is a resolver for a name with a good address and one that leads nowhere.
type two struct{}

func (two) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.4"), netip.MustParseAddr("127.0.0.1")}, nil
}

// A name with two addresses, one of which nobody answers at.
func TestACMEOneAddress(t *testing.T) {
	a := newACMEWorld(t, tlsmgr.HTTP01)
	a.start()
	a.server.Machine.Resolver, a.server.Upstreams = two{}, nil
	a.server.ACME.Directory = "https://127.0.0.1:" + portOfURL(a.ca.Directory[:len(a.ca.Directory)-len("/dir")]) + "/dir"
	says(t, a.want("acme-address"), "127.0.0.4, one of the addresses of "+a.name)
}

// Many attempts in an hour are told, which is no warning of its own.
func TestACMEAttempts(t *testing.T) {
	a := newACMEWorld(t, tlsmgr.HTTP01)
	a.start()
	a.down()
	found, err := filepath.Glob(filepath.Join(a.dir, "modgate", "attempts", "*", a.name+".json"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	now := time.Now()
	record := map[string]any{
		"failures": 6, "last_attempt": now, "next_attempt": now.Add(time.Hour),
		"problem": tlsmgr.Problem{Type: "connection", Detail: "connection refused"},
		"tried":   []time.Time{now.Add(-70 * time.Minute), now.Add(-50 * time.Minute), now.Add(-40 * time.Minute), now.Add(-30 * time.Minute), now.Add(-20 * time.Minute), now},
	}
	data, err := json.Marshal(record)
	a.check(err)
	a.check(os.WriteFile(found[0], data, 0o600))
	r := a.want("acme-problem")
	says(t, r, a.name+" was tried 5 times in the last hour, and failed")
	says(t, r, "5 in the last hour, 6 in the last week; 0 certificates in the last week; 6 failures in a row, next attempt")
}
