package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/modgate/modgate/cache"
	"github.com/modgate/modgate/internal/access"
	"github.com/modgate/modgate/policy"
)

// cacheOnly reports whether the client wants nothing to be fetched for it
// (go.dev/ref/mod#goproxy-protocol, as proxies of the field understand it).
func cacheOnly(r *http.Request) bool {
	v := r.Header["Disable-Module-Fetch"]
	return len(v) > 0 && v[0] == "true"
}

// serveFile answers a request for a file that never changes.
func (s *Server) serveFile(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request) {
	rec := access.From(w)
	if s.redirect(w, r, caller, req) {
		return
	}
	for {
		obj, err := s.get(r.Context(), req.name)
		switch {
		case err == nil && obj.Attrs.SHA256 != "":
			rec.Outcome = access.Hit
			s.serveObject(w, r, caller, req, obj)
			return
		case err == nil:
			obj.Close() // not proven yet
		}
		absent := s.absentNow(req)
		switch {
		case (cacheOnly(r) || absent) && s.refusesKnown(w, r, caller, req):
			return
		case cacheOnly(r):
			s.fail(w, r, req, notCached{})
			return
		case absent:
			s.failNegative(w, r, req)
			return
		}
		if again := s.serveMiss(w, r, caller, req); !again {
			return
		}
	}
}

// what names what was asked for, for a person.
func (r *request) what() string {
	if r.mod.Version == "" {
		return r.mod.Path
	}
	return r.mod.String()
}

// failNegative answers from the memory of a moment ago.
func (s *Server) failNegative(w http.ResponseWriter, r *http.Request, req request) {
	s.fail(w, r, req, fs.ErrNotExist)
	access.From(w).Outcome = access.Negative
}

// wasAbsent reports whether what cannot be told now, because of cause, was
// absent when it was last asked for.
func (s *Server) wasAbsent(req request, cause error) bool {
	return answerFor(cause).outcome == access.Trouble && s.negative.fresh(req.name, staleNegative)
}

// serveObject answers from the store, and closes obj.
func (s *Server) serveObject(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request, obj *cache.Object) {
	defer obj.Close()
	req.since = firstSeen(obj.Attrs)
	if !s.permit(w, r, caller, req) {
		return
	}
	if obj.Body != nil {
		setHeader(w, req.kind, req.from.forever, obj.Attrs.SHA256)
		sent := sending{ResponseWriter: w, ctx: r.Context()}
		http.ServeContent(&sent, inBytes(r), "", time.Time{}, obj.Body)
		if err := sent.unread(r, obj.Attrs.Size); err != nil {
			s.unreadable(req.name, access.From(w), err)
		} else if errors.Is(sent.err, os.ErrDeadlineExceeded) {
			access.From(w).Err = errStalled
		}
		return
	}
	serveBytes(w, r, content{req.kind, req.from.forever, obj.Attrs.SHA256, obj.Bytes})
}

// serveMiss answers from a flight. again says that the object is in the store
// now.
func (s *Server) serveMiss(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request) (again bool) {
	rec := access.From(w)
	if req.kind == KindZip {
		req.since = s.servedSince(r.Context(), req)
	}
	if !s.permitFetch(w, r, caller, req) {
		return false
	}
	f, first := s.joinFill(req)
	defer s.flights.leave(f)
	s.ahead.missed(req)
	rec.Outcome = access.Miss
	if !first {
		rec.Outcome = access.Follow
	}
	if err := wait(r.Context(), f.ready); err != nil {
		s.fail(w, r, req, err)
		return false
	}
	if f.spool != nil && f.spool.total >= 0 && follows(r) {
		if s.permit(w, r, caller, req) {
			s.stream(w, r, req, f)
		}
		return false
	}
	if err := wait(r.Context(), f.done); err != nil {
		s.fail(w, r, req, err)
		return false
	}
	return s.serveFlight(w, r, caller, req, f)
}

// joinFill returns the flight that fetches an immutable file. The caller leaves
// it.
func (s *Server) joinFill(req request) (f *flight, first bool) {
	limit := smallLimit
	if req.kind == KindZip {
		limit = zipLimit
	}
	return s.flights.join(req.name, limit, func(ctx context.Context, f *flight) error {
		err := s.fillOnce(ctx, f, req)
		switch {
		case err == nil:
			s.negative.forget(req.name)
			s.addToList(ctx, req.mod)
		case errors.Is(err, fs.ErrNotExist):
			s.negative.remember(req.name)
		}
		return err
	})
}

