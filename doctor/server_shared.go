package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Shared is what replicas share: a Redis or a bucket.
type Shared struct {
	// Key names it in the configuration, Host on the network.
	Key, Host string
	// Server says what it is and which key has its address: "Redis,
	// cache.redis.addr".
	Server string
	// URLs are those of the host, or of each. None: its name is not known.
	URLs []string
	// Advice returns what mends an error; may be nil.
	Advice func(error) string
	// Keeps says that what is lost there cannot be fetched again for nothing.
	Keeps bool
	// Timeout is after how long the server gives it up.
	Timeout time.Duration
	// Redis asks a Redis what it says of itself. Nil: it is a bucket.
	Redis func(context.Context) (RedisInfo, error)
	// Bucket asks a bucket a question, and changes nothing. Nil: it is a Redis.
	Bucket func(context.Context) error
}

// RedisInfo is what a Redis says of itself.
type RedisInfo struct {
	Latency   time.Duration
	Text      string // the answer to INFO; "": we may not ask
	Save      string // when it writes its data to disk
	SaveKnown bool
}

// checkShared tries the way to what replicas share, and asks it.
func (s *Server) checkShared(ctx context.Context, shared Shared) {
	var ways []*errand
	for _, address := range shared.URLs {
		ways = append(ways, newErrand(hostOf(address), func(ctx context.Context, part *Server) {
			part.checkWay(func() { part.checkHost(ctx, address) }, Warn, func(step *Step, f Finding) {
				part.base.sharedFound(step, shared.at(hostOf(address)), errors.New(f.Seen), f.Seen)
			})
		}))
	}
	answer := newErrand(shared.Host+" "+shared.Key, func(ctx context.Context, part *Server) { part.askShared(ctx, shared, ways) })
	s.begin(ctx, ways...)
	s.begin(ctx, answer)
	s.end(append(ways, answer)...)
}

// askShared asks what replicas share, while ways are tried to it.
func (s *Server) askShared(ctx context.Context, shared Shared, ways []*errand) {
	step := s.base.step(shared.Host+" "+shared.Key, "an answer, and how long it takes")
	bounded, cancel := s.base.within(ctx)
	defer cancel()
	var took time.Duration
	var err error
	if shared.Redis != nil {
		step.Tried = "what Redis says of itself, and how long its answers take"
		var info RedisInfo
		if info, err = shared.Redis(bounded); err == nil {
			took = info.Latency
			s.judgeRedis(step, shared, info)
		}
	} else {
		start := time.Now()
		err = shared.Bucket(bounded)
		took = time.Since(start)
	}
	blocked := func(w *errand) bool { return w.wait(ctx) && len(w.part.base.report.Codes()) > 0 }
	switch {
	case isUnreachable(err) && slices.ContainsFunc(ways, blocked):
		step.Verdict = Skip // found on the way there
		step.saw("%s", shortError(err))
	case err != nil:
		s.base.sharedFound(step, shared, err, hidePasswords(err.Error()))
	default:
		took = took.Round(100 * time.Microsecond)
		step.saw("it answers in %v; given up after %v", took, shared.Timeout)
		if took > shared.Timeout/2 {
			s.base.found(step, SharedSlow, fmt.Sprintf("%v of %v", took, shared.Timeout), "variable", shared.Key, "host", shared.Host, "value", took.String())
		}
	}
}

// at returns s as it is at one of its hosts.
func (s Shared) at(host string) Shared {
	s.Host = host
	return s
}

// isUnreachable reports whether err says that nobody answers.
func isUnreachable(err error) bool {
	var op *net.OpError
	if err == nil {
		return false
	}
	return errors.As(err, &op) && op.Op == "dial" || isTimeout(err) || strings.HasPrefix(err.Error(), "dial tcp") || strings.HasPrefix(err.Error(), "lookup ") || strings.Contains(err.Error(), "sentinels specified in configuration are unreachable")
}

