package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy"
)

// Bounds of POST /-/refresh.
const (
	// maxRefresh is how many modules one request may have asked for anew.
	maxRefresh = 1000
	// maxRefreshes is how many requests may run at once.
	maxRefreshes = 2
	// refreshListTime is how long it may take to find what a pattern matches.
	refreshListTime = 30 * time.Second
)

// refreshed answers POST /-/refresh?module=MODULE|PATTERN, with several modules
// if need be: a line for each answer that was asked for anew.
func (a *admin) refreshed(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || len(r.Form["module"]) == 0 {
		plain(w, http.StatusBadRequest, "say what to ask for anew: ?module=MODULE, or a pattern as in GOPRIVATE\n")
		return
	}
	leave, ok := enterFew(w, &a.refreshing, maxRefreshes)
	if !ok {
		return
	}
	defer leave()
	paths, err := a.refreshPaths(r.Context(), r.Form["module"])
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	status, text := a.refreshAll(r.Context(), paths)
	plain(w, status, text)
}

// refreshAll asks for modules anew, and returns what came of it.
func (a *admin) refreshAll(ctx context.Context, paths []string) (status int, report string) {
	if len(paths) == 0 {
		return http.StatusNotFound, "nothing stored for that: name a module instead of a pattern\n"
	}
	var text strings.Builder
	status = http.StatusNotFound // until something is there
	for _, path := range paths {
		answers, later, err := a.app.server.Refresh(ctx, path)
		if err != nil {
			fmt.Fprintf(&text, "%s: %v\n", path, err)
			status = http.StatusBadGateway
		}
		for _, one := range answers {
			line, worst := refreshLine(one)
			text.WriteString(line)
			if worst == http.StatusBadGateway || status == http.StatusNotFound {
				status = worst
			}
		}
		if later > 0 {
			fmt.Fprintf(&text, "%s: %d more are asked for when they are next wanted\n", path, later)
		}
	}
	return status, text.String()
}

// refreshLine says what came of one answer, and its status.
func refreshLine(r proxy.Refreshed) (string, int) {
	switch {
	case errors.Is(r.Err, fs.ErrNotExist):
		return r.Name + ": there is none\n", http.StatusNotFound
	case r.Err != nil:
		return fmt.Sprintf("%s: %v\n", r.Name, r.Err), http.StatusBadGateway
	case r.Changed:
		return r.Name + ": changed\n", http.StatusOK
	}
	return r.Name + ": as it was\n", http.StatusOK
}

// refreshPaths returns the modules that args mean. A pattern means those of which
// something is stored.
func (a *admin) refreshPaths(ctx context.Context, args []string) ([]string, error) {
	for _, arg := range args {
		if strings.Contains(arg, "@") {
			return nil, fmt.Errorf("%q: a version never changes; name the module alone", arg)
		}
	}
	targets, err := purgeTargets(args)
	if err != nil {
		return nil, err
	}
	paths := map[string]bool{}
	for _, t := range targets {
		if module.CheckPath(t.arg) == nil {
			paths[t.arg] = true
		} else if err := a.addStored(ctx, t, paths); err != nil {
			return nil, err
		}
		if len(paths) > maxRefresh {
			return nil, fmt.Errorf("these are more than the %d modules that may be asked for at once: narrow the pattern, or send several requests", maxRefresh)
		}
	}
	all := make([]string, 0, len(paths))
	for p := range paths {
		all = append(all, p)
	}
	slices.Sort(all)
	return all, nil
}

// addStored adds the modules that a pattern matches to paths, until these are too
// many.
func (a *admin) addStored(ctx context.Context, t *target, paths map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, refreshListTime)
	defer cancel()
	for _, store := range a.app.listable(a.app.store) {
		for e, err := range store.List(ctx, t.prefix) {
			if ctx.Err() != nil {
				return fmt.Errorf("what %s matches could not be found out in %v: begin the pattern with more of the path", t.arg, refreshListTime)
			}
			if err != nil {
				return err
			}
			if o := parseName(e.Name); o.module != "" && t.matches(o) {
				paths[o.module] = true
			}
			if len(paths) > maxRefresh {
				return nil
			}
		}
	}
	return nil
}
