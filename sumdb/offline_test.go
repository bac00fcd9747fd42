package sumdb_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/modgate/modgate/sumdb"
	"github.com/modgate/modgate/sumdb/sumdbtest"
	"golang.org/x/mod/module"
	modsumdb "golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/tlog"
)

// goClient is the go command as far as checksum databases know it: x/mod's
// client with an empty or old state of its own.
type goClient struct {
	t      testing.TB
	log    *sumdbtest.Log
	mirror http.Handler

	mu     sync.Mutex
	latest []byte
	cache  map[string][]byte
	alarm  string
}

func (c *goClient) ReadRemote(path string) ([]byte, error) {
	rec := get(c.t, c.mirror, c.log.Name()+path)
	if rec.Code != http.StatusOK {
		return nil, fmt.Errorf("%s: %d %s", path, rec.Code, rec.Body)
	}
	return rec.Body.Bytes(), nil
}

func (c *goClient) ReadConfig(file string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if file == "key" {
		return []byte(c.log.Key()), nil
	}
	return c.latest, nil
}

func (c *goClient) WriteConfig(_ string, old, new []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !bytes.Equal(c.latest, old) {
		return modsumdb.ErrWriteConflict
	}
	c.latest = new
	return nil
}

func (c *goClient) ReadCache(file string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if data, ok := c.cache[file]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func (c *goClient) WriteCache(file string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cache == nil {
		c.cache = make(map[string][]byte)
	}
	c.cache[file] = data
}

func (c *goClient) Log(string) {}

func (c *goClient) SecurityError(msg string) { c.alarm = msg }

// download is one run of the go command that checks mods in this order.
func (c *goClient) download(mods ...module.Version) error {
	client := modsumdb.NewClient(c)
	for _, m := range mods {
		for _, suffix := range []string{"/go.mod", ""} {
			lines, err := client.Lookup(m.Path, m.Version+suffix)
			if err != nil {
				return err
			}
			if len(lines) != 1 {
				return fmt.Errorf("%s%s: %q", m, suffix, lines)
			}
		}
	}
	return nil
}

// Tree heads in the answers of the log differ from module to module: here each
// lookup comes with the smallest tree that has the record, as on a mirror that
// stored them when they were asked for first.
func oldHeads(log *sumdbtest.Log) sumdbtest.Lie {
	return func(a *sumdbtest.Answer) {
		if !strings.HasPrefix(a.Path, "/lookup/") || a.Status != http.StatusOK {
			return
		}
		id, text, _, err := tlog.ParseRecord(a.Body)
		if err != nil {
			return
		}
		block, _ := tlog.FormatRecord(id, text)
		head, _ := log.Head(id + 7)
		a.Body = append(block, head...)
	}
}

func TestMirrorOffline(t *testing.T) {
	t.Parallel()
	log := newLog(t, 0)
	for i := range 4 {
		log.Fill(5000)
		add(log, mod(i))
	}
	log.Fill(5000)
	orders := [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}, {1}, {3}, {0, 2}}
	for _, fill := range orders[:3] {
		storage := sumdbtest.NewStorage()
		d := newDB(t, log, storage)
		log.Lie(oldHeads(log))
		for _, i := range fill { // each by a client of its own
			c := &goClient{t: t, log: log, mirror: newMirror(t, d)}
			if err := c.download(mod(i)); err != nil {
				t.Fatalf("online: %v", err)
			}
		}
		log.Lie(sumdbtest.Say("/", 500, ""))
		log.Forget()
		for _, order := range orders {
			for _, d := range []*sumdb.DB{d, newDB(t, log, storage)} {
				c := &goClient{t: t, log: log, mirror: newMirror(t, d)}
				for _, i := range order {
					if err := c.download(mod(i)); err != nil {
						t.Errorf("filled %v, offline %v: %v", fill, order, err)
					}
				}
			}
		}
		wantRequests(t, log, "/", 0)
	}
}
