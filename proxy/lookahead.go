package proxy

import (
	"context"

	"golang.org/x/mod/module"
)

// lookahead fetches what a client is about to ask for.
type lookahead struct{ s *Server }

func newLookahead(s *Server) *lookahead { return &lookahead{s: s} }

// proven sees every go.mod that was fetched and proven.
func (l *lookahead) proven(module.Version, []byte) {}

// run works until ctx ends.
func (l *lookahead) run(ctx context.Context) { <-ctx.Done() }
