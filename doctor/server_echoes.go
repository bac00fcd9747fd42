package doctor

import (
	"slices"
	"strings"
)

// storageAlarm is how it is said that the storage of certificates does not work.
const storageAlarm = "the storage of certificates: "

// storageCause is a finding about tls.storage that such an alarm can come of, and
// what the alarm then has in it.
type storageCause struct {
	code Code
	says string
}

// storageCauses are the causes, from the one that says most to the one that says
// least.
func storageCauses() []storageCause {
	const full = "no space left on device"
	return []storageCause{
		{DiskLow, full}, {InodesLow, full}, {RedisNoRoom, "OOM "}, {DirUnwritable, ""}, {SharedDown, ""}, {SharedFails, ""}, {StorageFails, ""},
	}
}

// dropEchoes takes out of the report what only comes of something else in it: an
// alarm about a storage whose trouble was found, and clients that refuse a
// certificate that has expired. The cause is then as bad as what comes of it.
func (s *Server) dropEchoes() {
	r := s.base.report
	for _, f := range slices.Clone(r.Findings) {
		switch {
		case (f.Code == CertificateAlarm || f.Code == StorageFails) && strings.Contains(f.Seen, storageAlarm):
			for _, cause := range storageCauses() {
				if cause.code != f.Code && strings.Contains(f.Seen, cause.says) && r.isAbout(cause.code, "tls.storage") {
					r.blame(cause.code)
					r.drop(f)
					break
				}
			}
		case f.Code == ClientRefuses && r.isAbout(CertificateExpired, ""):
			r.drop(f)
		}
	}
}

// isAbout reports whether there is a finding with a word in its title; what is said
// of the storage of certificates as a whole is about its key, too.
func (r *Report) isAbout(code Code, word string) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return f.Code == code && (code == StorageFails || strings.Contains(f.Title, word))
	})
}

// drop takes a finding out.
func (r *Report) drop(f Finding) {
	r.Findings = slices.DeleteFunc(r.Findings, f.same)
	if slices.ContainsFunc(r.Findings, func(g Finding) bool { return g.Code == f.Code }) {
		return
	}
	for _, step := range r.Steps {
		step.Codes = slices.DeleteFunc(step.Codes, func(c Code) bool { return c == f.Code })
		if len(step.Codes) == 0 && step.Verdict == f.Severity {
			step.Verdict = OK
		}
	}
}
