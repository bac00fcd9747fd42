package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Shared is what replicas share: a Redis or a bucket.
type Shared struct {
	// Key names it in the configuration, Host on the network.
	Key, Host string
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

// checkShared asks what replicas share.
func (s *Server) checkShared(ctx context.Context, shared Shared) {
	step := s.base.step(shared.Host+" "+shared.Key, "an answer, and how long it takes")
	ctx, cancel := s.base.within(ctx)
	defer cancel()
	var took time.Duration
	var err error
	if shared.Redis != nil {
		step.Tried = "what Redis says of itself, and how long its answers take"
		var info RedisInfo
		if info, err = shared.Redis(ctx); err == nil {
			took = info.Latency
			s.judgeRedis(step, shared, info)
		}
	} else {
		start := time.Now()
		err = shared.Bucket(ctx)
		took = time.Since(start)
	}
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "dial":
		step.Verdict = Skip // found on the way there
		step.saw("%s", shortError(err))
	case err != nil:
		s.base.found(step, SharedFails, hidePasswords(err.Error()), "variable", shared.Key, "host", shared.Host, "value", oneLine(hidePasswords(err.Error())))
	default:
		took = took.Round(100 * time.Microsecond)
		step.saw("it answers in %v; given up after %v", took, shared.Timeout)
		if took > shared.Timeout/2 {
			s.base.found(step, SharedSlow, fmt.Sprintf("%v of %v", took, shared.Timeout), "variable", shared.Key, "host", shared.Host, "value", took.String())
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
