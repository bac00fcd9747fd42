package proxy

import (
	"context"
	"net/http"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

// mayRead asks whether caller may read anything of the private module of req, and
// answers itself if not. Who may not cannot tell from the answer, nor from the time
// that it takes, what exists: nothing of the module is looked up, here or elsewhere.
func (s *Server) mayRead(w http.ResponseWriter, r *http.Request, caller policy.Caller, req request) bool {
	req.rules = s.inForce()
	now := policy.Facts{Now: time.Now()}
	v := req.rules.Decide(caller, module.Version{Path: req.mod.Path}, now)
	if !v.Deny || s.readsAbove(r.Context(), caller, req, !cacheOnly(r)) {
		return true
	}
	if req.immutable() {
		v = req.rules.Decide(caller, req.mod, now)
	}
	return s.heed(w, r, caller, req, v)
}

// readsAbove reports whether the path of req lies below a module that caller may read.
// Its repository tells what is in it anyway, and what is no module must be absent there
// as it is elsewhere: the go command asks for the path of every package as if it were a
// module, and fails if that is refused. fetch says whether the source may be asked.
func (s *Server) readsAbove(ctx context.Context, caller policy.Caller, req request, fetch bool) bool {
	for path := parentOf(req.mod.Path); path != "" && s.cfg.Policy.Route(caller, path).Place == policy.Private; path = parentOf(path) {
		if req.rules.Decide(caller, module.Version{Path: path}, policy.Facts{Now: time.Now()}).Deny {
			continue
		}
		escaped, err := module.EscapePath(path)
		if err != nil {
			return false
		}
		list, err := parse(escaped + "/@v/list")
		if err != nil {
			return false
		}
		list.from = req.from
		if s.isModule(ctx, list, fetch) {
			return true
		}
	}
	return false
}

// isModule reports whether there is a module that list is the request for.
func (s *Server) isModule(ctx context.Context, list request, fetch bool) bool {
	if !fetch {
		_, have := s.load(ctx, list)
		return have
	}
	ctx, cancel := context.WithTimeout(ctx, factPatience)
	defer cancel()
	_, err := s.current(ctx, list)
	return err == nil
}

// parentOf returns the path above a module path, "" if there is none.
func parentOf(path string) string {
	return path[:max(0, strings.LastIndexByte(path, '/'))]
}
