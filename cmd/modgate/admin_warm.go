package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds of POST /-/warm.
const (
	// maxWarmBody bounds the go.mod, go.sum or list, in bytes.
	maxWarmBody = 16 << 20
	// maxWarms is how many requests may run at once.
	maxWarms = 2
	// warmLineEvery is the time between the lines that say how far it is.
	warmLineEvery = time.Second
)

// warmed answers POST /-/warm?jobs=N, whose body is a go.mod, a go.sum or a list
// of MODULE@VERSION: it fetches what that names, says how far it is in lines,
// and in the last one how it went.
func (a *admin) warmed(w http.ResponseWriter, r *http.Request) {
	jobs := 16
	if text := r.URL.Query().Get("jobs"); text != "" {
		var err error
		if jobs, err = strconv.Atoi(text); err != nil || jobs < 1 || jobs > maxJobs {
			plain(w, http.StatusBadRequest, fmt.Sprintf("jobs=%.20q is not a number of files: write 1 to %d\n", text, maxJobs))
			return
		}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWarmBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		plain(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes: send it in parts\n", maxWarmBody))
		return
	case err != nil:
		return // the client is gone, or too slow
	}
	wants, err := parseWants("body", data)
	if err == nil && len(wants) == 0 {
		err = errors.New("the body is empty: send a go.mod, a go.sum, or lines of MODULE@VERSION")
	}
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	leave, ok := enterFew(w, &a.warming, maxWarms)
	if !ok {
		return
	}
	defer leave()
	a.warm(w, r, wants, jobs)
}

// warm fetches wants through the handler of this process, as a client would.
func (a *admin) warm(w http.ResponseWriter, r *http.Request, wants []want, jobs int) {
	control := http.NewResponseController(w)
	// The body has come, and net/http takes the end of its time for the end of
	// the client.
	_ = control.SetReadDeadline(time.Time{})
	plain(w, http.StatusOK, "")
	_ = control.Flush()
	through := &inside{handler: a.app.handler, from: r.RemoteAddr}
	defer through.Wait()
	progress := newProgress(flushEach{w, control}, "warm", len(wants))
	progress.every, progress.next = warmLineEvery, time.Now().Add(warmLineEvery)
	m := &warmer{
		base:     "http://modgate/" + strings.Trim(a.settings.BasePath, "/"),
		client:   &http.Client{Transport: through},
		progress: progress,
	}
	m.base = strings.TrimSuffix(m.base, "/")
	start := time.Now()
	if err := m.run(r.Context(), wants, jobs); err != nil {
		fmt.Fprintf(w, "not done: %v\n", err)
		return
	}
	m.print(w, len(wants), time.Since(start))
}

// flushEach sends what is written at once.
type flushEach struct {
	io.Writer
	control *http.ResponseController
}

// Write implements io.Writer.
func (f flushEach) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	_ = f.control.Flush()
	return n, err
}
