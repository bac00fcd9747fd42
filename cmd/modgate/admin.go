package main

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/tlsmgr"
)

// admin answers what only those may see who run the server.
type admin struct {
	health   *health
	registry *prometheus.Registry
	settings *settings
	app      *app
	started  time.Time
	explain  explainer
	reloads  *reloads

	warming, refreshing atomic.Int32 // requests for /-/warm and /-/refresh that run

	certificates *tlsmgr.Manager // nil without TLS
}

// handler returns the handler of the admin listener.
func (a *admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{Registry: a.registry}))
	mux.HandleFunc("GET /-/status", a.status)
	mux.HandleFunc("GET /-/ca.pem", a.caPEM)
	mux.HandleFunc("GET /-/explain/{question...}", a.explained)
	mux.Handle("POST /-/purge", http.NewCrossOriginProtection().Handler(http.HandlerFunc(a.purged)))
	mux.Handle("POST /-/refresh", http.NewCrossOriginProtection().Handler(http.HandlerFunc(a.refreshed)))
	mux.Handle("POST /-/warm", http.NewCrossOriginProtection().Handler(http.HandlerFunc(a.warmed)))
	mux.Handle("POST /-/tls/renew", http.NewCrossOriginProtection().Handler(http.HandlerFunc(a.renewCertificate)))
	mux.HandleFunc("GET /-/pprof/{$}", func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusOK, "profiles: allocs block cmdline goroutine heap mutex profile threadcreate trace\n")
	})
	mux.HandleFunc("GET /-/pprof/{name}", profile)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		plain(w, http.StatusOK, "modgate: /metrics /healthz /readyz /-/status /-/ca.pem /-/explain/MODULE@VERSION /-/purge /-/refresh /-/warm /-/pprof/\n")
	})
	return a.health.front(mux)
}

func profile(w http.ResponseWriter, r *http.Request) {
	switch name := r.PathValue("name"); name {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Handler(name).ServeHTTP(w, r)
	}
}

// status is what a person asks first when something is odd.
type status struct {
	Version       string             `json:"version"`
	GoVersion     string             `json:"go_version"`
	Started       time.Time          `json:"started"`
	UptimeSeconds int64              `json:"uptime_seconds"`
	Ready         bool               `json:"ready"`
	ConfigFile    string             `json:"config_file,omitempty"`
	CacheDir      string             `json:"cache_dir"`
	Upstream      string             `json:"upstream"`
	TLS           *tlsStatus         `json:"tls,omitempty"`
	ReloadFailed  []failedReload     `json:"reload_failed,omitempty"` // as modgate_reload_failed
	Findings      []doctor.Finding   `json:"findings"`                // what is not as it should be, as modgate doctor says it
	Values        map[string]float64 `json:"values"`
}

// status answers with JSON. The values are those metrics of ours that have no
// labels or that tell the upstreams apart.
func (a *admin) status(w http.ResponseWriter, _ *http.Request) {
	b := buildInfo()
	s := status{
		Version:       b.Version,
		GoVersion:     b.GoVersion,
		Started:       a.started,
		UptimeSeconds: int64(time.Since(a.started).Seconds()),
		Ready:         a.health.unready() == "",
		ConfigFile:    a.settings.file,
		CacheDir:      a.settings.Cache.Dir,
		Upstream:      hideUserinfo(a.settings.Upstream),
		TLS:           a.tls(),
		ReloadFailed:  a.reloads.failures(),
		Findings:      a.findings(),
		Values:        map[string]float64{},
	}
	families, err := a.registry.Gather()
	if err != nil {
		plain(w, http.StatusInternalServerError, "metrics: "+err.Error()+"\n")
		return
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if name, ok := strings.CutPrefix(f.GetName(), "modgate_"); ok && len(m.GetLabel()) == 0 && m.GetHistogram() == nil {
				s.Values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			} else if ok && len(m.GetLabel()) == 1 && m.GetLabel()[0].GetName() == "upstream" && m.GetGauge() != nil {
				s.Values[name+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	writeJSON(w, s)
}

// enterFew lets a request through if fewer than most are running, and answers it
// itself if not. Who was let through calls leave.
func enterFew(w http.ResponseWriter, running *atomic.Int32, most int32) (leave func(), ok bool) {
	if running.Add(1) > most {
		running.Add(-1)
		w.Header().Set("Retry-After", "60")
		plain(w, http.StatusServiceUnavailable, fmt.Sprintf("%d of these are running already: try again when one is done\n", most))
		return nil, false
	}
	return func() { running.Add(-1) }, true
}
