package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/modgate/modgate/tlsmgr"
)

// checkRunning takes over what a running server has found by itself.
func (s *Server) checkRunning(ctx context.Context) {
	step := s.base.step("running server", "what it has found by itself: findings in /-/status of its admin listener")
	if s.cfg.Ask != nil {
		ctx, cancel := s.base.within(ctx)
		s.cfg.Ask(ctx, s.cfg)
		cancel()
	}
	switch {
	case s.cfg.Down != nil:
		s.base.found(step, NotRunning, oneLine(s.cfg.Down.Error()))
	case len(s.cfg.Running) == 0:
		step.saw("nothing is wrong, it says")
	}
	for _, f := range s.cfg.Running {
		if rank(f.Severity) < 0 {
			f.Severity = Warn // of another release
		}
		f.Seen = "by the running server: " + f.Seen
		s.base.report.add(step, f)
	}
}

// loadStored reads the files or the storage of certificates. What is there is
// told in place of a server that does not run.
func (s *Server) loadStored(ctx context.Context) {
	if err := s.cfg.KeeperFails; err != nil {
		step := s.base.step("pairs", "certificates and keys, as the server reads them")
		pairs := tlsmgr.PairErrors(err)
		for _, p := range pairs {
			s.base.found(step, PairFails, oneLine(p.Reason()), "value", oneLine(p.Reason()), "file", p.Pair.Cert, "key", p.Pair.Key, "where", string(p.Defect))
		}
		if len(pairs) == 0 {
			s.base.found(step, PairFails, oneLine(err.Error()), "value", oneLine(err.Error()))
		}
	}
	if s.cfg.Keeper == nil {
		return
	}
	if s.cfg.ACME != nil {
		s.readStorage(ctx)
	}
}

func (s *Server) readStorage(ctx context.Context) {
	step := s.base.step("storage", "certificates and what is remembered of attempts, as they are stored")
	ctx, cancel := s.base.within(ctx)
	defer cancel()
	stored, err := s.cfg.Keeper.Inspect(ctx)
	if err != nil {
		s.base.found(step, StorageFails, oneLine(err.Error()), "value", oneLine(err.Error()))
		return
	}
	s.stored = stored
	for _, st := range stored {
		switch {
		case errors.Is(st.Err, fs.ErrNotExist):
			step.saw("%s: no certificate yet", st.Status.Name)
		case st.Err != nil:
			s.base.found(step, StoredSpoilt, st.Err.Error(), "host", st.Status.Name, "value", oneLine(st.Err.Error()))
		default:
			step.saw("%s: certificate and key belong together", st.Status.Name)
		}
	}
}

// checkCertificates says what the running server says of its certificates, or
// what is stored.
func (s *Server) checkCertificates() {
	if len(s.cfg.Certificates) == 0 && s.cfg.Keeper != nil {
		s.cfg.Certificates = s.cfg.Keeper.Status()
	}
	step := s.base.step("certificates", "how long they are good, and the last problem of each")
	for _, c := range s.cfg.Certificates {
		if !c.NotAfter.IsZero() {
			step.saw("%s: until %s, issued by %s%s", c.Name, day(c.NotAfter), c.Issuer, renewal(c))
		}
		s.judgeCertificate(step, c)
	}
}

// renewal says when a certificate will be renewed.
func renewal(c tlsmgr.Status) string {
	if c.NextAttempt.IsZero() {
		return ""
	}
	return ", to be renewed from " + day(c.NextAttempt) + " on"
}

func (s *Server) judgeCertificate(step *Step, c tlsmgr.Status) {
	now := s.base.cfg.Now()
	expired := !c.NotAfter.IsZero() && now.After(c.NotAfter)
	if expired {
		where := renewable
		if c.KeyFile != "" {
			where = fromFiles
		}
		s.base.found(step, CertificateExpired, "it is "+day(now)+" here", "host", c.Name, "value", day(c.NotAfter), "where", where)
	}
	switch {
	case c.Problem != nil:
		if limited := s.refusedUntil(c.Name); !limited.IsZero() {
			_, seen := problemText(c.Problem)
			s.base.found(step, ACMELimited, seen, "host", c.Name, "value", day(limited))
			return
		}
		title, seen := problemText(c.Problem)
		if !c.NextAttempt.IsZero() {
			seen += "\nnext attempt: " + day(c.NextAttempt)
		}
		s.base.found(step, ACMEProblem, seen, "host", c.Name, "value", title, "advice", oneLine(c.Problem.Advice))
	case expired:
	case c.Alarm != "":
		text, advice, _ := strings.Cut(c.Alarm, " → ")
		if c.Defect != "" {
			advice = "" // the table knows better
		}
		s.base.found(step, CertificateAlarm, c.Alarm, "host", c.Name, "value", oneLine(text), "advice", oneLine(advice), "file", c.Name, "key", c.KeyFile, "where", string(c.Defect))
	case s.overdue(c):
		s.base.found(step, RenewalDue, "it is "+day(now)+" here, and it expires on "+day(c.NotAfter), "host", c.Name, "value", day(c.NextAttempt))
	}
}

