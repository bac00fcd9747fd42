package disk

import (
	"context"
)

// WithoutOpenat2 makes s work as on a kernel that lacks the call.
func WithoutOpenat2(s *Store) { s.top.old.Store(true) }

// Hold locks name as a change does.
func Hold(ctx context.Context, s *Store, name string) (unlock func(), err error) {
	return s.lock.name(ctx, name)
}

// Decode is decodeRecords followed by encodeRecords.
func Decode(b []byte) (again []byte, n int, err error) {
	recs, err := decodeRecords(b)
	if err != nil {
		return nil, 0, err
	}
	again, err = encodeRecords(recs)
	return again, len(recs), err
}
