package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/modgate/modgate/cache"
)

// joinFleet puts a directory in front of what replicas share, if there is any,
// for one command. What is removed from the store is removed everywhere, and
// the replicas that run are told. The caller closes the app.
func joinFleet(ctx context.Context, s *settings, directory cache.Store, log *slog.Logger) (_ *app, err error) {
	a := &app{}
	a.store, _, err = a.openShared(ctx, &s.Config, stores{directory, directory}, prometheus.NewRegistry(), log)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// listable are the stores that list, between them, whatever there is: the memory
// may have what another process has removed from the directory.
func (a *app) listable(store cache.Store) []cache.Store {
	all := []cache.Store{store}
	for _, more := range []cache.Store{a.fast, a.memory} {
		if more != nil {
			all = append(all, more)
		}
	}
	return all
}

// purge removes what args mean from everywhere, and from the replicas that do not
// hear of it when they can read what is noted in the bucket.
func (a *app) purge(ctx context.Context, args []string, dry bool) (*removal, error) {
	targets, err := purgeTargets(args)
	if err != nil {
		return nil, err
	}
	var noted error
	if !dry {
		noted = a.purges.add(ctx, args)
	}
	doomed, missing, err := aim(ctx, a.listable(a.store), targets)
	r := remove(ctx, a.store, doomed, cache.Taken, dry)
	r.Missing, r.err = missing, errors.Join(r.err, err, noted)
	for _, arg := range missing {
		r.err = errors.Join(r.err, fmt.Errorf("nothing stored for %s", arg))
	}
	if a.purges != nil && !dry {
		a.moved(ctx, purgesName)
	}
	return r, nil
}

// purged answers POST /-/purge?module=MODULE[@VERSION]|PATTERN&dry_run=true, with
// several modules if need be.
func (a *admin) purged(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || len(r.Form["module"]) == 0 {
		plain(w, http.StatusBadRequest, "say what to remove: ?module=MODULE[@VERSION], or a pattern as in GOPRIVATE\n")
		return
	}
	gone, err := a.app.purge(r.Context(), r.Form["module"], r.Form.Get("dry_run") == "true")
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error()+"\n")
		return
	}
	a.app.server.Forget()
	var text strings.Builder
	gone.print(&text)
	status := http.StatusOK
	switch {
	case gone.err != nil && len(gone.Missing) > 0 && gone.Objects == 0:
		status = http.StatusNotFound
	case gone.err != nil:
		status = http.StatusBadGateway
	}
	if gone.err != nil {
		_, _ = io.WriteString(&text, gone.err.Error()+"\n")
	}
	plain(w, status, text.String())
}
