package cache

import (
	"fmt"
	"time"
)

// Stored is what a backend knows of the bytes under a name.
type Stored struct {
	Class Class `json:"class"`
	Attrs
}

// After returns what a name is that had old, nil for nothing, and gets next. If
// kept is true the bytes stay, which are the same, and so do attributes that
// were there. The error is ErrConflict. Size and SHA256 of both are known.
func (next Stored) After(old *Stored) (s Stored, kept bool, err error) {
	if old == nil {
		if next.FirstSeen.IsZero() {
			next.FirstSeen = time.Now()
		}
		// Without a monotonic reading, so that it is what comes back.
		next.FirstSeen = next.FirstSeen.UTC().Round(0)
		return next, false, nil
	}
	fixed := old.Class == Immutable || next.Class == Immutable
	switch {
	case fixed && (old.SHA256 != next.SHA256 || old.Size != next.Size):
		return *old, true, fmt.Errorf("%w: SHA-256 %s is there, %s came", ErrConflict, old.SHA256, next.SHA256)
	case !fixed, next.Class == Precious:
		if !old.FirstSeen.IsZero() {
			next.FirstSeen = old.FirstSeen
		}
		return next, false, nil
	}
	s = *old
	if s.H1 == "" {
		s.H1 = next.H1
	}
	if s.Source == "" {
		s.Source = next.Source
	}
	if s.Checked.IsZero() {
		s.Checked = next.Checked
	}
	return s, true, nil
}

// Complete sets size and digest to those that bytes have, or reports as
// ErrCorrupt that they are not those that were promised.
func (s *Stored) Complete(size int64, sum string) error {
	if s.Size > 0 && s.Size != size {
		return fmt.Errorf("%w: %d bytes came where %d were promised", ErrCorrupt, size, s.Size)
	}
	if s.SHA256 != "" && s.SHA256 != sum {
		return fmt.Errorf("%w: SHA-256 %s where %s was promised", ErrCorrupt, sum, s.SHA256)
	}
	s.Size, s.SHA256 = size, sum
	return nil
}
