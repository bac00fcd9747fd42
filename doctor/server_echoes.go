package doctor

import (
	"slices"
	"strings"
)

// storageAlarm is how it is said that the storage of certificates does not work.
const storageAlarm = "the storage of certificates: "

// echoOf is a finding that another can come of, which then has says in it.
type echoOf struct {
	code Code
	says string
}

// storageCauses are the causes of such an alarm, all about tls.storage, from the one that says most to the one that says
// least.
func storageCauses() []echoOf {
	const full = "no space left on device"
	return []echoOf{
		{DiskLow, full}, {InodesLow, full}, {RedisNoRoom, "OOM "}, {DirUnwritable, ""}, {SharedDown, ""}, {SharedFails, ""}, {StorageFails, ""},
	}
}

// orderCauses are the findings that can keep the CA from giving a certificate, and
// what it, or the attempt, then says.
func orderCauses() []echoOf {
	return []echoOf{
		{ACMEDown, "dial tcp"}, {UnknownAuthority, "unknown authority"}, {ACMEDirectory, "HTTP 404"}, {ACMEPort, "onnect"},
	}
}

// settleEchoes puts what only comes of something else in the report behind that. An
// alarm about a storage whose trouble was found goes, as do clients that refuse a
// certificate that has expired; what the CA said last of a cause that was found
// stays as a note, and that a certificate has expired is told after why none came.
// The cause is then as bad as what came of it.
func (s *Server) settleEchoes() {
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
		case f.Code == ACMEProblem:
			for _, cause := range orderCauses() {
				if strings.Contains(f.Seen, cause.says) && r.hindered(cause.code, f) {
					r.blame(cause.code)
					r.note(f)
					break
				}
			}
		case f.Code == ProbeFails && r.isAbout(ACMEStranger, ""), f.Code == PairFails && r.isAbout(FileUnreadable, "(tls.files)"), f.Code == CAAFails && r.isAbout(ZoneMissing, ""):
			r.note(f)
		case f.Code == CAAFails && slices.ContainsFunc(r.Findings, func(g Finding) bool { return g.Code == ACMEProblem && strings.Contains(g.Seen, "resolve") }):
			r.note(f)
		case f.Code == ClientRefuses && r.isAbout(CertificateExpired, ""):
			r.drop(f)
		}
	}
	expired := slices.DeleteFunc(slices.Clone(r.Findings), func(f Finding) bool { return f.Code != CertificateExpired })
	r.Findings = append(slices.DeleteFunc(r.Findings, func(f Finding) bool { return f.Code == CertificateExpired }), expired...)
}

// hindered reports whether there is a finding with the code that can have kept the
// CA from giving the certificate that problem is about. Ports are those of names.
func (r *Report) hindered(code Code, problem Finding) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool {
		host, _, _ := strings.Cut(f.Title, " ")
		return f.Code == code && (code != ACMEPort || strings.Contains(problem.Title, " "+host+": "))
	})
}

// note makes a note of a finding.
func (r *Report) note(f Finding) {
	for i := range r.Findings {
		if f.same(r.Findings[i]) {
			r.Findings[i].Severity = Note
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
