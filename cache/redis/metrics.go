package redis

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	up      prometheus.Gauge
	corrupt prometheus.Counter
	errors  prometheus.Counter
}

func (m *metrics) init() {
	m.up = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "modgate_redis_up",
		Help: "1 while Redis is asked, 0 while it is left alone because it was in trouble.",
	})
	m.corrupt = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "modgate_redis_corrupt_total",
		Help: "Values in Redis that were garbage, torn, forged or those of another key, and were deleted.",
	})
	m.errors = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "modgate_redis_errors_total",
		Help: "Operations that Redis refused or did not answer in time.",
	})
}
