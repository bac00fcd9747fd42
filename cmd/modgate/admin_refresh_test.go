package main

import (
	"testing"
	"time"

	"github.com/modgate/modgate/proxy/proxytest"
)

// A version that was just tagged is seen by all replicas within a second after one
// was told, and the upstream is asked once for all of them.
func TestFleetRefresh(t *testing.T) {
	f := newSharingFleet(t, "--ttl-list=1h", "--ttl-negative=1h")
	const list, mod = "/example.com/tagged/@v/list", "/example.com/tagged/@v/v1.1.0.mod"
	f.add(proxytest.Simple(t, "example.com/tagged", "v1.0.0"))
	for _, i := range f.replicas {
		if status, text := get(t, i.url+list); status != 200 || text != "v1.0.0\n" {
			t.Fatalf("%d %s", status, text)
		}
		if status, text := get(t, i.url+mod); status != 404 {
			t.Fatalf("%d %s", status, text)
		}
	}
	f.add(proxytest.Simple(t, "example.com/tagged", "v1.1.0"))
	before := f.upstream.Count(list)
	if status, text := post(t, f.replicas[1].admin+"/-/refresh?module=example.com/tagged", ""); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	deadline := time.Now().Add(time.Second)
	for n, i := range f.replicas {
		for {
			status, text := get(t, i.url+list)
			modStatus, _ := get(t, i.url+mod)
			if status == 200 && text == "v1.0.0\nv1.1.0\n" && modStatus == 200 {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("replica %d: %d %q, its go.mod %d", n, status, text, modStatus)
				break
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	if n := f.upstream.Count(list) - before; n != 1 {
		t.Errorf("the list was asked for %d times", n)
	}
}
