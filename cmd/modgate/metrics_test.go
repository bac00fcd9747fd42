package main

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/internal/access"
)

// series returns the number of series of each metric.
func series(t *testing.T, r *prometheus.Registry) map[string]int {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, f := range families {
		n[f.GetName()] = len(f.GetMetric())
	}
	return n
}

// observed lets m see one record of each kind and outcome, and some of a kind
// that is unknown.
func observed(m *requestMetrics) {
	for _, kind := range []string{"mod", "zip", "", "evil\nkind"} {
		for outcome := range access.Outcomes() {
			m.observe(&access.Record{Kind: kind, Outcome: access.Outcome(outcome), Bytes: 7}, time.Millisecond)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	m := newRequestMetrics([]string{"info", "mod", "zip", "list", "latest", "query", "sumdb", "page"})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		rec := &access.Record{Kind: "mod", Outcome: access.Hit, Bytes: 1234}
		for pb.Next() {
			m.observe(rec, 25*time.Microsecond)
		}
	})
}
