package s3

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	up       prometheus.Gauge
	writable prometheus.Gauge
	corrupt  prometheus.Counter
	errors   prometheus.Counter
	aborted  prometheus.Counter
}

func (m *metrics) init() {
	m.up = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "modgate_bucket_up",
		Help: "1 while the bucket is asked, 0 while it is left alone because it was in trouble.",
	})
	m.writable = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "modgate_bucket_writable",
		Help: "0 while the bucket refuses to be written and is read alone.",
	})
	m.corrupt = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "modgate_bucket_corrupt_total",
		Help: "Objects in the bucket that were not what was put there, or not ours, and were put aside.",
	})
	m.errors = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "modgate_bucket_errors_total",
		Help: "Operations that the bucket refused or did not answer in time.",
	})
	m.aborted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "modgate_bucket_uploads_aborted_total",
		Help: "Uploads in parts that nobody finished and that were removed.",
	})
}
