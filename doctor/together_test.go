package doctor_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modgate/modgate/doctor"
	"github.com/modgate/modgate/tlsmgr"
)

// silentServer is the machine of a server that has to do with many, who are silent in
// the way of n.
func silentServer(t *testing.T, n silence) doctor.ServerConfig {
	c := machine(t, nil, "/etc/ssl/certs/ca-certificates.crt", someRoot(t), "/etc/resolv.conf", "nameserver 192.0.2.53\nnameserver 192.0.2.54\n")
	c.Resolver, c.Dial, c.Timeout, c.Patience, c.ClockURLs = n, n.dial, 0, 0, nil
	untilGivenUp := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	redis := func(ctx context.Context) (doctor.RedisInfo, error) { return doctor.RedisInfo{}, untilGivenUp(ctx) }
	credential := func(ctx context.Context) (string, error) { return "token", untilGivenUp(ctx) }
	return doctor.ServerConfig{
		Machine: c, SumDB: "sum.golang.org", Private: "git.corp/*",
		Upstreams: []string{"https://one.corp", "https://two.corp", "https://three.corp/path"},
		Hosts:     []string{"https://git.corp", "ssh://git@git2.corp", "https://git3.corp"},
		Credentials: []doctor.Credential{
			{Address: "https://git.corp", Try: credential}, {Address: "https://git3.corp/team/repo", Try: credential},
			{Address: "https://git4.corp", Try: credential}, {Address: "https://git5.corp", Try: credential},
		},
		Shared: []doctor.Shared{
			{Key: "cache.redis", Host: "r1:6379,r2:6379,r3:6379", Server: "Redis, cache.redis.addr", URLs: []string{"redis://r1", "redis://r2", "redis://r3"}, Timeout: time.Second, Redis: redis},
			{Key: "tls.storage", Host: "r4:6379", Server: "Redis, tls.storage", URLs: []string{"redis://r4"}, Timeout: time.Second, Redis: redis},
			{Key: "cache.s3", Host: "s3.corp", Server: "bucket, cache.s3.endpoint", URLs: []string{"https://s3.corp"}, Timeout: time.Second, Bucket: untilGivenUp},
		},
		ACME: &doctor.ACME{Directory: "https://ca.corp/directory", Names: []string{"a.go.corp", "b.go.corp", "*.c.go.corp"}, Challenge: tlsmgr.HTTP01, Port: "80"},
		Ask:  func(ctx context.Context, c *doctor.ServerConfig) { c.Down = untilGivenUp(ctx) },
	}
}

// However many are silent, each is told in the time of one.
func TestManySilentOnes(t *testing.T) {
	down := func(n int) string { return strings.Repeat(" server-shared-down", n) }
	for _, test := range []struct {
		name    string
		network silence
		want    string // sorted
	}{
		{"name servers", silence{names: true, hosts: true}, "acme-ca-down dns-silent server-credential server-credential" + down(5)},
		{"ports", silence{ports: true}, "acme-ca-down acme-port acme-port server-credential server-credential" + down(5) + strings.Repeat(" tcp-filtered", 6)},
		{"hosts", silence{hosts: true}, "acme-stranger acme-stranger server-credential server-credential" + down(2) + strings.Repeat(" tls-silent", 7)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := quickly(t, silentServer(t, test.network))
				got := codes(r)
				slices.Sort(got)
				if !slices.Equal(got, strings.Fields(test.want)) {
					t.Errorf("found %q, want %q\n%s", got, strings.Fields(test.want), text(r))
				}
			})
		})
	}
}

// quickly examines a server, and is for a bubble of synctest: it takes some time
// there, and less than 10 s.
func quickly(t *testing.T, c doctor.ServerConfig) *doctor.Report {
	t.Helper()
	s, err := doctor.NewServer(c)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r := s.Examine(t.Context())
	if took := time.Since(start); took >= 10*time.Second || took == 0 {
		t.Errorf("it took %v", took)
	}
	return r
}

// What does not even return when it is told to is told by its name, and keeps nobody
// from telling what they have found.
func TestWhatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := silentServer(t, silence{ports: true})
		returns := make(chan struct{})
		defer close(returns)
		c.Shared[1].Redis = func(context.Context) (doctor.RedisInfo, error) {
			<-returns
			return doctor.RedisInfo{}, errors.New("at last")
		}
		c.Credentials[2].Try = func(context.Context) (string, error) {
			<-returns
			return "", errors.New("at last")
		}
		r := quickly(t, c)
		i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.Code == doctor.Unfinished })
		if i < 0 || r.Findings[i].Seen != "r4:6379 tls.storage, git4.corp credentials" || !strings.Contains(r.Findings[i].Title, "9s") {
			t.Errorf("%+v", r.Findings)
		}
		if !slices.Contains(codes(r), "tcp-filtered") || !slices.Contains(codes(r), "acme-port") {
			t.Errorf("what others have found is lost: %q", codes(r))
		}
		n := strings.Count(text(r), "not finished in time")
		if n != 2 {
			t.Errorf("%d steps are told as not finished\n%s", n, text(r))
		}
	})
}

// Whatever ends first, the report has the order of the configuration.
func TestOrderOfSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := silentServer(t, silence{ports: true})
		c.Machine.Resolver = unequal{}
		c.Module, c.Fetch = "git.corp/m", func(context.Context, string) ([]string, error) { return nil, nil }
		var names []string
		for _, s := range quickly(t, c).Steps {
			if name, _, _ := strings.Cut(s.Name, " "); len(names) == 0 || names[len(names)-1] != name {
				names = append(names, name)
			}
		}
		want := "configuration files directories open clock trust one.corp two.corp three.corp git.corp git2.corp git3.corp " +
			"r1 r2 r3 r1:6379,r2:6379,r3:6379 r4 r4:6379 s3.corp git4.corp git5.corp private running certificates CA a.go.corp b.go.corp *.c.go.corp"
		if !slices.Equal(names, strings.Fields(want)) {
			t.Errorf("%s", strings.Join(names, " "))
		}
	})
}

// unequal takes the longer for a name the earlier it is asked for.
type unequal struct{}

func (unequal) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	time.Sleep(time.Duration(1000-int(host[0])-int(host[1])) * time.Millisecond) // of the bubble
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
}
