package sharedtest

import (
	"context"
	"io"
	"log"
)

type faultKey struct{}

func withFault(ctx context.Context, f Fault) context.Context {
	return context.WithValue(ctx, faultKey{}, f)
}

func discard() *log.Logger { return log.New(io.Discard, "", 0) }
