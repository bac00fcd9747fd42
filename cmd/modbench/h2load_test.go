package main

import (
	"strings"
	"testing"
	"time"
)

const h2loadReport = `starting benchmark...
Application protocol: h2
finished in 2.00s, 40340.50 req/s, 8.55MB/s
requests: 80713 total, 80745 started, 80681 done, 80681 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 80713 2xx, 0 3xx, 0 4xx, 0 5xx
                     min         max         mean         sd        +/- sd
time for request:       98us     11.46ms       716us       577us    83.10%
`

func TestParseH2load(t *testing.T) {
	t.Parallel()
	r, err := parseH2load(h2loadReport)
	if err != nil || r.PerSecond != 40340.5 || r.Mean != 716*time.Microsecond {
		t.Errorf("%+v, %v", r, err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"80713 2xx, 0 3xx, 0 4xx", "80000 2xx, 0 3xx, 713 4xx", "713 4xx"},
		{"0 failed", "3 failed", "3 failed"},
		{"protocol: h2", "protocol: http/1.1", `"http/1.1" and not h2`},
		{"40340.50 req/s", "0.00 req/s", "no answer"},
		{h2loadReport, "", "not h2"},
	} {
		if _, err := parseH2load(strings.Replace(h2loadReport, c.old, c.new, 1)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.new, err)
		}
	}
}
