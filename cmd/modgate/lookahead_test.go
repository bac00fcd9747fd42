package main

import (
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy/proxytest"
)

// TestLookAheadHasASwitch asks for one go.mod that requires another, of the
// time before graph pruning.
func TestLookAheadHasASwitch(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]bool{"--look-ahead=16": true, "--look-ahead=0": false} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			leaf := proxytest.Simple(t, "example.com/leaf", "v1.0.0")
			old := proxytest.Build(t, module.Version{Path: "example.com/old", Version: "v1.0.0"}, map[string][]byte{
				"go.mod": []byte("module example.com/old\n\ngo 1.16\n\nrequire example.com/leaf v1.0.0\n"),
			})
			w.addTo(t, leaf, old)
			i, stop := w.startIn(t, t.TempDir(), setting)
			i.want(t, proxytest.Path(t, old.Version, "mod"), old.Mod)
			ahead := proxytest.Path(t, leaf.Version, "mod")
			for end := time.Now().Add(20 * time.Second); want && !i.storedFile(ahead); {
				if time.Now().After(end) {
					t.Fatal("nothing was fetched ahead")
				}
				get(t, i.url+"/healthz")
			}
			stop()
			if n := w.upstream.Count(ahead); (n == 1) != want {
				t.Errorf("the upstream was asked %d times for what is required", n)
			}
		})
	}
}
