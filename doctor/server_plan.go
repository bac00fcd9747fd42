package doctor

import (
	"context"
	"slices"
)

// plan has the parts of an examination that others wait for.
type plan struct {
	files, running, storage, certificates, directory *errand

	ways map[string][]*way // to the hosts of private modules, by host and port
}

// way is an errand to a host.
type way struct {
	*errand
	there bool // somebody answers
}

// Examine tries everything and returns what was found. What has to do with the
// network is tried side by side, and ends by Machine.Limit; a private module, probes
// and orders for trials, which are asked for, take the time they need.
func (s *Server) Examine(ctx context.Context) *Report {
	s.checkConfig()
	limited, cancel := context.WithTimeout(ctx, s.base.cfg.Limit)
	defer cancel()
	trust := s.part(limited)
	trust.base.loadRoots()
	trust.trust(s.cfg.Trust)
	s.base.roots, s.base.named = trust.base.roots, trust.base.named
	s.base.via, s.base.cfg.ClockURLs = s.directly(), s.clocks()

	module := newErrand("private module", func(ctx context.Context, part *Server) { part.checkPrivate(ctx) })
	module.whole = true
	all := slices.Concat(s.planMachine(trust.base.report), s.planOthers(), []*errand{module}, s.planCertificates(), s.planACME())
	for _, e := range all {
		if e.whole {
			s.begin(ctx, e)
		} else {
			s.begin(limited, e)
		}
	}
	s.end(all...)
	if s.cfg.ACME != nil && s.files.ended() {
		s.rehearse(ctx)
	}
	s.base.tellLate(s.base.cfg.Limit)
	s.settleEchoes()
	r := s.base.report
	r.mask(s.base.secrets)
	r.finish()
	return r
}

// planMachine returns the errands about this machine.
func (s *Server) planMachine(trust *Report) []*errand {
	s.files = newErrand("files", func(_ context.Context, part *Server) {
		part.checkFiles()
		part.checkDirs()
		part.checkLimits()
	})
	return []*errand{
		s.files,
		newErrand("programs", func(ctx context.Context, part *Server) { part.checkPrograms(ctx) }),
		newErrand("clock", func(ctx context.Context, part *Server) { part.checkClock(ctx) }),
		newErrand("trust", func(_ context.Context, part *Server) { part.base.report = trust }),
	}
}

// planOthers returns the errands to those that the server has to do with.
func (s *Server) planOthers() []*errand {
	var all []*errand
	for _, address := range s.cfg.Upstreams {
		all = append(all, newErrand(hostOf(address), func(ctx context.Context, part *Server) { part.checkUpstream(ctx, address) }))
	}
	for _, address := range s.cfg.Hosts {
		w := new(way)
		w.errand = newErrand(hostOf(address), func(ctx context.Context, part *Server) { w.there = part.checkHost(ctx, address) })
		s.ways[hostOf(address)] = append(s.ways[hostOf(address)], w)
		all = append(all, w.errand)
	}
	for _, shared := range s.cfg.Shared {
		all = append(all, newErrand(shared.Host+" "+shared.Key, func(ctx context.Context, part *Server) { part.checkShared(ctx, shared) }))
	}
	for _, c := range s.cfg.Credentials {
		all = append(all, newErrand(hostOf(c.Address)+" credentials", func(ctx context.Context, part *Server) { part.checkCredential(ctx, c) }))
	}
	return all
}

// planCertificates returns the errands about the running server and its
// certificates.
func (s *Server) planCertificates() []*errand {
	s.running = newErrand("running server", func(ctx context.Context, part *Server) { part.checkRunning(ctx) })
	s.storage = newErrand("storage", func(ctx context.Context, part *Server) { part.loadStored(ctx) })
	s.certificates = newErrand("certificates", func(ctx context.Context, part *Server) {
		if s.running.wait(ctx) && s.storage.wait(ctx) {
			part.checkCertificates()
		}
	})
	revocation := newErrand("revocation", func(ctx context.Context, part *Server) {
		if s.storage.wait(ctx) {
			part.checkRevocation(ctx)
		}
	})
	return []*errand{s.running, s.storage, s.certificates, revocation}
}

// planACME returns the errands to the CA, and those about each name.
func (s *Server) planACME() []*errand {
	if s.cfg.ACME == nil {
		return nil
	}
	s.directory = newErrand("CA directory", func(ctx context.Context, part *Server) {
		if part.checkDirectory(ctx) && s.storage.wait(ctx) {
			part.checkAccount(ctx)
		}
	})
	attempts := newErrand("attempts", func(ctx context.Context, part *Server) {
		if s.storage.wait(ctx) {
			part.checkAttempts()
		}
	})
	all := []*errand{s.directory, attempts}
	before := attempts // records for --probe are made one after the other
	for _, name := range s.cfg.ACME.Names {
		after := before
		record := newErrand(name, func(ctx context.Context, part *Server) {
			if !part.cfg.ACME.Probe || after.wait(ctx) && s.files.wait(ctx) {
				part.checkRecord(ctx, name)
			}
		})
		record.whole, before = s.cfg.ACME.Probe, record
		all = append(all,
			newErrand(name, func(ctx context.Context, part *Server) { part.checkName(ctx, name) }),
			newErrand(name, func(ctx context.Context, part *Server) { part.checkCAA(ctx, name) }),
			record)
	}
	return all
}
