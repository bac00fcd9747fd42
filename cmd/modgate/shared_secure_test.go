package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modgate/modgate/cache/sharedtest"
	"github.com/modgate/modgate/proxy/proxytest"
	"github.com/modgate/modgate/tlsmgr/tlstest"
)

// secureRedis is a Redis that speaks TLS, asks for a user and a password, and
// lets the user do what docs/shared-cache.md says and no more.
func secureRedis(t *testing.T, pki *tlstest.PKI) (r *sharedtest.Redis, addr string) {
	t.Helper()
	cert, key := pki.Write(t.TempDir(), "redis", pki.Issue(tlstest.Leaf{}))
	port := sharedtest.FreePorts(t, 1)[0]
	r = sharedtest.NewRedis(t, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	doc, err := os.ReadFile("../../docs/shared-cache.md")
	if err != nil {
		t.Fatal(err)
	}
	_, line, ok := strings.Cut(string(doc), "ACL SETUSER ")
	line, _, _ = strings.Cut(line, "\n")
	if !ok {
		t.Fatal("the documentation names no user")
	}
	if out := r.Do(append([]string{"ACL", "SETUSER"}, strings.Fields(strings.Replace(line, "PASSWORD", "s3cret", 1))...)...); !strings.Contains(out, "OK") {
		t.Fatal(out)
	}
	r.Do("ACL", "SETUSER", "default", "off")
	return r, "127.0.0.1:" + port
}

// A Redis behind TLS, with the user of the documentation, is all that a fleet
// needs: what one replica has fetched another finds, and hears of.
func TestRedisOverTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pki := tlstest.New(t)
	trust := pki.WriteRoot(t.TempDir())
	_, addr := secureRedis(t, pki)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--cache-redis-addr=" + addr, "--cache-redis-tls=on", "--cache-redis-user=modgate", "--cache-redis-password=file:" + password, "--tls-trust=" + trust, "--look-ahead=0", "--ttl-list=1h"}
	first, second := w.start(t, flags...), w.start(t, flags...)
	const mod, list = "/example.com/greet/@v/v1.0.0.mod", "/example.com/greet/@v/list"
	for _, i := range []*instance{first, second} {
		for _, path := range []string{mod, list} {
			if code, text := get(t, i.url+path); code != 200 {
				t.Errorf("%d %s", code, text)
			}
		}
		if m := metrics(t, i); m["modgate_redis_up"] != 1 || m["modgate_redis_errors_total"] != 0 {
			t.Errorf("up %v, %v errors\n%s", m["modgate_redis_up"], m["modgate_redis_errors_total"], lastLines(i.log(), 10))
		}
	}
	for _, path := range []string{mod, list} {
		if n := w.upstream.Count(path); n != 1 {
			t.Errorf("%s was fetched %d times", path, n)
		}
	}
	m := proxytest.Simple(t, "example.com/greet", "v1.9.0")
	w.upstream.Add(t, m)
	if code, text := post(t, first.admin+"/-/refresh?module=example.com/greet", ""); code != 200 {
		t.Errorf("%d %s", code, text)
	}
	deadline := time.Now().Add(5 * time.Second)
	for {
		if _, text := get(t, second.url+list); strings.Contains(text, "v1.9.0") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the other replica does not hear of a change")
		}
		<-time.After(20 * time.Millisecond)
	}
	if m := metrics(t, first); m["modgate_redis_errors_total"] != 0 {
		t.Errorf("%v errors: the user may do too little\n%s", m["modgate_redis_errors_total"], lastLines(first.log(), 10))
	}
}

// What is wrong with the way to Redis is said, and no request fails by it.
func TestRedisThatIsNotTrusted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, addr := secureRedis(t, tlstest.New(t))
	for about, c := range map[string]struct {
		flags []string
		want  string
	}{
		"unknown authority": {[]string{"--cache-redis-addr=" + addr, "--cache-redis-tls=on", "--cache-redis-password=s3cret"}, "certificate signed by unknown authority"},
		"no TLS there":      {[]string{"--cache-redis-addr=" + r.Addr, "--cache-redis-tls=on"}, "redis is in trouble"},
		"no TLS here":       {[]string{"--cache-redis-addr=" + addr, "--cache-redis-password=s3cret"}, ""},
		"wrong password":    {[]string{"--cache-redis-addr=" + r.Addr, "--cache-redis-user=modgate", "--cache-redis-password=other"}, "WRONGPASS"},
		"no user":           {[]string{"--cache-redis-addr=" + r.Addr}, "NOAUTH"},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			i := w.start(t, c.flags...)
			if code, text := get(t, i.url+"/example.com/greet/@v/v1.0.0.zip"); code != 200 {
				t.Errorf("%d %s", code, text)
			}
			if code, _ := get(t, i.url+"/readyz"); code != 200 {
				t.Errorf("/readyz %d", code)
			}
			if m := metrics(t, i); m["modgate_redis_up"] != 0 {
				t.Error("modgate_redis_up is not 0")
			}
			if log := i.log(); !strings.Contains(log, c.want) || !strings.Contains(log, "redis") || strings.Contains(log, "s3cret") {
				t.Errorf("the log does not say %q\n%s", c.want, lastLines(log, 10))
			}
		})
	}
}
