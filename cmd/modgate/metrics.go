package main

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/modgate/modgate/internal/access"
)

// newRegistry returns a registry with what describes the process itself.
func newRegistry(h *health) *prometheus.Registry {
	b := buildInfo()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "modgate_build_info",
		Help:        "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": b.Version, "goversion": b.GoVersion},
	})
	info.Set(1)
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		info,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "modgate_ready",
			Help: "1 if this process should get requests, 0 while it drains or has no certificate for any name.",
		}, func() float64 {
			if h.unready() != "" {
				return 0
			}
			return 1
		}))
	return r
}

// requestMetrics counts what the access records say.
type requestMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	inFlight prometheus.Gauge
	kinds    map[string]*kindMetrics // read-only: looked up without a lock
	other    *kindMetrics
}

// kindMetrics are the series of one kind, resolved once: finding them by their
// labels takes longer than a small answer should.
type kindMetrics struct {
	outcomes []prometheus.Counter // by access.Outcome
	duration prometheus.Observer
	bytes    prometheus.Counter
}

// otherKind is the label of records whose kind is not among the known ones.
const otherKind = "other"

// newRequestMetrics returns metrics for records of the given kinds. All series
// exist from the start.
func newRequestMetrics(kinds []string) *requestMetrics {
	m := &requestMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modgate_requests_total",
			Help: "Requests answered, by the kind of file and by how.",
		}, []string{"kind", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "modgate_request_duration_seconds",
			Help:    "Time from the request's header to the last byte of its answer.",
			Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 10, 60},
		}, []string{"kind"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modgate_response_bytes_total",
			Help: "Bytes of answers, without headers.",
		}, []string{"kind"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "modgate_requests_in_flight",
			Help: "Requests being answered now.",
		}),
		kinds: map[string]*kindMetrics{},
	}
	for _, kind := range append(kinds, otherKind) {
		k := &kindMetrics{duration: m.duration.WithLabelValues(kind), bytes: m.bytes.WithLabelValues(kind)}
		for _, outcome := range access.Outcomes() {
			k.outcomes = append(k.outcomes, m.requests.WithLabelValues(kind, outcome))
		}
		m.kinds[kind] = k
	}
	m.other = m.kinds[otherKind]
	return m
}

// Collectors returns the metrics for a registry.
func (m *requestMetrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.duration, m.bytes, m.inFlight}
}

// observe counts one record; see access.Handler.
func (m *requestMetrics) observe(rec *access.Record, elapsed time.Duration) {
	k := m.kinds[rec.Kind]
	if k == nil {
		k = m.other
	}
	k.outcomes[rec.Outcome].Inc()
	k.duration.Observe(elapsed.Seconds())
	k.bytes.Add(float64(rec.Bytes))
}

// count keeps the number of requests in flight.
func (m *requestMetrics) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.inFlight.Inc()
		defer m.inFlight.Dec()
		next.ServeHTTP(w, r)
	})
}
