// Package sumdbtest is a signed checksum database in memory that can lie.
//
// A [Log] is honest until it is told otherwise: its records, tiles and tree
// heads are those of golang.org/x/mod, and the go command accepts them with
// GOSUMDB=<Log.Key>. [Log.Lie] then changes single answers, [Log.Fork] makes a
// second history under the same key, [Log.Rewind] answers as the log was when
// it was smaller.
package sumdbtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Log is a checksum database: an http.Handler for the paths /supported,
// /lookup/…, /tile/… and /latest, and the remote of a sumdb.DB without any
// HTTP between them. It is safe for concurrent use.
type Log struct {
	name   string
	key    string
	signer note.Signer
	server *sumdb.Server

	// mu guards what follows.
	mu      sync.Mutex
	hashes  []tlog.Hash
	records [][]byte
	ids     map[module.Version]int64
	shown   int64 // size that the log claims to have; 0: all of it
	lies    []Lie
	asked   []string
}

// New returns an empty log called name (host or host/path) with a fresh key.
func New(name string) (*Log, error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, fmt.Errorf("new log %s: %w", name, err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, fmt.Errorf("new log %s: %w", name, err)
	}
	return newLog(name, vkey, signer), nil
}

func newLog(name, vkey string, signer note.Signer) *Log {
	l := &Log{name: name, key: vkey, signer: signer, ids: make(map[module.Version]int64)}
	l.server = sumdb.NewServer((*ops)(l))
	return l
}

// Name is the name of the database.
func (l *Log) Name() string { return l.name }

// Key is the verifier key, "name+hash+key", as GOSUMDB takes it.
func (l *Log) Key() string { return l.key }

// Add appends the record of m with the "h1:" hashes of its zip and of its
// go.mod, and returns its id. A module version that is there already gets a
// second record, and lookups find the new one: a log that contradicts itself.
func (l *Log) Add(m module.Version, zipHash, modHash string) int64 {
	text := fmt.Sprintf("%s %s %s\n%s %s/go.mod %s\n", m.Path, m.Version, zipHash, m.Path, m.Version, modHash)
	return l.AddText(m, text)
}

// AddText is Add for a record with any text, which should end in a newline.
func (l *Log) AddText(m module.Version, text string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.add(m, text)
}

// Fill appends n records of modules that nobody asks for, so that the tree has
// the size and the tile levels that a test needs.
func (l *Log) Fill(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := Hash("filler")
	for range n {
		m := module.Version{Path: "filler.example/m" + strconv.Itoa(len(l.records)), Version: "v1.0.0"}
		l.add(m, m.Path+" v1.0.0 "+h+"\n"+m.Path+" v1.0.0/go.mod "+h+"\n")
	}
}

// Size is the number of records.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.records))
}

// Fork returns a log with the same key and, up to now, the same history.
func (l *Log) Fork() *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.prefix(int64(len(l.records)))
}

// ForkAt is Fork with only the first size records in common.
func (l *Log) ForkAt(size int64) *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.prefix(size)
}

// Rewind makes the log answer as it did with size records: an older backup, or
// a mirror that lags behind. Zero ends it.
func (l *Log) Rewind(size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shown = size
}

// Head returns the signed tree head of the first size records.
func (l *Log) Head(size int64) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head(size)
}

// Hash makes an "h1:" hash out of any text.
func Hash(text string) string {
	return "h1:" + tlog.RecordHash([]byte(text)).String()
}

func (l *Log) prefix(size int64) *Log {
	f := newLog(l.name, l.key, l.signer)
	f.records = slices.Clone(l.records[:size])
	f.hashes = slices.Clone(l.hashes[:tlog.StoredHashCount(size)])
	for m, id := range l.ids {
		if id < size {
			f.ids[m] = id
		}
	}
	return f
}

func (l *Log) add(m module.Version, text string) int64 {
	id := int64(len(l.records))
	hashes, err := tlog.StoredHashes(id, []byte(text), reader(l.hashes))
	if err != nil {
		// reader fails only for hashes that are not there, which would be a
		// fault of this package.
		panic(err)
	}
	l.records = append(l.records, []byte(text))
	l.hashes = append(l.hashes, hashes...)
	l.ids[m] = id
	return id
}

func (l *Log) size() int64 {
	if n := int64(len(l.records)); l.shown == 0 || l.shown > n {
		return n
	}
	return l.shown
}

func (l *Log) head(size int64) ([]byte, error) {
	h, err := tlog.TreeHash(size, reader(l.hashes))
	if err != nil {
		return nil, err
	}
	text := tlog.FormatTree(tlog.Tree{N: size, Hash: h})
	return note.Sign(&note.Note{Text: string(text)}, l.signer)
}

// ops are the operations of an honest x/mod server over a Log.
type ops Log

func (o *ops) Signed(context.Context) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := (*Log)(o)
	return l.head(l.size())
}

func (o *ops) ReadRecords(_ context.Context, id, n int64) ([][]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if id < 0 || id+n > (*Log)(o).size() {
		return nil, fs.ErrNotExist
	}
	return o.records[id : id+n], nil
}

func (o *ops) Lookup(_ context.Context, m module.Version) (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if id, ok := o.ids[m]; ok && id < (*Log)(o).size() {
		return id, nil
	}
	return 0, fs.ErrNotExist
}

func (o *ops) ReadTileData(_ context.Context, t tlog.Tile) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t.L < 0 || t.N<<t.H+int64(t.W) > (*Log)(o).size()>>(t.H*t.L) {
		return nil, fs.ErrNotExist
	}
	return tlog.ReadTileData(t, reader(o.hashes))
}

// reader reads stored hashes out of a slice.
type reader []tlog.Hash

func (r reader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, 0, len(indexes))
	for _, i := range indexes {
		if i < 0 || i >= int64(len(r)) {
			return nil, fmt.Errorf("hash %d: %w", i, fs.ErrNotExist)
		}
		out = append(out, r[i])
	}
	return out, nil
}
