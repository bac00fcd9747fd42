package sumdb

import (
	"errors"
	"io/fs"

	"github.com/prometheus/client_golang/prometheus"
)

// The results of a lookup, as in modgate_sumdb_lookups_total.
const (
	resultHit     = "hit"     // proven earlier
	resultFetched = "fetched" // looked up and proven
	resultAbsent  = "absent"  // the database has no such version
	resultForged  = "forged"  // failed its proof, or the database is not trusted
	resultTrouble = "trouble" // could not be told now
)

func result(f *found, err error) string {
	switch {
	case err == nil && f.fetched:
		return resultFetched
	case err == nil:
		return resultHit
	case errors.Is(err, fs.ErrNotExist):
		return resultAbsent
	case errors.Is(err, ErrForged), errors.Is(err, ErrUntrusted):
		return resultForged
	}
	return resultTrouble
}

func (d *DB) metrics() {
	labels := prometheus.Labels{"database": d.name}
	d.results = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name:        "modgate_sumdb_lookups_total",
		Help:        "Lookups in a checksum database, by result: hit, fetched, absent, forged, trouble.",
		ConstLabels: labels,
	}, []string{"result"})
	for _, r := range []string{resultHit, resultFetched, resultAbsent, resultForged, resultTrouble} {
		d.results.WithLabelValues(r)
	}
	d.alarms = prometheus.NewCounter(prometheus.CounterOpts{
		Name:        "modgate_sumdb_alarms_total",
		Help:        "Answers of a checksum database that failed their proof twice, or contradicted earlier ones.",
		ConstLabels: labels,
	})
	d.storageErrors = prometheus.NewCounter(prometheus.CounterOpts{
		Name:        "modgate_sumdb_storage_errors_total",
		Help:        "What is proven of a checksum database and could not be kept or read again.",
		ConstLabels: labels,
	})
}

// Collectors returns the metrics of the database.
func (d *DB) Collectors() []prometheus.Collector {
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "modgate_sumdb_head_size",
		Help:        "Records in the tree of the pinned head of a checksum database; 0 before the first lookup.",
		ConstLabels: prometheus.Labels{"database": d.name},
	}, func() float64 {
		if h := d.heads.pinned(); h != nil {
			return float64(h.tree.N)
		}
		return 0
	})
	return []prometheus.Collector{d.results, d.alarms, d.storageErrors, size}
}
