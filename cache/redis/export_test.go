package redis

import "context"

// Probe is what is asked of a server in trouble.
func (s *Store) Probe(ctx context.Context) error { return s.probe(ctx) }
