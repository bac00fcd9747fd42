package main

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHistogramQuantiles(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	var a, b histogram
	var all []time.Duration
	for i := range 10000 {
		d := time.Duration(math.Exp(rnd.Float64()*18)) + 1
		all = append(all, d)
		if i%2 == 0 {
			a.add(d)
		} else {
			b.add(d)
		}
	}
	a.merge(&b)
	slices.Sort(all)
	for _, q := range []float64{0.001, 0.5, 0.9, 0.99, 1} {
		want := all[int(math.Ceil(q*float64(len(all))))-1]
		got := a.quantile(q)
		if got < want || float64(got) > float64(want)*1.07+1 {
			t.Errorf("quantile %g = %d, exactly %d", q, got, want)
		}
	}
	if got := new(histogram).quantile(0.5); got != 0 {
		t.Errorf("empty: %d", got)
	}
}

func TestHistogramBucketsAreContiguous(t *testing.T) {
	t.Parallel()
	last := -1
	for v := uint64(0); v < 1<<12; v++ {
		b := bucketOf(v)
		if b != last && b != last+1 {
			t.Fatalf("bucketOf(%d) = %d after %d", v, b, last)
		}
		if upperBound(b) < v {
			t.Fatalf("upperBound(%d) = %d < %d", b, upperBound(b), v)
		}
		last = b
	}
	if b := bucketOf(math.MaxInt64); b >= len(histogram{}.counts) || upperBound(b) < math.MaxInt64 {
		t.Errorf("bucketOf(MaxInt64) = %d, upper bound %d", b, upperBound(b))
	}
}

func TestMedianAndNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   []float64
		want string
	}{
		{nil, "–"},
		{[]float64{2}, "2"},
		{[]float64{3, 1, 2}, "2 [1–3]"},
		{[]float64{1, 2, 3, 4.5}, "2.50 [1–4.50]"},
		{[]float64{26123.4}, "26123"},
		{[]float64{14.196}, "14.2"},
		{[]float64{0.0042}, "0.0042"},
		{[]float64{0}, "0"},
	} {
		if got := spread(c.in); got != c.want {
			t.Errorf("spread(%v) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	r := result{Unit: unitSeconds}
	for _, v := range []float64{10, 12, 11} {
		r.add(direct, v)
	}
	r.add("modgate", 13.2)
	r.ratio("modgate", direct, 1.2, true)
	r.ratio("modgate", direct, 1.1, true)
	r.ratio("modgate", "goproxy", 1, true) // not measured: no check
	want := []string{"modgate / direct = 1.20 (≤ 1.20): pass", "modgate / direct = 1.20 (≤ 1.10): **FAIL**"}
	if len(r.Checks) != len(want) {
		t.Fatalf("checks = %v", r.Checks)
	}
	for i, c := range r.Checks {
		if c.String() != want[i] {
			t.Errorf("check %d = %q, want %q", i, c, want[i])
		}
	}
	if c := (check{What: "x", Value: 0.69, Bar: 0.7}); c.ok() {
		t.Error("0.69 is not at least 0.7")
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	a := result{Title: "cold | near", Unit: unitSeconds}
	a.add(direct, 15)
	a.add("modgate", 16)
	a.ratio("modgate", direct, 1.2, true)
	b := result{Title: "hits", Unit: unitPerSecond}
	b.add("static", 63000)
	b.note("p50 %s", 300*time.Microsecond)
	h := header{Command: "modbench compare", Date: time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC), Rounds: 3,
		Machine: "2 cores", Workload: "hugo", Versions: []string{"goproxy v0.26.1"}}
	var out bytes.Buffer
	if err := writeReport(&out, h, []result{a, b}); err != nil {
		t.Fatal(err)
	}
	want := `Taken on 2026-11-22 05:00 UTC by

    modbench compare

- machine: 2 cores
- workload: hugo
- versions: goproxy v0.26.1
- rounds: 3, contenders in turn; medians, [smallest–largest]

| what | unit | direct | static | modgate | bar |
| --- | --- | --- | --- | --- | --- |
| cold \| near | s | 15 |  | 16 | modgate / direct = 1.07 (≤ 1.20): pass |
| hits | 1/s |  | 63000 |  |  |

hits: p50 300µs
`
	if out.String() != want {
		t.Errorf("report:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestParseWrk(t *testing.T) {
	t.Parallel()
	const ok = `Running 2s test @ http://127.0.0.1:1
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.16ms    2.00ms  26.51ms   90.29%
    Req/Sec    63.43k     5.13k   71.98k    70.00%
  Latency Distribution
     50%  321.00us
     75%    1.11ms
     90%    3.31ms
     99%    9.60ms
  126217 requests in 2.00s, 41.89MB read
Requests/sec:  63084.71
Transfer/sec:     20.94MB
`
	r, err := parseWrk(ok)
	if err != nil || r.PerSecond != 63084.71 || r.P50 != 321*time.Microsecond || r.P99 != 9600*time.Microsecond {
		t.Errorf("parseWrk = %+v, %v", r, err)
	}
	for name, bad := range map[string]string{
		"errors":  strings.Replace(ok, "Requests/sec", "  Non-2xx or 3xx responses: 12\nRequests/sec", 1),
		"sockets": strings.Replace(ok, "Requests/sec", "  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec", 1),
		"number":  strings.Replace(ok, "63084.71", "many", 1),
		"nothing": strings.Replace(ok, "63084.71", "0.00", 1),
		"empty":   "",
	} {
		if r, err := parseWrk(bad); err == nil {
			t.Errorf("%s: %+v without an error", name, r)
		}
	}
}

func TestDiskUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, size := range map[string]int{"a": 10, "b/c": 5000} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	u, err := diskUsage(dir)
	if err != nil || u.Files != 2 || u.Apparent != 5010 {
		t.Errorf("diskUsage = %+v, %v", u, err)
	}
	if _, err := diskUsage(filepath.Join(dir, "absent")); err != nil {
		t.Errorf("a directory that vanished: %v", err)
	}
}

func TestPeakRSS(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc")
	}
	if n, err := peakRSS(os.Getpid()); err != nil || n < 1<<20 || n > 1<<40 {
		t.Errorf("peakRSS = %d, %v", n, err)
	}
	if _, err := peakRSS(-1); err == nil {
		t.Error("no error for a process that is none")
	}
}

func TestSelectRows(t *testing.T) {
	t.Parallel()
	rows, err := selectRows([]string{"warm", "cold-near"})
	if err != nil || len(rows) != 2 || rows[0].name != "cold-near" {
		t.Errorf("selectRows = %v, %v", rows, err)
	}
	if _, err := selectRows([]string{"wram"}); err == nil || !strings.Contains(err.Error(), "cold-near") {
		t.Errorf("error %v does not name the rows", err)
	}
}

func TestMost(t *testing.T) {
	t.Parallel()
	if got := most(map[string]int{"/b": 2, "/a": 2, "/c": 1}, 2); got != "/a ×2, /b ×2" {
		t.Errorf("most = %q", got)
	}
}

func TestCountText(t *testing.T) {
	t.Parallel()
	got := countText(map[string]int{"/a/@v/v1.0.0.mod": 2, "/sumdb/log.example/lookup/a@v1.0.0": 3})
	if want := "5 times, of these 3 times for the checksum database"; got != want {
		t.Errorf("countText = %q, want %q", got, want)
	}
}
