package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/modgate/modgate/policy"
)

// learn adds what is missing to facts, as far as it can be had, and returns what
// stood in the way of the rest.
func (s *Server) learn(ctx context.Context, caller policy.Caller, req request, facts *policy.Facts, missing policy.Fact) error {
	s.known.get(req.mod.Path, facts.Now).addTo(facts)
	missing &^= facts.Known
	var errs []error
	if missing&policy.FactFirstSeen != 0 {
		facts.FirstSeen = s.servedSince(ctx, req)
		facts.Known |= policy.FactFirstSeen
	}
	if missing&policy.FactVersions != 0 {
		errs = append(errs, s.learnVersions(ctx, req, facts))
	}
	if missing&policy.FactNewest != 0 {
		errs = append(errs, s.learnNewest(ctx, req, facts))
	}
	if missing&policy.FactTags != 0 {
		errs = append(errs, s.learnTags(ctx, caller, req, facts))
	}
	err := errors.Join(errs...)
	if err != nil && ctx.Err() == nil {
		s.log.Warn("facts that rules need cannot be had", "module", req.mod.Path, "version", req.mod.Version, "error", err)
	}
	return err
}

// change replaces facts.Module, which others may be reading.
func change(facts *policy.Facts, known policy.Fact, with func(*policy.Module)) {
	m := new(policy.Module)
	if facts.Module != nil {
		*m = *facts.Module
	}
	with(m)
	facts.Module = m
	facts.Known |= known
}

// servedSince returns when the zip of req's version came here, zero if it is not
// here.
func (s *Server) servedSince(ctx context.Context, req request) time.Time {
	obj, err := s.get(ctx, req.sibling(KindZip, req.mod.Version).name)
	if err != nil {
		return time.Time{}
	}
	obj.Close()
	return firstSeen(obj.Attrs)
}

func (s *Server) learnAllFirstSeen(ctx context.Context, req request, facts *policy.Facts) {
	seen := make(map[string]time.Time)
	prefix := strings.TrimSuffix(req.sibling(kindList, "").name, "list")
	for e, err := range s.cfg.Store.List(ctx, prefix) {
		if err != nil {
			s.log.Warn("the cache could not be listed", "module", req.mod.Path, "error", err)
			return
		}
		if r, err := parse(e.Name); err == nil && r.kind == KindZip {
			seen[r.mod.Version] = s.servedSince(ctx, r)
		}
	}
	change(facts, policy.FactFirstSeen, func(m *policy.Module) { m.FirstSeen = seen })
}

func (s *Server) learnVersions(ctx context.Context, req request, facts *policy.Facts) error {
	was := s.known.begin(req.mod.Path)
	list := req.sibling(kindList, "")
	answer, err := s.current(ctx, list)
	if errors.Is(err, fs.ErrNotExist) { // where nothing is listed, there is what is here
		var versions []string
		versions, err = s.localVersions(ctx, list)
		answer = mutable{body: listBody(versions)}
	}
	if err != nil {
		return err
	}
	change(facts, policy.FactVersions, func(m *policy.Module) { m.Versions = strings.Fields(string(answer.body)) })
	s.remember(req.mod.Path, was, &policy.Facts{Known: policy.FactVersions, Module: &policy.Module{Versions: facts.Module.Versions}}, answer.attrs.SHA256, answer.ttl)
	return nil
}

// learnNewest reads the go.mod that speaks for all versions: that of the
// highest release, or of what stands in for one.
func (s *Server) learnNewest(ctx context.Context, req request, facts *policy.Facts) error {
	if facts.Known&policy.FactVersions == 0 {
		if err := s.learnVersions(ctx, req, facts); err != nil {
			return err
		}
	}
	was := s.known.get(req.mod.Path, facts.Now)
	says := new(policy.Module)
	newest, ttl, err := s.newest(ctx, req, facts)
	if err == nil && newest != "" {
		says, err = s.readNewest(ctx, req.sibling(KindMod, newest))
	}
	if err != nil {
		return err
	}
	change(facts, policy.FactNewest, func(m *policy.Module) {
		m.Newest, m.Retractions, m.Deprecated = newest, says.Retractions, says.Deprecated
	})
	if was != nil && sameList(was.module, facts.Module) {
		m := *facts.Module
		m.FirstSeen = nil
		all := policy.Facts{Known: policy.FactVersions | policy.FactNewest, Module: &m}
		s.remember(req.mod.Path, was, &all, was.sum, min(ttl, time.Until(was.until)))
	}
	return nil
}

