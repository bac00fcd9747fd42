package upstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
)

// job is one run of the go command, as the guard knows it.
type job struct {
	token string
	place *place
	repo  *repository
	refs  *promise // what git is told
	only  string
	ctx   context.Context
	most  int64 // bytes that it may receive
	got   atomic.Int64
	// fetched is called when objects were passed on; it may be nil.
	fetched func()

	mu      sync.Mutex
	failure *DirectError // the first trouble with the repository
}

// jobs are those that run now.
type jobs struct {
	mu      sync.Mutex
	byToken map[string]*job
}

func (js *jobs) get(token string) *job {
	js.mu.Lock()
	defer js.mu.Unlock()
	return js.byToken[token]
}

// start makes a job known to the guard, until the result is called.
func (js *jobs) start(j *job) func() {
	j.token = rand.Text()
	js.mu.Lock()
	defer js.mu.Unlock()
	js.byToken[j.token] = j
	return func() {
		js.mu.Lock()
		defer js.mu.Unlock()
		delete(js.byToken, j.token)
	}
}

// refsForGit returns what git is told. When it has asked, it looks for the
// commit in the kept repository.
func (j *job) refsForGit(ctx context.Context) (*refs, error) {
	known, err := j.refs.get(ctx)
	if err == nil {
		j.repo.ahead.wait(ctx, strings.TrimSuffix(j.only, "+incompatible"))
	}
	return known, err
}

// passed notes that objects were passed on.
func (j *job) passed() {
	if j.fetched != nil {
		j.fetched()
	}
}

// fail remembers the first trouble: what follows is go trying other ways.
func (j *job) fail(err error) {
	var e *DirectError
	if !errors.As(err, &e) || j.ctx.Err() != nil && reason(e.Reason) == stopped {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failure == nil {
		j.failure = e
	}
}

func (j *job) failed() *DirectError {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failure
}

// counted ends a body that makes the job larger than allowed.
func (j *job) counted(r io.Reader) io.Reader { return &countedReader{r, j} }

type countedReader struct {
	io.Reader
	job *job
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if r.job.got.Add(int64(n)) > r.job.most {
		return 0, troubled(tooBig, nil, "the repository sends more than %s for it, the limit for one fetch", inMiB(r.job.most))
	}
	return n, err
}

func inMiB(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
