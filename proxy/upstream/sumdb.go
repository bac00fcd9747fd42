package upstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"
)

// sumdbLabel is the name in metrics of all databases that are asked directly.
const sumdbLabel = "sumdb"

// How long it is remembered where a database is reached.
const (
	rememberRoute   = time.Hour
	rememberTrouble = 5 * time.Second
)

// maxDatabases bounds the databases that one Chain will ever ask: their names
// come from the configuration, so more are a mistake of the caller.
const maxDatabases = 16

// database is a checksum database and the way to it.
type database struct {
	label  string // its name, unchecked text that is safe in a URL path
	direct *remote
	finder chan struct{} // holds a token while someone looks for the way

	mu    sync.Mutex // guards what follows; never held while waiting
	via   upstream   // nil until found; the database itself if no upstream offers it
	err   error      // why via could not be told
	until time.Time  // when to look again
}

// SumDB returns one file of the named checksum database: "/latest",
// "/lookup/…" or "/tile/…". It comes through the first upstream that offers
// the database (its /sumdb/<name>/supported answers 200), else from the
// database itself. As in the go command, an upstream that was chosen is not
// gone around when it fails. Nothing is verified here. Absent is
// fs.ErrNotExist: the database says so, or an upstream that still offers it.
func (c *Chain) SumDB(ctx context.Context, name, file string) ([]byte, error) {
	if c.off {
		return nil, errOff()
	}
	if path.Clean(file) != file || !strings.HasPrefix(file, "/") || file == "/" {
		return nil, fmt.Errorf("checksum database %s: bad path %q", name, file)
	}
	d, err := c.database(name)
	if err != nil {
		return nil, err
	}
	for range len(c.entries) + 1 {
		via, err := d.way(ctx, c)
		if err != nil {
			return nil, err
		}
		data, err := via.get(ctx, d.file(via, file))
		if via == upstream(d.direct) {
			if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
				d.doubt()
			}
			return data, err
		}
		if err == nil || !notOffered(err) {
			return data, err
		}
		// A proxy that has ceased to carry the database answers so to all of it.
		switch _, lost := via.get(ctx, d.file(via, "/supported")); {
		case lost == nil:
			return nil, err
		case !notOffered(lost):
			return nil, lost
		}
		if d.forget(via) {
			c.cfg.Logger.Warn("upstream does not offer the checksum database any more; looking for another way", "upstream", via.name(), "database", d.label)
		}
	}
	return nil, &Error{Path: d.label, kind: trouble, text: "the upstreams offer the checksum database " + d.label + " and, a moment later, do not"}
}

// forget ends the use of a way that does not lead to the database any more. It
// reports whether that was in use still.
func (d *database) forget(via upstream) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.via != via {
		return false
	}
	d.via, d.err, d.until = nil, nil, time.Time{}
	return true
}

// doubt lets the upstreams be asked again soon. That they do not offer the
// database may have been a mistake of a moment, and in many networks there is no
// way but through them.
func (d *database) doubt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if soon := time.Now().Add(rememberTrouble); d.until.After(soon) {
		d.until = soon
	}
}

// database returns the one of this name, which is checked.
func (c *Chain) database(name string) (*database, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.dbs[name]; d != nil {
		return d, nil
	}
	base, err := c.databaseURL(name)
	if err != nil {
		return nil, err
	}
	if len(c.dbs) >= maxDatabases {
		return nil, fmt.Errorf("checksum database %q: more than %d are in use", name, maxDatabases)
	}
	d := &database{label: name, direct: newRemote(c, host(base), base), finder: make(chan struct{}, 1)}
	d.direct.series = sumdbLabel
	c.dbs[name] = d
	return d, nil
}

func (c *Chain) databaseURL(name string) (*url.URL, error) {
	text, ok := c.cfg.SumDBURL[name]
	if !ok {
		text = "https://" + name
	}
	u, err := parseLocation(text)
	if err != nil || !ok && (host(u)+u.Path != name || u.User != nil) || path.Clean("/"+name) != "/"+name {
		return nil, fmt.Errorf("checksum database %q: not a name that can be asked for", name)
	}
	return u, nil
}

// databaseBroken reports whether a database that is asked directly is left
// alone.
func (c *Chain) databaseBroken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.dbs {
		if d.direct.broken() {
			return true
		}
	}
	return false
}

// file names a file of the database as via wants it.
func (d *database) file(via upstream, name string) file {
	if via != upstream(d.direct) {
		name = "/sumdb/" + d.label + name
	}
	return file{name, maxSumDB, "sumdb"}
}

// way returns through whom the database is reached. One caller finds out,
// the others wait, or go on with what was true an hour ago.
func (d *database) way(ctx context.Context, c *Chain) (upstream, error) {
	via, fresh, err := d.known()
	if fresh {
		return via, err
	}
	if via != nil {
		select {
		case d.finder <- struct{}{}:
		default:
			return via, nil
		}
	} else {
		select {
		case d.finder <- struct{}{}:
		case <-ctx.Done():
			return nil, failed("", d.label, context.Cause(ctx))
		}
	}
	defer func() { <-d.finder }()
	if via, fresh, err = d.known(); fresh { // found while we waited
		return via, err
	}
	return d.find(ctx, c)
}

func (d *database) known() (via upstream, fresh bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.via, time.Now().Before(d.until), d.err
}

// find asks the upstreams whether they offer the database, and remembers the
// answer.
func (d *database) find(ctx context.Context, c *Chain) (upstream, error) {
	sure := rememberRoute
	for _, e := range c.entries {
		_, err := e.get(ctx, d.file(e, "/supported"))
		switch {
		case err == nil:
			return d.remember(e.upstream, nil, sure)
		case ctx.Err() != nil:
			return nil, err // the caller's end says nothing
		case notOffered(err):
		case e.onAnyError:
			sure = rememberTrouble
		default:
			return d.remember(nil, err, rememberTrouble)
		}
	}
	return d.remember(d.direct, nil, sure)
}

// notOffered reports whether an upstream said that it does not carry the
// database. 404 and 410 are the words for it; but object stores say 403 for
// what does not exist, and other proxies were seen to say 400.
func notOffered(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	}
	return e.kind == absentNow || e.Status >= 400 && e.Status < 500
}

// remember notes the way; an error does not displace a way that worked.
func (d *database) remember(via upstream, err error, period time.Duration) (upstream, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Now().Add(period)
	switch {
	case err == nil:
		d.via, d.err = via, nil
	case d.via == nil:
		d.err = err
	}
	return d.via, d.err
}
