package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// Config is the whole configuration and its manual. Every leaf is one key: its
// name in the file is the path of the tags ("cache.max_size"), and from that
// come the flag (--cache-max-size) and the environment variable
// (MODGATE_CACHE_MAX_SIZE). Flags beat the environment, which beats the file.
//
// The tags: key is the element of the name, default the value where nobody
// says anything, doc one sentence for help and reference, secret marks values
// that may be "file:" references and are never printed whole: of "true" the
// credentials in URLs are left out, of "url" those of the one URL that it is, of
// "hidden" everything.
//
// No key may be called "port" or begin with "service." or "port.": Kubernetes
// puts MODGATE_PORT and MODGATE_SERVICE_… into the environment of every pod
// beside a Service that is called modgate.
type Config struct {
	Listen    string   `key:"listen" default:"127.0.0.1:8080" doc:"Address of the proxy, host:port. Port 0 takes a free one."`
	Admin     Admin    `key:"admin"`
	BasePath  string   `key:"base_path" default:"/" doc:"Path prefix under which the proxy is served."`
	Upstream  string   `key:"upstream" default:"https://proxy.golang.org" secret:"true" doc:"Where public modules come from, a list as in GOPROXY: behind a comma the next entry is asked when one answers 404 or 410, behind | after any error; off ends the list."`
	Private   List     `key:"private" doc:"Patterns as in GOPRIVATE. What matches is fetched from its repository; neither its name nor that of a parent is ever told to an upstream or a public checksum database."`
	Direct    Direct   `key:"direct"`
	SumDB     string   `key:"sumdb" default:"sum.golang.org" doc:"The checksum database as in GOSUMDB: a name, name+key, name+key and a URL behind a space, or off. With off nothing that is served has been verified."`
	LookAhead Count    `key:"look_ahead" default:"16" doc:"How many go.mod and .info files are fetched at once before a client asks for them, because of what it has just asked for; 0 turns that off."`
	Policy    Policy   `key:"policy"`
	Auth      Auth     `key:"auth"`
	Cache     Cache    `key:"cache"`
	TTL       TTL      `key:"ttl"`
	TLS       TLS      `key:"tls"`
	Log       Log      `key:"log"`
	Drain     Drain    `key:"drain"`
	_         struct{} // keyed literals only
}

// Admin configures the second listener.
type Admin struct {
	Listen string `key:"listen" default:"127.0.0.1:8081" doc:"Address for metrics, health details and profiles. Empty turns it off. Whoever reaches it can read the memory of the process: keep it private."`
}

// Policy configures who may have what.
type Policy struct {
	File string `key:"file" doc:"File of rules that say which modules may be had and which not, with reasons. It is read again when it changes; one with mistakes keeps what was in force. Default: everything may be had."`
}

// Auth configures who asks.
type Auth struct {
	File     string `key:"file" doc:"File of tokens: who may ask, in which groups, and until when (docs/auth.md). It is read again when it changes; one with mistakes revokes the tokens that are not in it and changes nothing else. Default: nobody is asked who they are."`
	Required string `key:"required" default:"true" oneof:"true false" doc:"With auth.file: refuse who shows no token. With false they are anonymous and in no group; who shows a wrong token is refused in any case."`
}

// Direct configures how private modules are fetched from their repositories.
type Direct struct {
	Go      string   `key:"go" default:"go" doc:"The go command that fetches private modules; git must be in its PATH. off: they are not fetched here, and the names stay protected."`
	File    string   `key:"file" doc:"YAML file with credentials for repositories, where repositories really are, and networks that may be reached (docs/private.md). Read again when it changes."`
	Fetches Count    `key:"fetches" default:"8" doc:"How many repositories are asked at once."`
	Timeout Duration `key:"timeout" default:"10m" doc:"How long one fetch from a repository may take, the first clone of a large one included."`
}

// Cache configures where and how much is kept.
type Cache struct {
	Dir     string `key:"dir" doc:"Directory of the cache: a tree in the layout of the GOPROXY protocol. Default: modgate in $XDG_CACHE_HOME or the user's cache directory."`
	MaxSize Size   `key:"max_size" default:"10GiB" doc:"Upper bound of that directory. The least recently used goes first; 0 sets no bound but the free space of the disk."`
	Memory  Size   `key:"memory" default:"64MiB" doc:"Memory for small files that are asked for often; 0 turns it off."`
	Scrub   Scrub  `key:"scrub"`
	Secret  string `key:"secret" secret:"hidden" doc:"What replicas share is authenticated by this, 32 characters or more, the same for all: whoever lacks it can put nothing into the bucket or Redis that a replica believes."`
	S3      S3     `key:"s3"`
	Redis   Redis  `key:"redis"`
}

