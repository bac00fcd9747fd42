package upstream

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// codes are all values of the label "code": absence, refusal and throttling
// have their own, what came without a status is "timeout" or "error".
var codes = [...]string{"2xx", "3xx", "404", "403", "429", "4xx", "5xx", "timeout", "error"}

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	circuits []prometheus.Collector
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modgate_upstream_requests_total",
			Help: "Requests to upstreams, retries and resumptions included, by upstream and answer.",
		}, []string{"upstream", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "modgate_upstream_request_duration_seconds",
			Help:    "Time from a request to an upstream to the header of its answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"upstream"}),
	}
}

// upstream makes all series of an upstream exist. open tells whether its
// circuit is open.
func (m *metrics) upstream(name string, open func() bool) {
	for _, code := range codes {
		m.requests.WithLabelValues(name, code)
	}
	m.duration.WithLabelValues(name)
	m.circuits = append(m.circuits, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "modgate_upstream_circuit_open",
		Help:        "1 while an upstream is not asked because it failed again and again.",
		ConstLabels: prometheus.Labels{"upstream": name},
	}, func() float64 {
		if open() {
			return 1
		}
		return 0
	}))
}

func (m *metrics) observe(upstream string, status int, err *Error, took time.Duration) {
	m.requests.WithLabelValues(upstream, code(status, err)).Inc()
	m.duration.WithLabelValues(upstream).Observe(took.Seconds())
}

func code(status int, err *Error) string {
	switch {
	case status == 0 && err != nil && err.Timeout():
		return "timeout"
	case status == 0:
		return "error"
	case status == http.StatusNotFound, status == http.StatusGone:
		return "404"
	case status == http.StatusForbidden, status == http.StatusUnavailableForLegalReasons:
		return "403"
	case status == http.StatusTooManyRequests:
		return "429"
	case status >= 500:
		return "5xx"
	case status >= 400:
		return "4xx"
	case status >= 300:
		return "3xx"
	}
	return "2xx"
}

// Collectors returns the metrics of the chain:
// modgate_upstream_requests_total{upstream,code},
// modgate_upstream_request_duration_seconds{upstream} and
// modgate_upstream_circuit_open{upstream}. Checksum databases that are asked
// directly count as upstream "sumdb".
func (c *Chain) Collectors() []prometheus.Collector {
	return append([]prometheus.Collector{c.metrics.requests, c.metrics.duration}, c.metrics.circuits...)
}
