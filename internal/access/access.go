// Package access gives every request one record: what was asked, how it was
// answered, how many bytes left and how long it took. The record becomes one
// log line and a few counts. It keeps io.ReaderFrom, so that bodies still
// leave by sendfile.
package access

import (
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Outcome is how a request was answered: a closed set, used as a metric label.
type Outcome uint8

const (
	// Local answers need neither cache nor upstream (health, the front page,
	// short paths that can never be modules).
	Local    Outcome = iota
	Hit              // from the cache
	Miss             // fetched for this request
	Follow           // fetched, but another request asked first
	Stale            // from the cache, past its time, because of trouble upstream
	Negative         // absence remembered from a moment ago
	Absent           // proven absence, asked just now
	Denied           // refused: policy, or a checksum that does not match
	Invalid          // not a request that this server understands
	Trouble          // could not be answered now
	Gone             // the client left first
	numOutcomes
)

var outcomeNames = [numOutcomes]string{"local", "hit", "miss", "follow", "stale", "negative", "absent", "denied", "invalid", "trouble", "gone"}

// String returns the name used in logs and metrics.
func (o Outcome) String() string { return outcomeNames[o] }

// Outcomes lists all outcomes.
func Outcomes() []string { return outcomeNames[:] }

// Record is what is known of one request. The handler of the request owns it.
type Record struct {
	ids     *ids
	codes   func(error) string
	seq     uint64
	Kind    string // which kind of file or endpoint, a closed set
	Module  string // module path, unescaped; empty if there is none
	Version string // version or query as asked
	Outcome Outcome
	Status  int
	Bytes   int64 // of the body
	// Caller is who asks, and Groups whom that one belongs to, as authentication
	// has found; empty for who is anonymous. Nobody changes Groups.
	Caller string
	Groups []string
	// Decision is the id, and Rule the name, of what the policy has said if it
	// was no plain yes.
	Decision, Rule string
	Err            error  // what the log reads and the client does not
	Code           string // the name of its cause in the documentation; "" if it has none
}

// ID names the request in the log and in what the client reads. It is unique in
// this installation for years; empty where no Handler stands in front.
func (r *Record) ID() string {
	if r.ids == nil {
		return ""
	}
	return string(r.appendID(nil))
}

// Trouble notes an outcome and the error that has led to it, with the code of
// its cause.
func (r *Record) Trouble(o Outcome, err error) {
	r.Outcome, r.Err, r.Code = o, err, ""
	if r.codes != nil && err != nil {
		r.Code = r.codes(err)
	}
}

// CodeLine is what a client reads of the cause, one line; "" if it has no code.
func (r *Record) CodeLine() string {
	if r.Code == "" {
		return ""
	}
	return "cause: " + r.Code + " (on the server: modgate doctor --server)"
}

func (r *Record) appendID(dst []byte) []byte {
	return strconv.AppendUint(append(dst, r.ids.prefix...), r.seq, 36)
}

// Response is the http.ResponseWriter that a Handler passes on.
type Response struct {
	http.ResponseWriter
	Record
}

// WriteHeader notes the status.
func (r *Response) WriteHeader(code int) {
	if r.Status == 0 && code >= 200 {
		r.Status = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write counts the bytes.
func (r *Response) Write(p []byte) (int, error) {
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.Bytes += int64(n)
	return n, err
}

// ReadFrom keeps the way to sendfile open.
func (r *Response) ReadFrom(src io.Reader) (int64, error) {
	if r.Status == 0 {
		r.Status = http.StatusOK
	}
	n, err := io.Copy(r.ResponseWriter, src)
	r.Bytes += n
	return n, err
}

// Unwrap serves http.ResponseController.
func (r *Response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// From returns the record of the request that w answers. Where no Handler
// stands in front, it is one that nobody reads.
func From(w http.ResponseWriter) *Record {
	if r, ok := w.(*Response); ok {
		return &r.Record
	}
	return new(Record)
}

// Reports says who hears of requests.
type Reports struct {
	// Log gets a line for each request. nil: none.
	Log *slog.Logger
	// Observe gets the record, which is valid only until it returns. May be nil.
	Observe func(*Record, time.Duration)
	// Code returns the name under which the documentation has the cause of an
	// error, "" if it has none. nil: nothing has.
	Code func(error) string
}

// Handler answers each request by next and then reports it.
func Handler(next http.Handler, to Reports) http.Handler {
	pool := sync.Pool{New: func() any { return new(line) }}
	ids := newIDs()
	lines := newLines(to.Log)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		start := time.Now()
		n := pool.Get().(*line)
		n.req, n.Response = req, Response{ResponseWriter: w, Record: Record{ids: ids, seq: ids.n.Add(1), codes: to.Code}}
		defer func() {
			n.elapsed = time.Since(start)
			// A handler that panics with http.ErrAbortHandler has a record too.
			if to.Observe != nil {
				to.Observe(&n.Record, n.elapsed)
			}
			if lines != nil {
				n.at = start.Add(n.elapsed)
				lines.write(n)
			}
			*n = line{}
			pool.Put(n)
		}()
		next.ServeHTTP(&n.Response, req)
	})
}

// ids makes request ids: the start of the process, then a count.
type ids struct {
	prefix string
	n      atomic.Uint64
}

func newIDs() *ids {
	return &ids{prefix: strconv.FormatInt(time.Now().UnixMilli(), 36) + "-"}
}
