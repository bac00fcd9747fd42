package proxy

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// conditional is the http.ResponseWriter of an answer that http.ServeContent may
// turn into a refusal: 412 where a condition does not hold, 416 where there is no
// such part. A cache must not keep that for what the file is.
type conditional struct{ http.ResponseWriter }

// WriteHeader sends the header of a file, or of its refusal.
func (c conditional) WriteHeader(status int) { writeHeader(c.ResponseWriter, status) }

// WriteHeader does so too.
func (s *sending) WriteHeader(status int) { writeHeader(s.ResponseWriter, status) }

// writeHeader sends status. For a refusal the header was that of a file.
func writeHeader(w http.ResponseWriter, status int) {
	const failed = "the file is not what If-Match or If-Unmodified-Since demands\n"
	h := w.Header()
	switch status {
	case http.StatusPreconditionFailed: // to which net/http has no text
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Content-Length", strconv.Itoa(len(failed)))
		h.Del("ETag")
		h.Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		io.WriteString(w, failed) // net/http keeps it back for HEAD
		return
	case http.StatusRequestedRangeNotSatisfiable: // whose header net/http has set
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
}

// serveConditional is http.ServeContent for a body that is at hand.
func serveConditional(w http.ResponseWriter, r *http.Request, body io.ReadSeeker) {
	http.ServeContent(conditional{w}, inBytes(r), "", time.Time{}, body)
}

// inBytes returns r without a Range of another unit than bytes, which a server
// must ignore (RFC 9110 section 14.2) and net/http answers 416.
func inBytes(r *http.Request) *http.Request {
	unit, _, _ := strings.Cut(r.Header.Get("Range"), "=")
	if unit == "" || strings.EqualFold(unit, "bytes") {
		return r
	}
	plain := *r
	plain.Header = r.Header.Clone()
	plain.Header.Del("Range")
	return &plain
}
