package main

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestPrivateTagsAreSeen: with nothing configured, a tag that is pushed after
// somebody has asked for it is there 5 s after that question at the latest,
// and on the list 5 s after the list was asked for.
func TestPrivateTagsAreSeen(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for 5 s")
	}
	c := newCompany(t)
	i := c.start(t)
	info, list := i.url+"/"+libPath+"/@v/v1.9.9.info", i.url+"/"+libPath+"/@v/list"
	if code, body := get(t, info); code != http.StatusNotFound {
		t.Fatalf("a version that does not exist: %d %s", code, body)
	}
	if code, body := get(t, list); code != http.StatusOK || strings.Contains(body, "v1.9.9") {
		t.Fatalf("list: %d %s", code, body)
	}
	due := time.Now().Add(5 * time.Second)
	c.lib.Tag(t, "v1.9.9", "main")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		late := !time.Now().Before(due)
		code, _ := get(t, info)
		_, versions := get(t, list)
		listed := strings.Contains(versions, "v1.9.9")
		if code == http.StatusOK && listed {
			return
		}
		if late {
			t.Fatalf("5 s after it was missed the version is answered with %d, and on the list: %v", code, listed)
		}
		<-tick.C
	}
}
