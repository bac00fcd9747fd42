package main

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/sumdb/sumdbtest"
)

// A lookup that is under way when the server ends does not reach for a store
// that is closed: the database ends first, and takes its lookups with it.
func TestCloseEndsLookupsFirst(t *testing.T) {
	w := newWorld(t)
	stall := make(chan struct{})
	defer close(stall)
	s, err := load(layers{flags: map[string]string{"cache.dir": t.TempDir(), "upstream": w.upstream.URL, "sumdb": w.log.Key()}, environ: []string{"HOME=" + t.TempDir()}, file: "off"})
	if err != nil {
		t.Fatal(err)
	}
	var text lockedBuffer
	a, err := wire(t.Context(), &s.Config, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ask := func() *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/sumdb/"+w.log.Name()+"/lookup/example.com/greet@v1.0.0", nil)
		a.handler.ServeHTTP(rec, r.WithContext(context.WithoutCancel(t.Context())))
		return rec
	}
	w.log.Lie(sumdbtest.Stall("/", stall))
	underWay := make(chan *httptest.ResponseRecorder)
	go func() { underWay <- ask() }()
	for len(w.log.Requests("/lookup/")) == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := a.close(); err != nil {
		t.Error(err)
	}
	for _, rec := range []*httptest.ResponseRecorder{<-underWay, ask()} {
		if rec.Code != 503 || !strings.Contains(rec.Body.String(), "server restarting") {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	}
	if strings.Contains(text.String(), "storage of the checksum database") {
		t.Error(text.String())
	}
}
