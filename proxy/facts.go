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

	"github.com/modgate/modgate/policy"
)

// learn adds what is missing to facts, as far as it can be had, and returns what
// stood in the way of the rest.
func (s *Server) learn(ctx context.Context, caller policy.Caller, req request, facts *policy.Facts, missing policy.Fact) error {
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
	list := req.sibling(kindList, "")
	body, err := s.current(ctx, list)
	if errors.Is(err, fs.ErrNotExist) { // where nothing is listed, there is what is here
		var versions []string
		versions, err = s.localVersions(ctx, list)
		body = listBody(versions)
	}
	if err != nil {
		return err
	}
	change(facts, policy.FactVersions, func(m *policy.Module) { m.Versions = strings.Fields(string(body)) })
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
	newest := policy.Newest(facts.Module.Versions)
	if newest == "" {
		body, err := s.current(ctx, req.sibling(kindLatest, ""))
		if err == nil {
			newest, err = infoVersion(body)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	says := new(policy.Module)
	if newest != "" {
		var err error
		if says, err = s.newest.of(ctx, req.sibling(KindMod, newest), s.read); err != nil {
			return err
		}
	}
	change(facts, policy.FactNewest, func(m *policy.Module) {
		m.Newest, m.Retractions, m.Deprecated = newest, says.Retractions, says.Deprecated
	})
	return nil
}

// learnTags finds the refused versions that are the same commit as the
// pseudo-version of req: to go by another name is no way around a rule.
func (s *Server) learnTags(ctx context.Context, caller policy.Caller, req request, facts *policy.Facts) error {
	visible, v, err := s.filter(ctx, caller, req, facts)
	if v.Wants != 0 || facts.Module == nil {
		return errors.Join(errors.New("it cannot be told which versions are refused"), err)
	}
	refused := slices.DeleteFunc(slices.Clone(facts.Module.Versions), func(version string) bool {
		return slices.Contains(visible, version)
	})
	tags, err := s.aliasesOf(ctx, req, refused)
	if err != nil {
		return err
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
