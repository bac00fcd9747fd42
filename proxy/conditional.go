package proxy

import (
	"io"
	"net/http"
	"time"
)

// conditional is the http.ResponseWriter of an answer that http.ServeContent may
// turn into a refusal: 412 where a condition does not hold, 416 where there is no
// such part. A cache must not keep that for what the file is.
type conditional struct{ http.ResponseWriter }

// WriteHeader sends the header of a file, or of its refusal.
func (c conditional) WriteHeader(status int) {
	settleRefusal(c.Header(), status)
	c.ResponseWriter.WriteHeader(status)
}

// WriteHeader does so too.
func (s *sending) WriteHeader(status int) {
	settleRefusal(s.Header(), status)
	s.ResponseWriter.WriteHeader(status)
}

// settleRefusal makes h, which was that of a file, the header of status.
func settleRefusal(h http.Header, status int) {
	switch status {
	case http.StatusPreconditionFailed:
		h.Del("Content-Type") // it has no body
		h.Del("ETag")
	case http.StatusRequestedRangeNotSatisfiable: // whose header net/http has set
	default:
		return
	}
	h.Set("Cache-Control", "no-store")
}

// serveConditional is http.ServeContent for a body that is at hand.
func serveConditional(w http.ResponseWriter, r *http.Request, body io.ReadSeeker) {
	http.ServeContent(conditional{w}, r, "", time.Time{}, body)
}
