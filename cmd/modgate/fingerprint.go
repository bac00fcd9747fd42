package main

import (
	"net/http"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/tlsmgr"
)

// withFingerprint says which certificates this server has, to whoever asks, so
// that modgate doctor can tell when another one arrives at a client: then
// something between opens TLS. Certificates are public; which names they are for
// is not said here.
func withFingerprint(m *tlsmgr.Manager, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != doctor.FingerprintPath || r.Method != http.MethodGet {
			next.ServeHTTP(w, r)
			return
		}
		f := doctor.Fingerprint{Certificates: []doctor.Identity{}}
		for _, st := range m.Status() {
			if st.Serial != "" {
				f.Certificates = append(f.Certificates, doctor.Identity{Issuer: st.Issuer, Serial: st.Serial})
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		writeJSON(w, f)
	})
}
