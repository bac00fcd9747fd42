package proxy

import (
	"context"
	"errors"
	"io/fs"
	"sync"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modgate/modgate/policy"
)

// newest remembers what go.mod files say about versions of their module. It is
// bounded: when it is full, all of it is forgotten.
type newest struct {
	mu   sync.Mutex
	says map[module.Version]*policy.Module
}

// maxNewest is the number of go.mod files remembered.
const maxNewest = 10_000

func newNewest() *newest { return &newest{says: make(map[module.Version]*policy.Module)} }

// of returns what the go.mod that req is for says; read reads it.
func (n *newest) of(ctx context.Context, req request, read func(context.Context, request) ([]byte, error)) (*policy.Module, error) {
	n.mu.Lock()
	says := n.says[req.mod]
	n.mu.Unlock()
	if says != nil {
		return says, nil
	}
	data, err := read(ctx, req)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return new(policy.Module), nil // listed, and yet nothing that could speak
	case err != nil:
		return nil, err
	}
	says = parseNewest(data)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.says) >= maxNewest {
		clear(n.says)
	}
	n.says[req.mod] = says
	return says, nil
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