// sharedFound notes why what replicas share cannot be used.
func (d *Doctor) sharedFound(step *Step, shared Shared, err error, seen string) {
	code, variable, advice := SharedFails, shared.Key, ""
	if isUnreachable(err) {
		code, variable = SharedDown, cmp.Or(shared.Server, shared.Key)
	}
	if shared.Advice != nil {
		advice = shared.Advice(err)
	}
	d.found(step, code, hidePasswords(seen), "variable", variable, "host", shared.Host, "value", oneLine(hidePasswords(err.Error())), "advice", advice)
}

// checkWay runs try, and has instead say what it found to be wrong with the way
// on the network: who only asks whether we get there does not know what is
// there. Other findings are at most as bad as most.
func (s *Server) checkWay(try func(), most Severity, instead func(*Step, Finding)) {
	r := s.base.report
	findings, steps := len(r.Findings), len(r.Steps)
	try()
	found := slices.Clone(r.Findings[findings:])
	r.Findings = r.Findings[:findings]
	for _, step := range r.Steps[steps:] {
		codes := step.Codes
		step.Codes, step.Verdict = nil, OK
		for _, f := range found {
			if !slices.Contains(codes, f.Code) {
				continue
			}
			if f.Severity == Fail && !strings.HasPrefix(string(f.Code), "http-proxy-") && slices.ContainsFunc(networkTable, func(e Entry) bool { return e.Code == f.Code }) {
				instead(step, f)
				continue
			}
			if rank(f.Severity) < rank(most) {
				f.Severity = most
			}
			r.add(step, f)
		}
	}
}

// redisFields reads the answer to INFO.
func redisFields(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// judgeRedis looks at what becomes of data when the memory is full and when the
// server ends.
func (s *Server) judgeRedis(step *Step, shared Shared, info RedisInfo) {
	f := redisFields(info.Text)
	if len(f) == 0 {
		step.saw("this user may not ask for INFO: memory, eviction and persistence are not known")
		return
	}
	policy := f["maxmemory_policy"]
	most, _ := strconv.ParseUint(f["maxmemory"], 10, 64)
	used, _ := strconv.ParseUint(f["used_memory"], 10, 64)
	bound := "no bound"
	if most > 0 {
		bound = bytesText(most) + " at most"
	}
	step.saw("version %s, %s; %s used, %s, %s", f["redis_version"], f["role"], bytesText(used), bound, policy)
	words := []string{"variable", shared.Key, "host", shared.Host, "value", policy}
	evicts := policy != "noeviction"
	switch {
	case shared.Keeps && evicts:
		s.base.found(step, RedisEvicts, "maxmemory-policy "+policy+", "+bound, words...)
	case shared.Keeps && most > 0 && used >= most:
		s.base.found(step, RedisNoRoom, "maxmemory-policy "+policy+", "+bound, "variable", shared.Key, "host", shared.Host, "value", bytesText(used)+" used, "+bound)
	case !shared.Keeps && most == 0:
		s.base.found(step, RedisUnbounded, "maxmemory 0", words...)
	case !shared.Keeps && !evicts:
		s.base.found(step, RedisFull, "maxmemory-policy noeviction, "+bound, words...)
	}
	s.judgePersistence(step, shared, info, f)
}

func (s *Server) judgePersistence(step *Step, shared Shared, info RedisInfo, f map[string]string) {
	words := []string{"variable", shared.Key, "host", shared.Host}
	for _, name := range []string{"rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status"} {
		if status := f[name]; status != "" && status != "ok" {
			s.base.found(step, RedisDisk, name+":"+status, append(words, "value", name+" is "+status)...)
		}
	}
	switch {
	case f["aof_enabled"] == "1":
		step.saw("every change is written to disk (AOF)")
	case info.SaveKnown && info.Save != "":
		step.saw("written to disk from time to time (save %s)", info.Save)
	case info.SaveKnown && shared.Keeps:
		s.base.found(step, RedisForgets, "aof_enabled:0, and save is empty", append(words, "value", "nothing is written to disk")...)
	case info.SaveKnown:
		step.saw("nothing is written to disk, and need not be")
	case shared.Keeps:
		step.saw("no AOF; whether it is saved from time to time this user may not ask")
	}
}
