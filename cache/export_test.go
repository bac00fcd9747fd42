package cache

import "context"

// Remembered is how many objects k knows to be right.
func Remembered(k *Checked) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.proven)
}

// Usage is what a walk has found.
type Usage struct{ Objects, Bytes int64 }

// Stat walks over the store as Run does, and returns what it found.
func (l *Limit) Stat(ctx context.Context) (Usage, error) {
	if err := l.lock(ctx); err != nil {
		return Usage{}, err
	}
	defer l.unlock()
	u, err := l.walk(ctx, plan{before: never})
	return Usage{u.objects, u.bytes}, err
}

// Trim evicts as Run does, down to target bytes.
func (l *Limit) Trim(ctx context.Context, target int64) error {
	if _, err := l.Stat(ctx); err != nil {
		return err
	}
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	_, err := l.evict(ctx, func() lack {
		l.mu.Lock()
		defer l.mu.Unlock()
		return lack{over: l.used().bytes - target}
	})
	return err
}
