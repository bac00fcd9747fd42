package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/modgate/modgate/cache"
)

// event is a message on the channel.
type event struct {
	From string `json:"from"`
	Name string `json:"name"`
	Gone bool   `json:"gone,omitempty"`
}

// Announce tells the others that name has changed, or is gone. It reaches those
// who listen at this moment.
func (s *Store) Announce(ctx context.Context, name string, gone bool) error {
	message, err := json.Marshal(event{From: s.id, Name: name, Gone: gone})
	if err != nil {
		return err
	}
	if err := s.ask(ctx, func(ctx context.Context) error {
		return s.client.Publish(ctx, s.channel(), message).Err()
	}); err != nil {
		return fmt.Errorf("announce %s: %w", name, err)
	}
	return nil
}

func (s *Store) channel() string { return s.c.Namespace + ":changes" }

// Watch calls changed for each name that another process announces, and with
// the name "" whenever messages may have been missed. It returns when ctx ends.
func (s *Store) Watch(ctx context.Context, changed func(name string, gone bool)) error {
	sub := s.client.Subscribe(ctx, s.channel())
	defer sub.Close()
	messages := sub.ChannelWithSubscriptions(goredis.WithChannelHealthCheckInterval(3*time.Second), goredis.WithChannelSize(4096))
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, ok := <-messages:
			if !ok {
				return nil
			}
			s.receive(m, changed)
		}
	}
}

func (s *Store) receive(m any, changed func(name string, gone bool)) {
	switch m := m.(type) {
	case *goredis.Subscription: // again after each lost connection
		changed("", false)
	case *goredis.Message:
		var e event
		if json.Unmarshal([]byte(m.Payload), &e) != nil || cache.CheckName(e.Name) != nil {
			s.log.Warn("a message in redis makes no sense")
			return
		}
		if e.From != s.id {
			changed(e.Name, e.Gone)
		}
	}
}