// TTL configures how long answers that change are believed.
type TTL struct {
	List     Duration `key:"list" default:"60s" doc:"How long a list of versions, @latest or a branch is answered from the cache before its source is asked again."`
	Stale    Duration `key:"stale" default:"0s" doc:"How old such an answer may be and still be served while its source is in trouble, or is off; 0 sets no bound. Its age is in the header Age."`
	Private  Duration `key:"private" default:"5s" doc:"The same for private modules, whose absence is not remembered for longer either."`
	Negative Duration `key:"negative" default:"10s" doc:"How long an absence is remembered. A tag pushed a second after it was missed becomes visible after this time."`
}

// Log configures the log on standard error.
type Log struct {
	Format string `key:"format" default:"text" oneof:"text json" doc:"text or json."`
	Level  Level  `key:"level" default:"info" doc:"debug, info, warn or error. Requests are logged at info, those that failed at warn."`
}

// Drain configures the way out after SIGTERM or SIGINT.
type Drain struct {
	Delay   Duration `key:"delay" default:"0s" doc:"How long to serve on after /readyz has turned false, so that load balancers notice. Behind Kubernetes: 5s."`
	Timeout Duration `key:"timeout" default:"25s" doc:"How long to wait for answers in progress before they are cut."`
}

// Size is a number of bytes.
type Size int64

var units = []struct {
	name string
	size Size
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// UnmarshalText reads "50GiB", "1.5GB" or a bare number of bytes.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := strings.TrimSpace(string(text)), Size(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimRight(n, " "), u.size
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || strings.Trim(number, "0123456789.") != "" || f*float64(unit) >= 1<<62 {
		return remedied("is not a size", "write a number and a unit: 50GiB, 512MiB, 1.5GB")
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		*s = Size(n) * unit
	} else {
		*s = Size(f * float64(unit))
	}
	return nil
}

// String returns the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range units[:4] {
		if s >= u.size && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Human returns the size rounded for people.
func (s Size) Human() string {
	for _, u := range units[:4] {
		if s >= u.size {
			return fmt.Sprintf("%.1f %s", float64(s)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", s)
}

// Count is a number of things at once. It is not larger than maxCount.
type Count int

// maxCount is more than any upstream is glad to see from one client.
const maxCount = 256

// UnmarshalText reads a decimal number.
func (c *Count) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 16)
	if err != nil || n > maxCount {
		return remedied("is not a number from 0 to "+strconv.Itoa(maxCount), "write a whole number: 16")
	}
	*c = Count(n)
	return nil
}

// Duration is a time.Duration that is never negative.
type Duration time.Duration

// UnmarshalText reads a duration as time.ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil || v < 0 {
		return remedied("is not a duration", "write a number and a unit: 90s, 5m, 1h30m")
	}
	*d = Duration(v)
	return nil
}

// String returns the duration without its empty parts: 1h, not 1h0m0s.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func (d Duration) std() time.Duration { return time.Duration(d) }

// List is a list of words: a sequence in the file, comma-separated elsewhere.
type List []string

// UnmarshalText splits at commas; spaces around a word and empty words go.
func (l *List) UnmarshalText(text []byte) error {
	*l = nil
	for word := range strings.SplitSeq(string(text), ",") {
		if word = strings.TrimSpace(word); word != "" {
			*l = append(*l, word)
		}
	}
	return nil
}

// String returns the words separated by commas.
func (l List) String() string { return strings.Join(l, ",") }

// Level is a slog.Level written in lower case.
type Level slog.Level

// UnmarshalText reads debug, info, warn or error.
func (l *Level) UnmarshalText(text []byte) error {
	if err := (*slog.Level)(l).UnmarshalText(text); err != nil {
		return remedied("is not a level", "write debug, info, warn or error")
	}
	return nil
}

// String returns the name of the level.
func (l Level) String() string { return strings.ToLower(slog.Level(l).String()) }
