package proxy

import (
	"errors"
	"io/fs"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/policy"
)

// metrics of the fetching side. Requests are counted by whoever reads the
// access records.
type metrics struct {
	fetching      prometheus.Gauge
	fetched       prometheus.Counter
	verifications *prometheus.CounterVec
	cacheErrors   *prometheus.CounterVec
	decisions     *prometheus.CounterVec
	fleet         *prometheus.CounterVec
	all           []prometheus.Collector
}

func newMetrics() *metrics {
	m := &metrics{
		fetching: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "modgate_fetches_in_flight",
			Help: "Files being fetched from a source now.",
		}),
		fetched: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "modgate_fetched_bytes_total",
			Help: "Bytes of bodies that came from sources.",
		}),
		verifications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modgate_verifications_total",
			Help: "Files held against the checksum database, by the kind of file and by what it said.",
		}, []string{"kind", "result"}),
		cacheErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modgate_cache_errors_total",
			Help: "Operations of the cache that failed; the requests were answered without it.",
		}, []string{"op"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "modgate_policy_decisions_total",
			Help: "Decisions of the policy that were no plain yes, by what the rule does: deny, warn, audit (would have denied), or undecided, because facts could not be had. A refusal that is asked for twice at once counts once.",
		}, []string{"action"}),
	}
	for _, action := range []string{policy.Deny.String(), policy.Warn.String(), policy.Audit.String(), undecided} {
		m.decisions.WithLabelValues(action)
	}
	for _, kind := range []string{KindMod, KindZip} {
		for _, result := range []string{"ok", "mismatch", "absent", "unknown"} {
			m.verifications.WithLabelValues(kind, result)
		}
	}
	m.fleet = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "modgate_fleet_fetches_total",
		Help: "Files that one server of a fleet was to fetch, by how it came out: fetched, found (another server has fetched it), taken_over (another was about to and did not), alone (without knowing of the others).",
	}, []string{"outcome"})
	for _, outcome := range []string{fleetFetched, fleetFound, fleetTakenOver, fleetAlone} {
		m.fleet.WithLabelValues(outcome)
	}
	for _, op := range []string{"get", "put", "delete"} {
		m.cacheErrors.WithLabelValues(op)
	}
	m.all = []prometheus.Collector{m.fetching, m.fetched, m.verifications, m.cacheErrors, m.decisions, m.fleet}
	return m
}

// verified counts what a Verifier has said.
func (m *metrics) verified(kind string, err error) {
	result := "unknown"
	_, wrong := isMismatch(err)
	switch {
	case err == nil:
		result = "ok"
	case wrong:
		result = "mismatch"
	case errors.Is(err, fs.ErrNotExist):
		result = "absent"
	}
	m.verifications.WithLabelValues(kind, result).Inc()
}
