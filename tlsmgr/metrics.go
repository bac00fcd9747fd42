package tlsmgr

import "github.com/prometheus/client_golang/prometheus"

// Results of an attempt to get a new certificate.
const (
	resultOK      = "ok"
	resultFailed  = "failed"
	resultStorage = "storage" // not tried: the storage does not answer
)

type metrics struct {
	expiry   *prometheus.GaugeVec
	attempts *prometheus.CounterVec
	alarms   prometheus.Gauge
	failures *prometheus.CounterVec
	clients  prometheus.Gauge
}

// newMetrics returns metrics whose series exist from the start, but for expiry,
// which has one for each name of the configuration.
func newMetrics() *metrics {
	m := &metrics{
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "modgate_tls_certificate_expiry_timestamp_seconds",
			Help: "When the certificate that is served for a name of the configuration expires, in seconds since 1970; 0 if there is none.",
		}, []string{"name"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modgate_tls_attempts_total",
			Help: "Attempts to get a new certificate, by result.",
		}, []string{"result"}),
		alarms: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "modgate_tls_alarms",
			Help: "Certificates with which something is wrong; /-/status says what.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modgate_tls_handshake_failures_total",
			Help: "Handshakes that failed, by cause.",
		}, []string{"cause"}),
		clients: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "modgate_tls_refusing_clients",
			Help: "Different client addresses that have refused our certificate; counted up to 1000.",
		}),
	}
	for _, result := range []string{resultOK, resultFailed, resultStorage} {
		m.attempts.WithLabelValues(result)
	}
	for _, c := range causes {
		m.failures.WithLabelValues(c.name)
	}
	return m
}

// Collectors returns the metrics for a registry.
func (m *Manager) Collectors() []prometheus.Collector {
	x := m.metrics
	return []prometheus.Collector{x.expiry, x.attempts, x.alarms, x.failures, x.clients}
}