// problemText says a problem in a line and in all of them: of the whole, of its
// parts, and of each challenge, which is where step-ca keeps the reason.
func problemText(p *tlsmgr.Problem) (title, seen string) {
	title = p.Detail
	if p.Type != "" {
		title = p.Type + ": " + title
	}
	lines := []string{oneLine(title)}
	for _, sub := range p.Subproblems {
		lines = append(lines, oneLine(sub.Identifier+": "+sub.Type+": "+sub.Detail))
	}
	for _, c := range p.Challenges {
		if c.Error == "" {
			continue
		}
		if p.Type == "" {
			title = c.Type + ": " + c.Error
		}
		lines = append(lines, oneLine(c.Type+" is "+c.Status+": "+c.Error))
	}
	return oneLine(title), strings.Join(lines, "\n")
}

// overdue reports whether a certificate should have been renewed for some time.
func (s *Server) overdue(c tlsmgr.Status) bool {
	if s.cfg.ACME == nil || c.NextAttempt.IsZero() || c.NotAfter.IsZero() {
		return false
	}
	slack := min(time.Hour, c.NotAfter.Sub(c.NotBefore)/10)
	return s.base.cfg.Now().After(c.NextAttempt.Add(slack))
}

// refusedUntil returns until when the CA refuses the name, as it has said; zero:
// it does not.
func (s *Server) refusedUntil(name string) time.Time {
	i := slices.IndexFunc(s.stored, func(st tlsmgr.Stored) bool { return st.Status.Name == name })
	if i < 0 || !s.stored[i].RetryAfter.After(s.base.cfg.Now()) {
		return time.Time{}
	}
	return s.stored[i].RetryAfter
}

// failuresPerHour is how many validations of one name Let's Encrypt lets fail in
// an hour.
const failuresPerHour = 5

// checkAttempts says how often the CA was asked, and when it may be asked again.
func (s *Server) checkAttempts() {
	if len(s.stored) == 0 {
		return
	}
	step := s.base.step("attempts", "how often the CA was asked for each name, and when it may be asked again")
	now := s.base.cfg.Now()
	for _, st := range s.stored {
		tried := len(st.Tried) - slices.IndexFunc(append(st.Tried, now), func(t time.Time) bool { return now.Sub(t) < time.Hour })
		text := fmt.Sprintf("%d in the last hour, %d in the last week; %s in the last week", tried, len(st.Tried), counted(len(st.Issued), "certificate"))
		if st.RetryAfter.After(now) {
			text += "; the CA refuses until " + day(st.RetryAfter)
		} else if st.Status.Failures > 0 {
			text += fmt.Sprintf("; %s in a row, next attempt %s", counted(st.Status.Failures, "failure"), day(st.Status.NextAttempt))
		}
		step.saw("%s: %s", st.Status.Name, text)
		if tried >= failuresPerHour && st.Status.Failures > 0 {
			s.base.found(step, ACMEAttempts, text, "host", st.Status.Name, "value", fmt.Sprint(tried))
		}
	}
}

// checkAccount asks the CA whether it knows our account.
func (s *Server) checkAccount(ctx context.Context) {
	if s.cfg.Keeper == nil || s.stored == nil {
		return
	}
	step := s.base.step("account", "whether the CA knows the account that is stored")
	ctx, cancel := context.WithTimeout(ctx, min(s.base.cfg.Patience, quickPatience))
	defer cancel()
	account, err := s.cfg.Keeper.Account(ctx)
	s.account = account.URL
	var problem *tlsmgr.Problem
	switch {
	case errors.Is(err, fs.ErrNotExist):
		step.saw("none is stored; the first order registers one")
	case errors.As(err, &problem):
		s.base.found(step, ACMEAccount, oneLine(problem.String()), "value", oneLine(problem.Detail))
	case err != nil:
		s.base.found(step, StorageFails, oneLine(err.Error()), "value", oneLine(err.Error()))
	case account.Status != "valid":
		s.base.found(step, ACMEAccount, account.URL+" is "+account.Status, "value", "it is "+oneLine(account.Status))
	default:
		step.saw("%s: %s", account.URL, account.Status)
	}
}

// checkRevocation asks whether a certificate that is served was taken back,
// where it names who knows. Let's Encrypt has lists alone, and no responder any
// more.
func (s *Server) checkRevocation(ctx context.Context) {
	if s.cfg.Keeper == nil {
		return
	}
	var chains []*errand
	for _, chain := range s.cfg.Keeper.Chains() {
		chains = append(chains, newErrand("revocation", func(ctx context.Context, part *Server) { part.checkRevoked(ctx, chain) }))
	}
	s.begin(ctx, chains...)
	s.end(chains...)
}

func (s *Server) checkRevoked(ctx context.Context, chain tlsmgr.Chain) {
	leaf := chain.Certificates[0]
	step := s.base.step("revocation", "whether the certificate of "+chain.Name+" was taken back")
	if len(leaf.CRLDistributionPoints)+len(leaf.OCSPServer) == 0 {
		step.saw("it names no list and no responder")
		return
	}
	d := &Doctor{cfg: s.base.cfg, report: s.base.report, places: s.base.places, settings: s.base.settings, roots: s.base.roots, via: s.base.via}
	d.target = &url.URL{Scheme: "https", Host: hostIn(leaf)}
	d.judgeRevocation(ctx, step, chain.Certificates, nil)
}

// hostIn returns a host that a certificate is for.
func hostIn(leaf *x509.Certificate) string {
	switch {
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0]
	case len(leaf.IPAddresses) > 0:
		return leaf.IPAddresses[0].String()
	}
	return leaf.Subject.CommonName
}
