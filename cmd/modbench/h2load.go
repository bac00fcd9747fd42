package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// streams is how many requests are under way on one connection of HTTP/2. The
// go command has some more.
const streams = 4

// tlsLoad is what a measurement over TLS needs besides.
type tlsLoad struct {
	Roots  *x509.CertPool // nil: the system's
	HTTP2  bool           // else HTTP/1.1
	H2load string         // path of h2load, which then does it; empty: wrk or the generator inside modbench
}

// transport returns one that speaks what is measured.
func (c loadConfig) transport() *http.Transport {
	tr := newTransport()
	if c.TLS.Roots != nil {
		tr.TLSClientConfig = clientTLS(c.TLS.Roots)
		tr.ForceAttemptHTTP2 = c.TLS.HTTP2
	}
	return tr
}

// runH2load has as many requests under way as there are connections in c, but
// several on one connection.
func runH2load(ctx context.Context, c loadConfig) (loadResult, error) {
	list := filepath.Join(c.Dir, "urls.txt")
	var b strings.Builder
	for _, p := range c.Paths {
		b.WriteString(c.Base + p + "\n")
	}
	if err := os.WriteFile(list, []byte(b.String()), 0o644); err != nil {
		return loadResult{}, err
	}
	seconds := strconv.Itoa(max(1, int(c.Duration.Seconds())))
	cmd := exec.CommandContext(ctx, c.TLS.H2load, "-t1", "-c"+strconv.Itoa(max(1, c.Connections/streams)), "-m"+strconv.Itoa(streams), "-D"+seconds, "-i", list)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return loadResult{}, fmt.Errorf("h2load: %w\n%s", err, lastLines(out, 8))
	}
	return parseH2load(string(out))
}

// parseH2load reads h2load's report, which knows the mean of the times and no
// quantiles.
func parseH2load(out string) (r loadResult, err error) {
	protocol := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "Application protocol:"):
			protocol = f[len(f)-1]
		case strings.HasPrefix(line, "finished in "):
			// finished in 3.00s, 12345.67 req/s, 1.23MB/s
			if len(f) > 3 {
				r.PerSecond, err = strconv.ParseFloat(f[3], 64)
			}
		case strings.HasPrefix(line, "requests:") && !strings.Contains(line, " 0 failed, 0 errored, 0 timeout"),
			strings.HasPrefix(line, "status codes:") && !strings.Contains(line, " 0 3xx, 0 4xx, 0 5xx"):
			return r, errors.New("h2load: " + line)
		case strings.HasPrefix(line, "time for request:"):
			// time for request:      123us     4.56ms      789us       12us    90.00%
			if len(f) > 5 {
				r.Mean, err = time.ParseDuration(f[5])
			}
		}
		if err != nil {
			return r, fmt.Errorf("h2load: %w", err)
		}
	}
	if protocol != "h2" {
		return r, fmt.Errorf("h2load: it spoke %q and not h2", protocol)
	}
	if r.PerSecond == 0 {
		return r, errors.New("h2load: no answer was complete in time")
	}
	return r, nil
}
