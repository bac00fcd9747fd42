package cache

import (
	"errors"
	"io/fs"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/internal/breaker"
)

type sharedMetrics struct {
	reads, writes *prometheus.CounterVec
	backlog       prometheus.GaugeFunc
	dropped       prometheus.Counter
}

// Outcomes of reads and writes in metrics. skipped: it was in trouble a moment
// ago, and was not asked.
const (
	outcomeHit      = "hit"
	outcomeAbsent   = "absent"
	outcomeOK       = "ok"
	outcomeConflict = "conflict"
	outcomeError    = "error"
	outcomeSkipped  = "skipped"
)

func (m *sharedMetrics) init(s *Shared) {
	m.reads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "modgate_shared_reads_total",
		Help: "Objects that were looked for in the tiers that replicas share, because they were not on the disk here.",
	}, []string{"tier", "outcome"})
	m.writes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "modgate_shared_writes_total",
		Help: "Objects that were written to the tiers that replicas share.",
	}, []string{"tier", "outcome"})
	for _, tier := range []string{tierFast, tierBucket} {
		for _, o := range []string{outcomeHit, outcomeAbsent, outcomeError, outcomeSkipped} {
			m.reads.WithLabelValues(tier, o)
		}
		for _, o := range []string{outcomeOK, outcomeConflict, outcomeError, outcomeSkipped} {
			m.writes.WithLabelValues(tier, o)
		}
	}
	m.backlog = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "modgate_shared_backlog",
		Help: "Objects that wait to be written to the bucket.",
	}, s.backlog.size)
	m.dropped = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "modgate_shared_backlog_dropped_total",
		Help: "Objects for which there was no room in the backlog. A walk over the cache finds them later.",
	})
}

func (m *sharedMetrics) read(tier string, err error) {
	outcome := outcomeHit
	if errors.Is(err, fs.ErrNotExist) {
		outcome = outcomeAbsent
	} else if err != nil {
		outcome = failure(err)
	}
	m.reads.WithLabelValues(tier, outcome).Inc()
}

func (m *sharedMetrics) write(tier string, err error) {
	outcome := outcomeOK
	if errors.Is(err, ErrConflict) {
		outcome = outcomeConflict
	} else if err != nil {
		outcome = failure(err)
	}
	m.writes.WithLabelValues(tier, outcome).Inc()
}

func failure(err error) string {
	if errors.Is(err, breaker.ErrOpen) {
		return outcomeSkipped
	}
	return outcomeError
}
