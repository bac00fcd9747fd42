package proxy

import (
	"slices"
	"sync"
	"time"

	"github.com/modgate/modgate/policy"
)

// known remembers what rules need to know about modules, so that a hit does not
// read their lists and go.mod files again. What is remembered is never changed but
// replaced, and forgotten when something of the module is stored or removed. It is
// bounded: when it is full, all of it is forgotten.
type known struct {
	mu    sync.RWMutex
	about map[string]*about // by module path
	size  int               // of all of them, in versions
}

// about is what is known about one module.
type about struct {
	module *policy.Module
	facts  policy.Fact // which of it
	sum    string      // of the list that it was read from, as in cache.Attrs
	until  time.Time   // when the list will have to be asked for again

	mu    sync.Mutex
	views []*view // bounded by maxViews
}

// view is how a module looks to callers who are in the same groups.
type view struct {
	rules   *policy.Policy
	groups  []string
	until   time.Time      // when an exemption ends
	module  *policy.Module // about.module, with Module.FirstSeen if rules asked for it
	visible []string
	verdict policy.Verdict
	body    []byte // of the list; nil if nothing is left out of it

	mu   sync.RWMutex
	tags map[string][]string // of pseudo-versions, as in policy.Facts; bounded by maxTagged
}

const (
	// maxAbout is the number of modules remembered, maxAboutSize that of their
	// versions: some 10 MB.
	maxAbout     = 10_000
	maxAboutSize = 200_000
	maxViews     = 16
	maxTagged    = 256
)

func newKnown() *known { return &known{about: make(map[string]*about)} }

// get returns what is known about the module path at now; nil if nothing is.
func (k *known) get(path string, now time.Time) *about {
	k.mu.RLock()
	a := k.about[path]
	k.mu.RUnlock()
	if a == nil || !now.Before(a.until) {
		return nil
	}
	return a
}

// begin returns what is remembered of path, fresh or not, for put to compare: it
// is called before what will be put is read.
func (k *known) begin(path string) *about {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.about[path]
	if a == nil {
		a = new(about)
		k.add(path, a)
	}
	return a
}

// put remembers a, unless was, which it takes the place of, has been forgotten.
func (k *known) put(path string, was, a *about) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.about[path] == was {
		k.add(path, a)
	}
}

func (k *known) add(path string, a *about) {
	k.drop(path)
	if len(k.about) >= maxAbout || k.size+a.size() > maxAboutSize {
		clear(k.about)
		k.size = 0
	}
	k.about[path] = a
	k.size += a.size()
}

func (k *known) drop(path string) {
	if a := k.about[path]; a != nil {
		k.size -= a.size()
		delete(k.about, path)
	}
}

func (k *known) forget(path string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.drop(path)
}

func (k *known) clear() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.about)
	k.size = 0
}

func (a *about) size() int {
	if a.module == nil {
		return 0
	}
	return len(a.module.Versions)
}

// addTo adds a to facts, unless those are about another list, and reports whether
// they are about this one.
func (a *about) addTo(facts *policy.Facts) bool {
	switch {
	case a == nil || facts.Module != nil && !sameList(facts.Module, a.module):
		return false
	case facts.Module == nil:
		facts.Module, facts.Known = a.module, facts.Known|a.facts
	case a.facts&^facts.Known&policy.FactNewest != 0:
		change(facts, policy.FactNewest, func(m *policy.Module) {
			m.Newest, m.Retractions, m.Deprecated = a.module.Newest, a.module.Retractions, a.module.Deprecated
		})
	}
	return true
}

// sameList reports whether m and n share their list of versions.
func sameList(m, n *policy.Module) bool {
	return len(m.Versions) == len(n.Versions) && (len(m.Versions) == 0 || &m.Versions[0] == &n.Versions[0])
}

// view returns how caller sees the module under rules; nil if that is not
// remembered. Without rules nothing is: they may have been replaced.
func (a *about) view(rules *policy.Policy, caller policy.Caller, now time.Time) *view {
	if a == nil || rules == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range a.views {
		if v.rules == rules && slices.Equal(v.groups, caller.Groups) && (v.until.IsZero() || now.Before(v.until)) {
			return v
		}
	}
	return nil
}

// newView returns the view that a Filter of rules has made.
func newView(rules *policy.Policy, caller policy.Caller, facts *policy.Facts, visible []string, verdict policy.Verdict) *view {
	v := &view{rules: rules, groups: caller.Groups, until: rules.NextExpiry(facts.Now), module: facts.Module, visible: visible, verdict: verdict}
	if len(visible) < len(facts.Module.Versions) {
		v.body = listBody(visible)
	}
	return v
}

func (a *about) addView(v *view) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.views = slices.DeleteFunc(a.views, func(old *view) bool {
		return old.rules != v.rules || old.until != v.until || slices.Equal(old.groups, v.groups)
	})
	if len(a.views) >= maxViews {
		a.views = nil
	}
	a.views = append(a.views, v)
}

// tagsOf returns the refused tags of a pseudo-version, and whether they are
// remembered.
func (v *view) tagsOf(version string) ([]string, bool) {
	if v == nil {
		return nil, false
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	tags, ok := v.tags[version]
	return tags, ok
}

func (v *view) addTags(version string, tags []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tags == nil || len(v.tags) >= maxTagged {
		v.tags = make(map[string][]string)
	}
	v.tags[version] = tags
}

// recall adds to facts what is remembered of the module of req and, of a
// pseudo-version, of its refused tags.
func (s *Server) recall(caller policy.Caller, req request, facts *policy.Facts) {
	a := s.known.get(req.mod.Path, facts.Now)
	if !a.addTo(facts) {
		return
	}
	rules, _ := req.rules.(*policy.Policy)
	if tags, ok := a.view(rules, caller, facts.Now).tagsOf(req.mod.Version); ok {
		facts.Tags, facts.Known = tags, facts.Known|policy.FactTags
	}
}

// remember keeps what a list says, and perhaps the go.mod of its newest version,
// for ttl from now, unless was has been forgotten since that was read.
func (s *Server) remember(path string, was *about, facts *policy.Facts, sum string, ttl time.Duration) {
	if ttl > 0 {
		s.known.put(path, was, &about{module: facts.Module, facts: facts.Known & (policy.FactVersions | policy.FactNewest), sum: sum, until: time.Now().Add(ttl)})
	}
}
