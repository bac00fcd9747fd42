// Package redis keeps certificates and keys in Redis for all replicas of a
// fleet: a certmagic.Storage.
//
// All keys have one hash tag, so that they are in one slot of a Cluster:
//
//	{namespace}:v:KEY   hash: v the value, m when it was stored (ns)
//	{namespace}:index   sorted set of all KEYs, by which directories are listed
//	{namespace}:l:NAME  a lock: the token of its holder, with a time to live
//
// Values are encrypted and authenticated together with their KEY: who can read
// or write the Redis, which others may use too, neither learns a private key
// nor puts another in its place. The KEYs, with the names of certificates, are
// in the clear.
//
// The Redis must not evict (maxmemory-policy noeviction), and should persist:
// what it loses is obtained again, which counts against the limits of a CA.
package redis

import (
	"context"
	"crypto/cipher"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/modgate/modgate/internal/redisinfo"
)

// Config of a Store.
type Config struct {
	// Addrs are host:port of the server, of the Sentinels, or of some nodes of
	// the Cluster. Required.
	Addrs []string
	// Master is what the Sentinels call the master. With it, Addrs are Sentinels.
	Master string
	// Cluster says that Addrs are nodes of a Cluster.
	Cluster bool
	// User and Password, also of the Sentinels. An empty User is Redis' "default".
	User, Password string
	// DB is the number of the database. Default 0, which alone a Cluster has.
	DB int
	// TLS makes connections use TLS, with Trust as authorities; nil means those
	// of the system.
	TLS   bool
	Trust *x509.CertPool
	// Namespace begins each key. Default "modgate-tls".
	Namespace string
	// Secret is what values are encrypted by: 32 bytes or more that nobody can
	// guess, the same for all replicas. Required.
	Secret []byte
	// LockTTL is how long a lock outlives a holder that has died. Default 30 s.
	LockTTL time.Duration
	// Timeout bounds one operation. Default 3 s.
	Timeout time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// minSecret is the least length of Config.Secret, in bytes.
const minSecret = 32

func (c *Config) complete() error {
	var errs []error
	if len(c.Addrs) == 0 {
		errs = append(errs, errors.New("no address"))
	}
	if len(c.Addrs) > 1 && c.Master == "" && !c.Cluster {
		errs = append(errs, errors.New("several addresses need the name of a master (Sentinel) or a Cluster"))
	}
	if c.Master != "" && c.Cluster {
		errs = append(errs, errors.New("a Cluster has no Sentinels"))
	}
	if c.Cluster && c.DB != 0 {
		errs = append(errs, fmt.Errorf("database %d: a Cluster has only database 0", c.DB))
	}
	if len(c.Secret) < minSecret {
		errs = append(errs, fmt.Errorf("the secret that values are encrypted by has %d bytes, and needs %d", len(c.Secret), minSecret))
	}
	if c.Namespace == "" {
		c.Namespace = "modgate-tls"
	}
	if strings.ContainsAny(c.Namespace, "{} \r\n") {
		errs = append(errs, fmt.Errorf("namespace %q: use letters, digits, colons and dashes", c.Namespace))
	}
	if c.LockTTL <= 0 {
		c.LockTTL = 30 * time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 3 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

func (c *Config) client() goredis.UniversalClient {
	goredis.SetLogger(&logging.VoidLogger{}) // it writes to standard error whenever a connection fails
	o := &goredis.UniversalOptions{
		Addrs: slices.Clone(c.Addrs), MasterName: c.Master, IsClusterMode: c.Cluster, DB: c.DB,
		Username: c.User, Password: c.Password, SentinelUsername: c.User, SentinelPassword: c.Password,
		DialTimeout: c.Timeout, ReadTimeout: c.Timeout, WriteTimeout: c.Timeout, PoolTimeout: c.Timeout,
		ContextTimeoutEnabled: true, MaxRetries: 1, DialerRetries: 1, PoolSize: 16,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if c.TLS {
		o.TLSConfig = &tls.Config{RootCAs: c.Trust, MinVersion: tls.VersionTLS12}
	}
	return goredis.NewUniversalClient(o)
}

// Store is a certmagic.Storage. All its fields are private: certmagic logs its
// storage with every exported field.
type Store struct {
	c      Config
	client goredis.UniversalClient
	prefix string
	sealer cipher.AEAD

	mu     sync.Mutex // guards held and closed
	held   map[string]*held
	closed bool
}

// New checks c. It does not connect. The caller closes the Store.
func New(c Config) (*Store, error) {
	if err := c.complete(); err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	sealer, err := newSealer(c.Secret)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return &Store{c: c, client: c.client(), prefix: "{" + c.Namespace + "}", sealer: sealer, held: map[string]*held{}}, nil
}

// Info asks the server what it says of itself.
func (s *Store) Info(ctx context.Context) (redisinfo.Info, error) {
	return redisinfo.Ask(ctx, s.client)
}

// Close ends the keeping of locks, which then end by themselves, and all
// connections.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	all := s.held
	s.held = map[string]*held{}
	s.mu.Unlock()
	for _, h := range all {
		h.end()
	}
	return s.client.Close()
}

// String names the store in logs.
func (s *Store) String() string { return "redis " + strings.Join(s.c.Addrs, ",") }

func (s *Store) value(key string) string { return s.prefix + ":v:" + key }
func (s *Store) index() string           { return s.prefix + ":index" }

func clean(key string) string { return strings.Trim(key, "/") }

func notExist(op, key string) error { return &fs.PathError{Op: op, Path: key, Err: fs.ErrNotExist} }

// below returns the bounds of all keys below a directory, in the order of the
// index: '0' comes behind '/'.
func below(dir string) (from, to string) {
	if dir == "" {
		return "-", "+"
	}
	return "[" + dir + "/", "(" + dir + "0"
}

// storeValue is a script and no transaction, because of one that is aborted
// Redis does not say why.
var storeValue = goredis.NewScript(`
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'm', ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[3])
return 1`)

// Store puts value at key, whole or not at all.
func (s *Store) Store(ctx context.Context, key string, value []byte) error {
	key = clean(key)
	now := strconv.FormatInt(time.Now().UnixNano(), 10)
	return wrap("store", key, storeValue.Run(ctx, s.client, []string{s.value(key), s.index()}, seal(s.sealer, key, value), now, key).Err())
}

// Load returns the value at key; fs.ErrNotExist if there is none, and only
// then: a certificate that seems to be missing is obtained again.
func (s *Store) Load(ctx context.Context, key string) ([]byte, error) {
	key = clean(key)
	sealed, err := s.client.HGet(ctx, s.value(key), "v").Bytes()
	if errors.Is(err, goredis.Nil) {
		return nil, notExist("load", key)
	}
	if err != nil {
		return nil, wrap("load", key, err)
	}
	value, err := unseal(s.sealer, key, sealed)
	return value, wrap("load", key, err)
}

// deleteBelow removes a key and all below it.
var deleteBelow = goredis.NewScript(`
local keys = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[3], ARGV[4])
keys[#keys+1] = ARGV[2]
for _, k in ipairs(keys) do
	redis.call('DEL', ARGV[1] .. k)
	redis.call('ZREM', KEYS[1], k)
end
return #keys`)

// Delete removes key and all below it. What does not exist is no error.
func (s *Store) Delete(ctx context.Context, key string) error {
	key = clean(key)
	from, to := below(key)
	return wrap("delete", key, deleteBelow.Run(ctx, s.client, []string{s.index()}, s.prefix+":v:", key, from, to).Err())
}

// Exists reports whether key is there, as a value or as a directory.
func (s *Store) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// Stat describes a value or a directory. The size is that of what was stored.
func (s *Store) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	key = clean(key)
	from, to := below(key)
	var modified *goredis.StringCmd
	var size *goredis.IntCmd
	var children *goredis.StringSliceCmd
	_, err := s.client.Pipelined(ctx, func(p goredis.Pipeliner) error {
		modified = p.HGet(ctx, s.value(key), "m")
		size = p.HStrLen(ctx, s.value(key), "v")
		children = p.ZRangeByLex(ctx, s.index(), &goredis.ZRangeBy{Min: from, Max: to, Count: 1})
		return nil
	})
	if err != nil && !errors.Is(err, goredis.Nil) {
		return certmagic.KeyInfo{}, wrap("stat", key, err)
	}
	if size.Val() > 0 {
		ns, _ := strconv.ParseInt(modified.Val(), 10, 64)
		return certmagic.KeyInfo{Key: key, Modified: time.Unix(0, ns), Size: size.Val() - overhead(s.sealer), IsTerminal: true}, nil
	}
	if len(children.Val()) > 0 {
		return certmagic.KeyInfo{Key: key}, nil
	}
	return certmagic.KeyInfo{}, notExist("stat", key)
}

// List returns what is in a directory, directories included; with recursive,
// also all below. fs.ErrNotExist if there is no such directory.
func (s *Store) List(ctx context.Context, dir string, recursive bool) ([]string, error) {
	dir = clean(dir)
	from, to := below(dir)
	keys, err := s.client.ZRangeByLex(ctx, s.index(), &goredis.ZRangeBy{Min: from, Max: to}).Result()
	if err != nil {
		return nil, wrap("list", dir, err)
	}
	if len(keys) == 0 {
		return nil, notExist("list", dir)
	}
	base := dir
	if base != "" {
		base += "/"
	}
	var all []string
	seen := map[string]bool{}
	for _, key := range keys {
		parts := strings.Split(strings.TrimPrefix(key, base), "/")
		if !recursive {
			parts = parts[:1]
		}
		for i := range parts {
			if name := base + strings.Join(parts[:i+1], "/"); !seen[name] {
				seen[name] = true
				all = append(all, name)
			}
		}
	}
	return all, nil
}

func wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	if remedy := remedyFor(err.Error()); remedy != "" {
		return fmt.Errorf("redis: %s %s: %w → %s", op, key, err, remedy)
	}
	return fmt.Errorf("redis: %s %s: %w", op, key, err)
}

// remedyFor says what to do about what a Redis answers, by the first word of
// that, which is all that tells its errors apart.
func remedyFor(text string) string {
	for _, c := range []struct{ words, remedy string }{
		{"WRONGPASS NOAUTH", "put the user and the password that it knows into the URL (tls.storage)"},
		{"NOPERM", "let its user (ACL) read and write keys of the namespace, and run scripts (EVAL, EVALSHA)"},
		{"OOM", "raise its maxmemory, or use another Redis: this one must not evict, and has no room"},
		{"READONLY", "name its master in tls.storage, or its Sentinels"},
		{"MISCONF", "look why it cannot write its own file (its log says it)"},
	} {
		for word := range strings.FieldsSeq(c.words) {
			if strings.HasPrefix(text, word+" ") || strings.Contains(text, " "+word+" ") {
				return c.remedy
			}
		}
	}
	return ""
}

var _ certmagic.Storage = (*Store)(nil)
