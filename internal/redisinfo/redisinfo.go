// Package redisinfo asks a Redis what it says of itself. It is for both stores
// that are kept in one, the cache's and that of certificates, neither of which
// may import the other.
package redisinfo

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
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

// Ask asks the server, or a node of a Cluster, what it says of itself. It
// changes nothing.
func Ask(ctx context.Context, client redis.UniversalClient) (Info, error) {
	var i Info
	var took []time.Duration
	for range 5 {
		start := time.Now()
		if err := client.Ping(ctx).Err(); err != nil {
			return i, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	i.Latency = took[len(took)/2]
	if text, err := client.Info(ctx).Result(); err == nil {
		i.Text = text
	}
	if all, err := client.ConfigGet(ctx, "save").Result(); err == nil {
		i.Save, i.SaveKnown = all["save"]
	}
	return i, nil
}