// follows reports whether a request can be answered while its file comes: not
// if it is for a part of it or has a condition.
func follows(r *http.Request) bool {
	return r.Method == http.MethodGet && plainRequest(r)
}

// plainRequest reports whether r is for the whole of a file, unconditionally.
func plainRequest(r *http.Request) bool {
	for _, h := range [...]string{"Range", "If-Range", "If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if _, ok := r.Header[h]; ok {
			return false
		}
	}
	return true
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// serveFlight answers from a flight that is over.
func (s *Server) serveFlight(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request, f *flight) (again bool) {
	if errors.Is(f.err, errStored) {
		return true
	}
	if f.err != nil && answerFor(f.err).status != http.StatusForbidden && s.refusesKnown(w, r, caller, req) {
		return false
	}
	if f.err != nil && req.kind == KindInfo && s.wasAbsent(req, f.err) && (req.from != s.private || !s.holds(r.Context(), req)) {
		// The go command asks for the .info of every path that a package could
		// be in, and a build must not fail because of one that is not a module.
		// But who waits for a tag of a private module must hear that its
		// repository is in trouble.
		s.fail(w, r, req, s.remembered(req, f.err))
		access.From(w).Trouble(access.Stale, f.err)
		return false
	}
	if f.err != nil {
		s.fail(w, r, req, f.err)
		return false
	}
	if !s.permit(w, r, caller, req) {
		return false
	}
	if f.spool == nil {
		s.ahead.answered(req)
		serveBytes(w, r, content{req.kind, req.from.forever, f.attrs.SHA256, f.body})
		return false
	}
	setHeader(w, req.kind, req.from.forever, f.attrs.SHA256)
	serveConditional(w, r, io.NewSectionReader(f.spool, 0, f.spool.size()))
	return false
}

// stream sends a file while it is being fetched. The tail comes when all is
// proven; if it is not, the connection is cut, so that no client takes what it
// has for the whole.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, req request, f *flight) {
	src := &spoolReader{ctx: r.Context(), s: f.spool}
	start := make([]byte, 512)
	n, err := src.Read(start)
	if err != nil {
		s.fail(w, r, req, err)
		return
	}
	setHeader(w, req.kind, req.from.forever, "")
	w.Header().Set("Content-Length", strconv.FormatInt(f.spool.total, 10))
	if _, err = w.Write(start[:n]); err == nil {
		_, err = io.Copy(w, struct{ io.Reader }{src})
	}
	if err == nil {
		return
	}
	rec := access.From(w)
	rec.Err = err
	rec.Outcome = access.Gone
	if r.Context().Err() == nil && f.spool.refused() {
		rec.Trouble(answerFor(err).outcome, err)
	}
	panic(http.ErrAbortHandler)
}

// contentTypes of the files of the protocol.
func contentType(kind string) string {
	switch kind {
	case KindZip:
		return "application/zip"
	case KindInfo, kindQuery, kindLatest:
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}

// setHeader sets the header of an answer with a body. digest is its SHA-256 in
// hex; empty: unknown.
func setHeader(w http.ResponseWriter, kind, cacheControl, digest string) {
	h := w.Header()
	// One array instead of a slice for each: this is the way of every hit.
	v := &[4]string{contentType(kind), cacheControl, "nosniff"}
	h["Content-Type"], h["X-Content-Type-Options"] = v[0:1:1], v[2:3:3]
	if _, decided := h["Cache-Control"]; !decided { // by policy
		h["Cache-Control"] = v[1:2:2]
	}
	if len(digest) >= 32 {
		v[3] = `"` + digest[:32] + `"`
		h["Etag"] = v[3:4:4]
	}
}

// content is a small body, with what setHeader wants to know of it.
type content struct {
	kind, cacheControl, digest string
	body                       []byte
}

// counted is the size of a body up to which net/http finds its length itself, for
// less than what it costs to tell.
const counted = 2 << 10

// serveBytes answers with a small body.
func serveBytes(w http.ResponseWriter, r *http.Request, c content) {
	setHeader(w, c.kind, c.cacheControl, c.digest)
	if !plainRequest(r) {
		serveConditional(w, r, bytes.NewReader(c.body))
		return
	}
	if len(c.body) > counted || r.Method == http.MethodHead {
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(c.body))}
	}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		w.Write(c.body)
	}
}
