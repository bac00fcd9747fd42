// Package sumdb asks checksum databases: for ourselves, to prove what modules
// contain, and for the go command, whose requests it answers from the same
// proven records, tiles and tree heads.
//
// A [DB] is one database. Everything it accepts is proven by the verifier of
// golang.org/x/mod against one pinned tree head, which is kept in [Storage] and
// never goes back. A [Mirror] serves what DBs have proven.
//
// # One pinned head
//
// The heads in the answers of a mirror differ wildly from module to module. Each
// of them is properly signed, but each needs tiles of its own, so that a cache
// of plain answers works only while the upstream does. Here the signature of
// such a head is checked, and then the record is proven in the tree of the
// pinned head and served together with that. The pinned head moves only for a
// record that is not in its tree, after the proof that the new tree contains
// the old one and after the tiles of its right edge were stored.
//
// A head that was not needed is still evidence: if it is of another history
// than the pinned one, the database has lied to somebody. It is compared when
// the tiles for that are at hand, and every Config.HeadCheck even if they must
// be fetched (they come with those of the record: no further round trip).
//
// # Trust
//
// Two signed heads that contradict each other are proof that the database
// misbehaves. They are stored as evidence, and from then on its remote is not
// asked any more, also after a restart, until an operator has removed
// "sumdb/<name>/evidence/fork" from the storage. What was proven before is
// still served. Answers that merely fail their proof (a flipped bit, a record
// of another module) may be the fault of anyone in between: they are asked for
// once more, past all caches, then raise an alarm and fail that one lookup.
package sumdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"
)

// Remote reaches checksum databases. It is safe for concurrent use.
type Remote interface {
	// SumDB returns the file at path ("/lookup/…", "/tile/…", "/latest") of
	// the named database. fs.ErrNotExist says that the database is sure to
	// have no such file (404, 410); every other error is trouble. It reads at
	// most 1 MiB. ctx is used until it returns.
	SumDB(ctx context.Context, database, path string) ([]byte, error)
}

// Storage keeps what was proven, under names that start with "sumdb/". It is
// safe for concurrent use; nobody may change the bytes it takes or returns.
// What it returns is trusted, though proven again where that costs no request:
// it should be what was put.
type Storage interface {
	// Get returns the bytes called name; fs.ErrNotExist if there are none.
	Get(ctx context.Context, name string) ([]byte, error)
	// Put keeps data, which can be fetched again and never changes: if name
	// has other bytes the error is ErrConflict. It need not survive a crash.
	Put(ctx context.Context, name string, data []byte) error
	// Swap replaces old by new, or fails with ErrConflict if name has other
	// bytes than old; a nil old says that name is absent. It is atomic among
	// all that share the storage, and survives a power failure.
	Swap(ctx context.Context, name string, old, new []byte) error
	// Delete removes name, which may be absent.
	Delete(ctx context.Context, name string) error
}

// A Storage that several processes share may have this ability.
type turner interface {
	// Turn lets one process at a time fetch what is to be called name. It
	// waits for the others until most has passed, and returns at once where it
	// cannot be told who they are. there says that name has been put meanwhile.
	// done ends the turn and is called once, when name is put or will not be.
	Turn(ctx context.Context, name string, most time.Duration) (done func(), there bool)
}

// turnPatience is how long another process is waited for. Turns are taken in one
// order, so that no two processes ever wait for each other: the one of the first
// head, then that of a record, then those of tiles in the order of tileOrder. The
// turn of a process that has died runs out by itself; this is for one that is slow
// beyond all measure, and half of the default time of a lookup.
const turnPatience = 30 * time.Second

// Errors of this package; test with errors.Is.
var (
	// ErrConflict is what a Storage returns instead of replacing bytes that it
	// was not told of.
	ErrConflict = errors.New("stored bytes are not the expected ones")
	// ErrPrivate says that a module path must not be named to the database.
	ErrPrivate = errors.New("private module: not looked up in a checksum database")
	// ErrUntrusted says that the database contradicted itself, and that it is
	// not asked until an operator has looked at the evidence.
	ErrUntrusted = errors.New("checksum database misbehaved and is not trusted")
	// ErrForged says that an answer failed its proof, twice.
	ErrForged = errors.New("answer of the checksum database failed its proof")
)

// Config configures a DB.
type Config struct {
	// Name is the database in the syntax of GOSUMDB ([Parse]); the URL in it
	// is for the Remote and ignored here. Required.
	Name string
	// Remote reaches the database. Required.
	Remote Remote
	// Storage keeps what was proven. Required.
	Storage Storage
	// Private reports whether a module path, or a path of which private ones
	// are below, must not be named to the database. Default: nothing is.
	Private func(path string) bool
	// Logger gets alarms (Error) and trouble (Warn). Default: discarded.
	Logger *slog.Logger
	// Concurrency is how many lookups may be at the remote at once, each with
	// its tiles in parallel. Default 16.
	Concurrency int
	// Timeout is the time for one lookup or tile, whoever waits for it.
	// Default 60 s.
	Timeout time.Duration
	// MemoryBytes bounds what is kept in memory of records and tiles.
	// Default 32 MiB, which is more than 3,000 modules need.
	MemoryBytes int64
	// HeadCheck is how often a head that was not needed is compared with the
	// pinned one although tiles must be fetched for it. Default 1 min.
	HeadCheck time.Duration
}

