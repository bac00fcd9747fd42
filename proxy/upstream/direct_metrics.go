package upstream

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// directMetrics count what Direct does.
type directMetrics struct {
	failures *prometheus.CounterVec
	runs     *prometheus.HistogramVec
	children prometheus.Gauge
	refs     prometheus.Counter
	healed   prometheus.Counter
}

// Runs of the go command, by what they are for.
const (
	runQuery    = "query"
	runList     = "list"
	runDownload = "download"
	runAhead    = "ahead"
)

func newDirectMetrics() *directMetrics {
	m := &directMetrics{
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modgate_direct_failures_total",
			Help: "Requests for private modules that their repository did not answer, by reason. The first three mean absence.",
		}, []string{"reason"}),
		runs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "modgate_direct_run_duration_seconds",
			Help:    "Time of one run of the go command for private modules, without the wait for a slot.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 600},
		}, []string{"run"}),
		children: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "modgate_direct_children",
			Help: "Go commands that run now.",
		}),
		refs: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "modgate_direct_refs_total",
			Help: "Times that a repository was asked for its tags and branches.",
		}),
		healed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "modgate_direct_healed_total",
			Help: "Kept repositories that were of no use any more and were fetched anew.",
		}),
	}
	for _, r := range reasons() {
		m.failures.WithLabelValues(string(r))
	}
	for _, run := range []string{runQuery, runList, runDownload, runAhead} {
		m.runs.WithLabelValues(run)
	}
	return m
}

// fail counts err and returns it.
func (m *directMetrics) fail(err error) error {
	var e *DirectError
	if errors.As(err, &e) {
		m.failures.WithLabelValues(e.Reason).Inc()
	}
	return err
}

// run counts a run of the go command. The result is to be called at its end.
func (m *directMetrics) run(what string) func() {
	begin := time.Now()
	m.children.Inc()
	return func() {
		m.children.Dec()
		m.runs.WithLabelValues(what).Observe(time.Since(begin).Seconds())
	}
}

// Collectors returns the metrics of Direct:
// modgate_direct_failures_total{reason},
// modgate_direct_run_duration_seconds{run}, modgate_direct_children,
// modgate_direct_refs_total and modgate_direct_healed_total.
func (d *Direct) Collectors() []prometheus.Collector {
	m := d.metrics
	return []prometheus.Collector{m.failures, m.runs, m.children, m.refs, m.healed}
}