// forAllTime is longer than any list is believed.
const forAllTime = 1<<63 - 1

// newest returns the version whose go.mod speaks for all, "" if there is none, and
// for how long it is that one if the list stays as it is.
func (s *Server) newest(ctx context.Context, req request, facts *policy.Facts) (version string, ttl time.Duration, err error) {
	if v := policy.Newest(facts.Module.Versions); v != "" {
		return v, forAllTime, nil
	}
	latest := req.sibling(kindLatest, "")
	answer, err := s.current(ctx, latest)
	if err == nil {
		version, err = infoVersion(answer.body)
	}
	if errors.Is(err, fs.ErrNotExist) {
		at, _ := s.negative.at(latest.name)
		return "", max(0, time.Until(at.Add(req.from.negative))), nil
	}
	return version, answer.ttl, err
}

// readNewest reads what a go.mod says about the versions of its module. One that
// is listed and yet absent says nothing.
func (s *Server) readNewest(ctx context.Context, req request) (*policy.Module, error) {
	data, err := s.read(ctx, req)
	if errors.Is(err, fs.ErrNotExist) {
		return new(policy.Module), nil
	}
	if err != nil {
		return nil, err
	}
	return parseNewest(data), nil
}

// parseNewest reads what a go.mod says about versions. One that cannot be read
// says nothing: the go command cannot read it either.
func parseNewest(data []byte) *policy.Module {
	m := new(policy.Module)
	f, err := modfile.ParseLax("go.mod", data, nil)
	if err != nil {
		return m
	}
	if f.Module != nil {
		m.Deprecated = f.Module.Deprecated
	}
	for _, r := range f.Retract {
		m.Retractions = append(m.Retractions, policy.Retraction{Low: r.Low, High: r.High, Rationale: r.Rationale})
	}
	return m
}

// learnTags finds the refused versions that are the same commit as the
// pseudo-version of req: to go by another name is no way around a rule.
func (s *Server) learnTags(ctx context.Context, caller policy.Caller, req request, facts *policy.Facts) error {
	a := s.known.get(req.mod.Path, facts.Now)
	visible, v, err := s.filter(ctx, caller, req, facts)
	if v.Wants != 0 || facts.Module == nil {
		return errors.Join(errors.New("it cannot be told which versions are refused"), err)
	}
	refused := slices.DeleteFunc(slices.Clone(facts.Module.Versions), func(version string) bool {
		return slices.Contains(visible, version)
	})
	tags, whole, err := s.aliasesOf(ctx, req, refused)
	if err != nil {
		return err
	}
	if a != nil && whole && sameList(a.module, facts.Module) {
		rules, _ := req.rules.(*policy.Policy)
		if v := a.view(rules, caller, facts.Now); v != nil {
			v.addTags(req.mod.Version, tags)
		}
	}
	facts.Tags, facts.Known = tags, facts.Known|policy.FactTags
	return nil
}

// sameCommit reports whether an .info is about the commit rev (the start of its
// hash), made at the time at. Where the source does not say which commit it is,
// its time to the second must do.
func sameCommit(info []byte, rev string, at time.Time) bool {
	var i struct {
		Time   time.Time
		Origin struct{ Hash string }
	}
	if json.Unmarshal(info, &i) != nil {
		return false
	}
	if i.Origin.Hash != "" {
		return strings.HasPrefix(i.Origin.Hash, rev)
	}
	return i.Time.UTC().Truncate(time.Second).Equal(at)
}

// infoVersion returns the version that an .info names.
func infoVersion(body []byte) (string, error) {
	var info struct{ Version string }
	if err := json.Unmarshal(body, &info); err != nil || info.Version == "" {
		return "", fmt.Errorf("an .info names no version: %w", errors.Join(err, errRequest))
	}
	return info.Version, nil
}