// DB is one checksum database. It is safe for concurrent use. A lookup that is
// under way belongs to the DB, not to the caller who asked first, and ends
// after Config.Timeout at the latest. Whoever makes one closes it.
type DB struct {
	cfg       Config
	name      string
	key       string
	verifiers note.Verifiers
	log       *slog.Logger
	life      *life

	heads    heads
	opened   *memory[*head] // by the bytes that came
	tiles    *tiles
	records  *memory[*record]
	lookups  flights[*found]
	tileRuns flights[*foundTile]
	firsts   flights[*head] // /latest, before there is a pin
	firstPin flights[*head]
	slots    chan struct{}

	untrusted  atomic.Pointer[string] // why, once it is so
	compared   atomic.Int64           // unix nanoseconds: a head was last compared by fetching
	refreshed  atomic.Int64           // unix nanoseconds: the pin was last refreshed
	complained atomic.Int64           // unix nanoseconds: storage trouble was last logged

	results       *prometheus.CounterVec
	alarms        prometheus.Counter
	storageErrors prometheus.Counter
}

// New checks cfg and returns the DB. It reads no storage and asks no remote.
func New(cfg Config) (*DB, error) {
	parsed, err := Parse(cfg.Name)
	if err != nil {
		return nil, err
	}
	if cfg.Remote == nil || cfg.Storage == nil {
		return nil, fmt.Errorf("checksum database %s: Remote and Storage are required", parsed.Name)
	}
	if cfg.Concurrency < 0 || cfg.Timeout < 0 || cfg.MemoryBytes < 0 || cfg.HeadCheck < 0 {
		return nil, fmt.Errorf("checksum database %s: negative limit", parsed.Name)
	}
	verifier, err := note.NewVerifier(parsed.Key)
	if err != nil {
		return nil, fmt.Errorf("checksum database %s: %w", parsed.Name, err)
	}
	cfg = withDefaults(cfg)
	d := &DB{
		cfg:       cfg,
		name:      parsed.Name,
		key:       parsed.Key,
		verifiers: note.VerifierList(verifier),
		log:       cfg.Logger.With("database", parsed.Name),
		records:   newMemory[*record](cfg.MemoryBytes / 4),
		opened:    newMemory[*head](maxOpened),
		slots:     make(chan struct{}, cfg.Concurrency),
	}
	d.tiles = newTiles(d, cfg.MemoryBytes-cfg.MemoryBytes/4)
	d.life = newLife(d.log)
	d.lookups.life, d.tileRuns.life, d.firstPin.life, d.firsts.life = d.life, d.life, d.life, d.life
	d.lookups.timeout, d.tileRuns.timeout, d.firstPin.timeout = cfg.Timeout, cfg.Timeout, cfg.Timeout
	d.firsts.timeout = min(cfg.Timeout, firstTimeout)
	d.metrics()
	return d, nil
}

func withDefaults(cfg Config) Config {
	if cfg.Private == nil {
		cfg.Private = func(string) bool { return false }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 16
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	if cfg.MemoryBytes == 0 {
		cfg.MemoryBytes = 32 << 20
	}
	if cfg.HeadCheck == 0 {
		cfg.HeadCheck = time.Minute
	}
	return cfg
}

// firstTimeout is how long the first lookup of all waits for /latest, without
// which it starts from the head in its own answer.
const firstTimeout = 10 * time.Second

// Close ends what is under way and waits for it: afterwards neither the Remote
// nor the Storage is used. Whoever asks then gets ErrClosed. It may be called
// more than once; its error is always nil.
func (d *DB) Close() error {
	d.life.end()
	return nil
}

// Name is the name of the database, as in "/sumdb/<name>/".
func (d *DB) Name() string { return d.name }

// stored returns the name of something of this database in the storage. A
// colon, as in a database called localhost:8080, is not for file names.
func (d *DB) stored(rest string) string {
	return "sumdb/" + strings.ReplaceAll(d.name, ":", "!") + "/" + rest
}

// fetch asks the remote for path, unless it is not trusted any more.
func (d *DB) fetch(ctx context.Context, path string) ([]byte, error) {
	if err := d.trusted(); err != nil {
		return nil, err
	}
	data, err := d.cfg.Remote.SumDB(ctx, d.name, path)
	if err != nil {
		return nil, fmt.Errorf("checksum database %s: %w", d.name, err)
	}
	return data, nil
}

// turn waits until no other process is about to fetch and keep name.
func (d *DB) turn(ctx context.Context, name string) (done func(), there bool) {
	if t, ok := d.cfg.Storage.(turner); ok {
		return t.Turn(ctx, d.stored(name), turnPatience)
	}
	return func() {}, false
}

// shared reports whether other processes may fetch the same.
func (d *DB) shared() bool {
	_, ok := d.cfg.Storage.(turner)
	return ok
}

// read is Storage.Get, with nil for what is absent.
func (d *DB) read(ctx context.Context, name string) ([]byte, error) {
	data, err := d.cfg.Storage.Get(ctx, d.stored(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("checksum database %s: stored %s: %w", d.name, name, err)
	}
	return data, nil
}

// keep stores what is proven, in place of what may have rotted there. Trouble
// is logged: all of it can be fetched again.
func (d *DB) keep(ctx context.Context, name string, data []byte) {
	err := d.cfg.Storage.Put(ctx, d.stored(name), data)
	if errors.Is(err, ErrConflict) {
		if err = d.cfg.Storage.Delete(ctx, d.stored(name)); err == nil {
			err = d.cfg.Storage.Put(ctx, d.stored(name), data)
		}
	}
	if err != nil {
		d.storageTrouble(name, err)
	}
}

// storageTrouble counts and logs that something could not be read or kept, which
// costs a fetch and no more. A line a minute is enough for a disk that is full.
func (d *DB) storageTrouble(name string, err error) {
	d.storageErrors.Inc()
	now, last := time.Now().UnixNano(), d.complained.Load()
	if now-last > int64(time.Minute) && d.complained.CompareAndSwap(last, now) {
		d.log.Warn("storage of the checksum database", "name", d.stored(name), "error", err)
	}
}
