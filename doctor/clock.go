package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// tolerance is how wrong a clock may be: Date headers have whole seconds, and
// some servers are a minute off.
const tolerance = 2 * time.Minute

// offsetOf returns how far the clock that made an answer is ahead of ours.
func offsetOf(resp *http.Response, now time.Time) *time.Duration {
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return nil
	}
	offset := date.Sub(now).Round(time.Second)
	return &offset
}

// offset returns how far our clock is behind what others agree on: the proxy,
// and hosts of the public that have good clocks. It is sure if most of those
// that answer agree that we are wrong, the proxy alone where no other answers.
func (d *Doctor) offset(ctx context.Context, s *Step, target *time.Duration) (offset time.Duration, sure bool) {
	var all []time.Duration
	if target != nil {
		s.saw("its clock is %s", ahead(*target))
		all = append(all, *target)
	}
	others := make([]*time.Duration, len(d.cfg.ClockURLs)) // asked all at once: some may be silent
	var asked sync.WaitGroup
	for i, address := range d.cfg.ClockURLs {
		asked.Go(func() { others[i] = d.askTime(ctx, address) })
	}
	asked.Wait()
	for i, o := range others {
		if o != nil {
			u, _ := url.Parse(d.cfg.ClockURLs[i])
			s.saw("the clock of %s is %s", u.Host, ahead(*o))
			all = append(all, *o)
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	slices.Sort(all)
	middle := all[len(all)/2]
	if len(all)%2 == 0 && middle.Abs() > all[len(all)/2-1].Abs() {
		middle = all[len(all)/2-1] // in doubt for our clock
	}
	return middle, middle.Abs() > tolerance
}

// askTime returns the offset of another host's clock. Its certificate is not
// looked at: with a wrong clock it could not be verified.
func (d *Doctor) askTime(ctx context.Context, address string) *time.Duration {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout/2)
	defer cancel()
	t := d.transport()
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	defer t.CloseIdleConnections()
	now := d.cfg.Now()
	resp, err := roundTrip(ctx, t, address)
	if err != nil {
		return nil
	}
	resp.Body.Close()
	return offsetOf(resp, now)
}

// clockFound notes once that our clock is wrong: asked again, it is so by a
// second more.
func (d *Doctor) clockFound(s *Step, offset time.Duration) {
	if i := slices.IndexFunc(d.report.Findings, func(f Finding) bool { return f.Code == ClockWrong }); i >= 0 {
		s.mark(d.report.Findings[i])
		return
	}
	d.found(s, ClockWrong, "it is "+day(d.cfg.Now())+" here, and "+day(d.cfg.Now().Add(offset))+" elsewhere", "value", roughly(offset.Abs()))
}

// ahead says an offset in words.
func ahead(offset time.Duration) string {
	switch {
	case offset.Abs() <= tolerance:
		return "as ours"
	case offset > 0:
		return roughly(offset) + " ahead of ours"
	default:
		return roughly(-offset) + " behind ours"
	}
}

// roughly prints a duration in the unit that fits.
func roughly(d time.Duration) string {
	if d > 48*time.Hour {
		return fmt.Sprintf("%.0f days", d.Hours()/24)
	}
	return d.Round(time.Second).String()
}
