package tlsmgr

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"os"
	"time"
)

// files is the source of mode Files.
type files struct {
	m     *Manager
	pairs []*watchedPair
}

// watchedPair is a pair and what is known of it. Only run touches it, after
// newFiles.
type watchedPair struct {
	pair   Pair
	slot   *slot
	digest [sha256.Size]byte // of what is served
	told   string            // the last error that was logged
	why    string            // clients may refuse what is served, as it was logged last
}

// newFiles reads all pairs. Each must be good: there is no older one to keep.
func newFiles(m *Manager, pairs []Pair) (*files, error) {
	f := &files{m: m}
	var errs []error
	for _, p := range pairs {
		w := &watchedPair{pair: p, slot: m.addSlot(p.Cert)}
		m.update(w.slot, func(s *Status) { s.KeyFile = p.Key })
		cert, err := p.load()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		f.install(w, cert)
		f.pairs = append(f.pairs, w)
	}
	return f, errors.Join(errs...)
}

// load does nothing: newFiles has read them.
func (f *files) load(context.Context) {}

// renew refuses: these certificates are somebody else's to get.
func (f *files) renew(context.Context, string) error {
	return errors.New("tls.mode is files: replace those, and what is in them is served within seconds")
}

// run reads the files again and again until ctx ends.
func (f *files) run(ctx context.Context) error {
	ticker := time.NewTicker(f.m.cfg.Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			for _, w := range f.pairs {
				f.reload(w)
			}
		}
	}
}

// reload serves the files of w if they have changed and are good. A pair that
// is not is told and left alone: the one in memory stays.
func (f *files) reload(w *watchedPair) {
	cert, err := w.pair.load()
	if err == nil && digestOf(cert) == w.digest {
		f.judge(w, cert) // the old files may be back, and time goes on
		return
	}
	if old := f.m.served(w.slot); err == nil && time.Now().After(cert.Leaf.NotAfter) && time.Now().Before(old.Leaf.NotAfter) {
		err = w.pair.fails(Expired, errors.New("it expired on "+cert.Leaf.NotAfter.UTC().Format(time.RFC3339)))
	}
	if err == nil {
		f.install(w, cert)
		f.m.metrics.attempts.WithLabelValues(resultOK).Inc()
		f.m.cfg.Logger.Info("certificate reloaded", "file", w.pair.Cert, "not_after", cert.Leaf.NotAfter.UTC())
		return
	}
	if err.Error() == w.told {
		return
	}
	w.told = err.Error()
	f.m.metrics.attempts.WithLabelValues(resultFailed).Inc()
	f.m.cfg.Logger.Error("certificate not reloaded, the old one stays", "file", w.pair.Cert, "error", err)
	f.m.update(w.slot, func(s *Status) {
		s.Alarm = "not reloaded, the old certificate stays: " + err.Error()
		if all := PairErrors(err); len(all) > 0 {
			s.Defect = all[0].Defect
		}
	})
}

// install serves cert as that of w.
func (f *files) install(w *watchedPair, cert *tls.Certificate) {
	w.digest = digestOf(cert)
	f.m.install(w.slot, cert)
	f.m.update(w.slot, func(s *Status) { s.LastAttempt = time.Now().UTC() })
	f.judge(w, cert)
	if info, err := os.Stat(w.pair.Key); err == nil && info.Mode().Perm()&0o007 != 0 {
		f.m.cfg.Logger.Warn("everybody on this machine may read a private key: chmod 600, and give it to the user of this server", "file", w.pair.Key, "mode", info.Mode().Perm())
	}
}

// judge tells what clients will not like about cert, which is served for w, if
// that is not told yet. It changes with time: a certificate becomes valid, and
// expires.
func (f *files) judge(w *watchedPair, cert *tls.Certificate) {
	defect, trouble := chainTrouble(cert, f.m.cfg.Roots)
	if trouble == w.why && w.told == "" {
		return
	}
	if trouble != "" && trouble != w.why {
		f.m.cfg.Logger.Warn("a certificate that clients may refuse", "file", w.pair.Cert, "why", trouble)
	}
	w.told, w.why = "", trouble
	f.m.update(w.slot, func(s *Status) { s.Defect, s.Alarm = defect, trouble })
}

// digestOf tells certificates with their chains apart. The key is that of the
// first, so it need not be looked at.
func digestOf(cert *tls.Certificate) [sha256.Size]byte {
	h := sha256.New()
	for _, der := range cert.Certificate {
		h.Write(der)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
