package redis

import (
	"context"
	"slices"
	"time"
)

// Info is what a server says of itself.
type Info struct {
	// Latency of a question, the median of several.
	Latency time.Duration
	// Text is the answer to INFO: lines "name:value". Empty: our user may not ask.
	Text string
	// Save is when the server writes its data to disk by itself, as in its
	// configuration. SaveKnown is false if our user may not ask, as is usual.
	Save      string
	SaveKnown bool
}

// Info asks the server, or a node of a Cluster, what it says of itself. It
// changes nothing.
func (s *Store) Info(ctx context.Context) (Info, error) {
	var i Info
	var took []time.Duration
	for range 5 {
		start := time.Now()
		if err := s.client.Ping(ctx).Err(); err != nil {
			return i, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	i.Latency = took[len(took)/2]
	if text, err := s.client.Info(ctx).Result(); err == nil {
		i.Text = text
	}
	if all, err := s.client.ConfigGet(ctx, "save").Result(); err == nil {
		i.Save, i.SaveKnown = all["save"]
	}
	return i, nil
}
