package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modgate/modgate/proxy"
)

// maxRefresh is how many modules one request may have asked for anew.
const maxRefresh = 1000

// refreshed answers POST /-/refresh?module=MODULE|PATTERN, with several modules
// if need be: a line for each answer that was asked for anew.
func (a *admin) refreshed(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || len(r.Form["module"]) == 0 {
		plain(w, http.StatusBadRequest, "say what to ask for anew: ?module=MODULE, or a pattern as in GOPRIVATE\n")
		return
	}
	paths, err := a.refreshPaths(r.Context(), r.Form["module"])
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	var text strings.Builder
	status := http.StatusNotFound // until something is there
	for _, path := range paths {
		answers, err := a.app.server.Refresh(r.Context(), path)
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
	}
	if len(paths) == 0 {
		text.WriteString("nothing stored for that: name a module instead of a pattern\n")
	}
	plain(w, status, text.String())
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
			continue
		}
		for _, store := range a.app.listable(a.app.store) {
			for e, err := range store.List(ctx, "") {
				if err != nil {
					return nil, err
				}
				if o := parseName(e.Name); o.module != "" && t.matches(o) {
					paths[o.module] = true
				}
			}
		}
	}
	if len(paths) > maxRefresh {
		return nil, fmt.Errorf("these are %d modules, and %d may be asked for at once: narrow the pattern", len(paths), maxRefresh)
	}
	all := make([]string, 0, len(paths))
	for p := range paths {
		all = append(all, p)
	}
	slices.Sort(all)
	return all, nil
}
